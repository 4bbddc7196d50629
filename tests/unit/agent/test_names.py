"""The stub and the host's resolver: both or none, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sennit import names
from sennit.api import ApiError
from sennit.config import Config
from sennit.dns.process import StubError, StubQuestionError
from sennit.dns.settings import Settings
from sennit.host.resolver.base import Found, Wanted
from sennit.names import ALL, SPLIT, Names
from sennit.netmap.dns import DnsSettings
from sennit.netmap.model import Netmap, Network
from sennit.netmap.names import DnsView, derive_names

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48"))


def view(**settings: Any) -> DnsView:
    return derive_names(Netmap(NETWORK, 1, (), {}, dns=DnsSettings(**settings)))


class World:
    """The two, and what was done to them in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.owner = "file"
        self.own: tuple[str, ...] = ("192.0.2.53",)
        self.trampled = False
        self.stub: tuple[str, ...] = ("100.100.100.100", "fd5e::24:6464")
        self.settings: Settings | None = None
        self.wanted: Wanted | None = None
        self.flushed: list[bool] = []
        self.answers = True
        self.error: Exception | None = None
        self.names = ("two.demo.internal", "www.company.test")


class Stub:
    def __init__(self, world: World) -> None:
        self._world = world
        self.running = False
        self.problems: tuple[str, ...] = ()

    @property
    def listening(self) -> tuple[str, ...]:
        return self._world.stub if self.running and self._world.answers else ()

    async def configure(self, settings: Settings) -> None:
        if settings != self._world.settings or not self.running:
            self._world.done.append("stub")
        self._world.settings, self.running = settings, True

    async def close(self) -> None:
        if self.running:
            self._world.done.append("no stub")
        self.running = False

    async def query(self, name: str, _type: str) -> dict[str, Any]:
        if self._world.error:
            raise self._world.error
        return {"name": name, "answers": ["192.0.2.80"] if name in self._world.names else []}

    async def status(self) -> dict[str, Any]:
        if self._world.error:
            raise self._world.error
        return {"rules": [], "queries": {"map": 1}}


class Resolver:
    def __init__(self, world: World) -> None:
        self._world = world
        self.path = "/etc/resolv.conf"
        self.owner: str | None = None
        self.found = Found()
        self.problem = ""
        self.set = False
        self.watched = (self.path,)

    async def survey(self, _stub: Any) -> None:
        self.owner, self.found = self._world.owner, Found(self._world.own)

    async def reconcile(self, wanted: Wanted, flush: bool) -> bool:
        await self.survey(wanted.stub)
        changed = wanted != self._world.wanted or self._world.trampled
        if changed:
            self._world.done.append("resolver")
        self._world.wanted = wanted
        self._world.flushed.append(flush)
        self.set = True
        return changed

    async def undo(self) -> None:
        self._world.done.append("undo")
        self._world.wanted, self.set = None, False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(names, "HostResolver", lambda _config: Resolver(world))
    monkeypatch.setattr(names, "StubResolver", lambda _changed: Stub(world))
    return world


