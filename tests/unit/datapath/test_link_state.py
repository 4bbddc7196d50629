"""The link goes down and up, and its MTU changes: what the datapath is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Callable, Optional, cast

import pytest

from sennit.datapath import link_state
from sennit.datapath.base import DatapathError
from sennit.datapath.link_state import LinkState
from sennit.datapath.tun import Tun


class Interface:
    """A device that the test sets up and down, and what was told of it."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.here = True
        self.mtu = self.now = 1420
        self.refusal = ""
        self.tried = 0
        self.released: Optional[asyncio.Future[None]] = None
        self.told: list[object] = []
        self.state = LinkState(cast(Tun, self), "lo", set_mtu=self.told.append, down=self.go_down, up=self.go_up)

    def is_up(self) -> bool:
        return self.up

    def current_mtu(self) -> int:
        if not self.here:
            raise OSError
        return self.now

    def go_down(self) -> Optional[asyncio.Future[None]]:
        self.told.append("down")
        return self.released

    def go_up(self) -> None:
        self.tried += 1
        if self.refusal:
            raise DatapathError(self.refusal)
        self.told.append("up")


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_state, "_LOOK_INTERVAL", 0.0)


def run(interface: Interface, work: Callable[[], Awaitable[None]]) -> None:
    async def started() -> None:
        interface.state.start(asyncio.get_running_loop())
        await work()
        interface.state.stop()

    asyncio.run(started())


async def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), 5)


def test_changes_are_told_once() -> None:
    interface = Interface()
    for up in (True, False, False, True, True):
        interface.up = up
        interface.state.follow()
        assert interface.state.up == up
    assert interface.told == ["down", "up"]


def test_a_link_that_is_down_at_first_is_not_told_of() -> None:
    interface = Interface(up=False)
    interface.state.follow()
    assert not interface.state.up
    assert interface.told == []
    interface.up = True
    interface.state.notice_up()
    assert interface.told == ["up"]


def test_a_link_that_was_down_for_a_moment_was_down() -> None:
    interface = Interface()
    interface.state.follow(was_down=True)
    assert interface.told == ["down", "up"]


def test_only_follow_notices_that_it_is_down() -> None:
    interface = Interface()
    interface.up = False
    interface.state.notice_up()
    assert interface.state.up


def test_it_is_not_up_before_nobody_holds_the_port_any_more() -> None:
    interface = Interface()

    async def work() -> None:
        interface.released = asyncio.get_running_loop().create_future()
        interface.state.follow(was_down=True)
        interface.state.notice_up()
        assert interface.told == ["down"]
        interface.released.set_result(None)
        interface.state.notice_up()
        assert interface.told == ["down", "up"]

    run(interface, work)


def test_a_port_that_somebody_else_has_is_tried_again_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    interface = Interface()

    async def work() -> None:
        for _time in range(2):
            interface.refusal, interface.tried = "somebody has it", 0
            interface.state.follow(was_down=True)
            await until(lambda: interface.tried > 2)
            assert not interface.state.up
            interface.refusal = ""
            await until(lambda: interface.state.up)

    run(interface, work)
    assert interface.told == ["down", "up"] * 2
    assert [record.message for record in caplog.records] == ["lo is up, but without peers: somebody has it"] * 2


def test_where_there_are_no_notifications_it_is_looked_at_again_and_again() -> None:
    interface = Interface()

    async def work() -> None:
        interface.up = False
        await until(lambda: not interface.state.up)
        interface.up = True
        await until(lambda: interface.state.up)

    interface.here = False
    run(interface, work)
    assert interface.told == ["down", "up"]


def test_nobody_looks_after_the_end() -> None:
    interface = Interface()
    interface.here = False

    async def work() -> None:
        interface.state.stop()
        interface.up = False
        await asyncio.sleep(0.01)

    run(interface, work)
    assert interface.told == []


def test_another_mtu_is_told_once() -> None:
    interface = Interface()
    interface.now = 1280
    interface.state.follow()
    interface.state.follow()
    assert interface.told == [1280]
