"""A map's names, questions about them, and nameservers that are made up; time that passes where nobody has work."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import dns.flags
import dns.message
import dns.rcode

from sennit.dns import forward, nameserver, stub
from sennit.dns.message import Query, parse_query
from sennit.dns.nameserver import NameserverError
from sennit.dns.passing import Answer, question_for
from sennit.dns.settings import Settings
from sennit.dns.stub import Stub
from sennit.netmap.names import DnsView, Rule

ADDRESSES = {
    "alpha.demo.internal": ("100.64.0.1", "fd5e::1"),
    "beta.demo.internal": ("100.64.0.2",),
    "phone.demo.internal": ("100.64.0.9", "fd5e::9"),
    "db.lab.demo.internal": ("192.168.10.5",),
    "printer.company.test": ("192.168.10.7",),
    "many.demo.internal": tuple(f"10.9.{number // 250}.{number % 250 + 1}" for number in range(300)),
}
ALIASES = {
    "git.demo.internal": "alpha.demo.internal",
    "code.demo.internal": "git.demo.internal",
    "gone.demo.internal": "nobody.demo.internal",
    "web.demo.internal": "www.example.com",
    "round.demo.internal": "about.demo.internal",
    "about.demo.internal": "round.demo.internal",
}


def view(**changes: Any) -> DnsView:
    values: dict[str, Any] = {
        "domain": "demo.internal",
        "addresses": ADDRESSES,
        "aliases": ALIASES,
        "pools": ("100.64.0.0/10", "fd5e::/48"),
        "pointers": {
            address: f"{name}.demo.internal"
            for name in ("alpha", "beta", "phone")
            for address in ADDRESSES[f"{name}.demo.internal"]
        },
        "rules": (),
        "search": ("demo.internal",),
        "nameservers": (),
        "override": False,
        "stub": ("100.100.100.100", "fd5e::24:6464"),
    }
    return DnsView(**{**values, **changes})


def settings(rules: Mapping[str, Sequence[str]] | None = None, default: Sequence[str] = (), **changes: Any) -> Settings:
    changes["rules"] = tuple(Rule(suffix, tuple(addresses)) for suffix, addresses in (rules or {}).items())
    return Settings(view(**changes), tuple(default))


def new_stub(**changes: Any) -> Stub:
    made = Stub()
    made.configure(settings(**changes))
    return made


def question(name: str, rdtype: str = "A", edns: int | None = None, **values: Any) -> bytes:
    """A query's bytes. edns: the UDP size that it offers."""
    query = dns.message.make_query(name, rdtype, **values)
    if edns is not None:
        query.use_edns(0, query.ednsflags, edns)
    return query.to_wire()


def from_map(made: Stub, wire: bytes, tcp: bool = False) -> dns.message.Message:
    """The answer to this query, which nameservers are not to be asked."""
    answer = made.answer_now(wire, tcp)
    assert isinstance(answer, bytes)
    return dns.message.from_wire(wire[:2] + answer)


def lines(message: dns.message.Message) -> list[str]:
    """The answer section: name, TTL, class, type, value."""
    return sorted(line for records in message.answer for line in records.to_text().splitlines())


def query(name: str, rdtype: str = "A", **values: Any) -> Query:
    return parse_query(question(name, rdtype, **values))


def answer_to(asked: Query, *records: str, rcode: int = 0, flags: int = 0) -> Answer:
    """What a nameserver could say."""
    wire = question_for(asked, 1)
    message = dns.message.make_response(dns.message.from_wire(wire), recursion_available=True)
    message.flags |= flags
    message.set_rcode(rcode)
    for record in records:
        name, rdtype, value = record.split(" ", 2)
        message.answer.append(dns.rrset.from_text(name, 60, "IN", rdtype, value))
    return Answer(message.to_wire(), asked.question, 1)


class Clock:
    """Time for an event loop that jumps to the next timer when nothing else is to be done."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """The outcome of this coroutine."""
        clock = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                events = super().select(0)
                if not events:
                    assert timeout is not None, "all wait, and nothing will ever happen"
                    clock.now += max(timeout, 0.0)
                return events

        loop = asyncio.SelectorEventLoop(Selector())
        loop.time = self.monotonic  # type: ignore[method-assign]
        try:
            return loop.run_until_complete(work())  # type: ignore[arg-type]
        finally:
            loop.close()

    def patch(self, monkeypatch: Any) -> None:
        """Have the resolver read this clock."""
        for module in (forward, nameserver, stub):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=self.monotonic))


class Nameservers:
    """Made-up nameservers in the place of the exchange: each address has a coroutine that answers, or silence."""

    def __init__(self, clock: Clock, monkeypatch: Any) -> None:
        self.asked: list[tuple[float, str, str]] = []
        """When, whom, and for what."""
        self.behaviour: dict[str, Callable[[Query], Awaitable[Answer]]] = {}
        self._clock = clock
        self._started = clock.now
        clock.patch(monkeypatch)
        monkeypatch.setattr(nameserver, "exchange", self._exchange)
        monkeypatch.setattr(forward, "exchange", self._exchange)

    async def _exchange(self, address: str, asked: Query) -> tuple[Answer, bool]:
        self.asked.append((round(self._clock.now - self._started, 3), address, asked.name))
        answer = await self.behaviour.get(address, silent)(asked)
        return answer, False

    def whom(self) -> list[tuple[float, str]]:
        return [(when, address) for when, address, _name in self.asked]


async def silent(_asked: Query) -> Answer:
    await asyncio.sleep(4.5)
    raise NameserverError("silent", "no answer")


async def refusing(_asked: Query) -> Answer:
    raise NameserverError("failing", "REFUSED")


def answering(value: str, after: float = 0.0) -> Callable[[Query], Awaitable[Answer]]:
    async def answer(asked: Query) -> Answer:
        await asyncio.sleep(after)
        return answer_to(asked, f"{asked.name}. A {value}")

    return answer