def run(steps: Callable[[Names], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await steps(Names(Config("demo", "x")))

    asyncio.run(main())


def test_the_stub_comes_first_and_goes_last(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view())
        assert world.done == ["stub", "resolver"]
        assert world.settings == Settings(view(), ("192.0.2.53",))
        await names.close()
        await names.close()

    run(steps)
    assert world.done == ["stub", "resolver", "undo", "no stub"]


def test_what_the_last_run_left_is_undone_once(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(None)
        await names.apply(None)

    run(steps)
    assert world.done == ["undo"]


def test_a_stub_that_does_not_answer_is_not_asked(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view())
        world.answers = False
        await names.look()
        assert world.done == ["stub", "resolver", "undo"]
        world.answers = True
        await names.look()

    run(steps)
    assert world.done == ["stub", "resolver", "undo", "resolver"]


def test_the_host_asks_where_there_are_answers(world: World) -> None:
    world.stub = ("100.100.100.100",)

    async def steps(names: Names) -> None:
        await names.apply(view())
        assert world.wanted and world.wanted.stub == world.stub
        world.stub = ("fd5e::24:6464", "100.100.100.100")
        await names.look()
        assert world.wanted.stub == view().stub

    run(steps)


def test_what_has_begun_comes_to_its_end_before_it_is_undone(world: World) -> None:
    async def steps(names: Names) -> None:
        applying = asyncio.ensure_future(names.apply(view()))
        await asyncio.sleep(0)
        applying.cancel()
        await names.close()

    run(steps)
    assert world.done in (["undo"], ["stub", "resolver", "undo", "no stub"])


def test_caches_are_flushed_for_a_new_map_alone(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view())
        await names.look()
        await names.apply(view(search=("company.test",)))

    run(steps)
    assert world.flushed == [True, False, True]


def test_other_names_follow_what_the_host_uses(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view(nameservers=("198.51.100.53",)))
        assert world.settings and world.settings.default == ("192.0.2.53",)
        world.own = ("192.0.2.54",)
        await names.look()
        assert world.settings.default == ("192.0.2.54",)
        world.own = ()
        await names.look()
        assert world.settings.default == ("198.51.100.53",)
        world.own = ("192.0.2.53",)
        await names.apply(view(nameservers=("198.51.100.53",), override=True))
        assert world.settings.default == ("198.51.100.53",)

    run(steps)


@pytest.mark.parametrize(
    ("owner", "own", "settings", "mode"),
    [
        ("file", ("192.0.2.53",), {}, ALL),
        ("systemd-resolved", ("192.0.2.53",), {}, SPLIT),
        ("systemd-resolved", ("192.0.2.53",), {"nameservers": ("198.51.100.53",)}, SPLIT),
        ("systemd-resolved", ("192.0.2.53",), {"nameservers": ("198.51.100.53",), "override": True}, ALL),
        ("systemd-resolved", (), {"nameservers": ("198.51.100.53",)}, ALL),
        ("systemd-resolved", (), {}, SPLIT),
    ],
)
def test_resolved_keeps_the_others_unless_told(
    world: World, owner: str, own: tuple[str, ...], settings: dict[str, Any], mode: str
) -> None:
    world.owner, world.own = owner, own

    async def steps(names: Names) -> None:
        await names.apply(view(**settings))
        assert (await names.status())["resolver"]["mode"] == mode

    run(steps)
    assert world.wanted is not None
    assert world.wanted.everything == (mode == ALL and owner == "systemd-resolved")


def test_a_host_that_gets_nameservers_of_its_own_keeps_its_names(world: World) -> None:
    world.owner, world.own = "systemd-resolved", ()

    async def steps(names: Names) -> None:
        await names.apply(view(nameservers=("198.51.100.53",)))
        assert world.wanted and world.wanted.everything
        world.own = ("192.0.2.53",)
        await names.look()
        assert not world.wanted.everything

    run(steps)


def test_split_domains_and_reverse_zones_are_routed(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view(split={"company.test": ("192.168.1.53",)}))

    run(steps)
    assert world.wanted is not None
    assert world.wanted.search == ("demo.internal",)
    assert {"company.test", "64.100.in-addr.arpa", "127.100.in-addr.arpa"} <= {*world.wanted.routed}


def test_who_writes_over_ours_again_and_again_becomes_a_problem_and_stops_being_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(names.time, "monotonic", lambda: now)

    async def steps(names: Names) -> None:
        nonlocal now
        await names.apply(view())
        world.trampled = True
        await names.look()
        assert (names.problems, names._pause) == ((), 0.0)
        for _time in range(20):
            now += names._pause
            await names.look()
        assert names._pause == 60.0
        assert any("again and again" in problem for problem in names.problems)
        now += 121
        assert names.problems == ()
        await names.look()
        assert names._pause == 0.0

    run(steps)


@pytest.mark.parametrize(
    ("error", "code"), [(StubQuestionError("no type"), "bad-request"), (StubError("it is not running"), "dns")]
)
def test_questions_that_get_no_answer(world: World, error: Exception, code: str) -> None:
    async def steps(names: Names) -> None:
        with pytest.raises(ApiError, match="accept_dns is off"):
            await names.query("two.demo.internal", "A")
        await names.apply(view())
        assert (await names.query("two.demo.internal", "A"))["answers"]
        world.error = error
        with pytest.raises(ApiError) as refused:
            await names.query("two.demo.internal", "A")
        assert refused.value.code == code
        assert (await names.status())["rules"] == []

    run(steps)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("two", "two.demo.internal"),
        ("www", "www.company.test"),
        ("nobody", "nobody.demo.internal"),
        ("www.example.org", "www.example.org"),
        ("two.", "two."),
    ],
)
def test_a_short_name_is_one_of_a_search_domain(world: World, asked: str, name: str) -> None:
    async def steps(names: Names) -> None:
        await names.apply(view(search=("company.test",)))
        assert (await names.query(asked, "A"))["name"] == name

    run(steps)


def test_who_owns_the_resolver_is_told_without_names_too(world: World) -> None:
    async def steps(names: Names) -> None:
        await names.apply(None)
        status = await names.status()
        assert (status["accepted"], status["resolver"]["owner"], status["resolver"]["set"]) == (False, "file", False)

    run(steps)
