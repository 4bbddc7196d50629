"""Data halves in processes of their own report late, and not in the order in which things happened."""

from __future__ import annotations

import random

import pytest
from tests.unit.wireguard.network import Host, Network, is_keepalive

from sennit.wireguard.constants import TYPE_INITIATION
from sennit.wireguard.device import Device, Output
from sennit.wireguard.events import Event

REPORT_INTERVAL = 1.0


class LateDevice(Device):
    """A device whose halves report only so often, each at its own time; what is urgent comes at once."""

    def __init__(self, private_key: bytes, delays: random.Random) -> None:
        super().__init__(private_key, random=delays.randbytes)
        self._delays = delays
        self._reports: dict[object, tuple[float, list[Event]]] = {}

    def next_deadline(self) -> float | None:
        deadlines = [super().next_deadline(), *(when for when, _ in self._reports.values())]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _settle(self, datagrams: list, packets: list, now: float, wall: float) -> Output:
        output = Output(datagrams, packets, [], set())
        busy = True
        while busy:
            busy = False
            for half in (self.inbound, self.outbound):
                when, events = self._reports.pop(half, (now + self._delays.uniform(0, REPORT_INTERVAL), []))
                if half.urgent:
                    when = now
                events += half.take_events()
                if events and when > now:
                    self._reports[half] = when, events
                for event in events if when <= now else ():
                    self.control.receive(event, now, wall)
                self.control.handle_handshakes(now, wall)
            for command in self.control.take_commands():
                self._carry_out(command, output, now)
                busy = True
        return output


def late_pair(network: Network) -> tuple[Host, Host]:
    hosts = network.host(1), network.host(2)
    for host in hosts:
        host.device = LateDevice(network.random.randbytes(32), network.random)
    one, two = hosts
    one.knows(two)
    two.knows(one)
    return one, two


def test_a_busy_session(network: Network) -> None:
    one, two = late_pair(network)
    one.send(two)
    network.elapse(1)
    for _ in range(5900):
        one.send(two)
        two.send(one)
        network.elapse(0.1)
    assert len(one.payloads()) == 5900
    assert len(two.payloads()) == 5901
    assert len(network.sent(TYPE_INITIATION, one)) == 5
    assert not network.sent(TYPE_INITIATION, two)


def test_the_end_of_a_conversation_starts_no_handshake(network: Network) -> None:
    """Whoever had the last word hears a keepalive after ten seconds, and that is all."""
    one, two = late_pair(network)
    for _ in range(200):
        one.send(two)
        network.elapse(1)
        first = network.now
        for _ in range(network.random.randrange(1, 8)):
            host, other = network.random.choice([(one, two), (two, one)])
            host.send(other)
            network.elapse(network.random.uniform(0.001, 0.15))
        network.forget()
        network.elapse(40)
        assert not network.sent(TYPE_INITIATION)
        (keepalive,) = network.log
        assert is_keepalive(keepalive)
        assert keepalive.source == other.endpoint
        assert 8.9 < keepalive.sent_at - first < 11.5
        network.elapse(200)


@pytest.mark.parametrize("seed", range(20))
def test_a_ping_and_its_answer(seed: int) -> None:
    network = Network(seed)
    one, two = late_pair(network)
    one.send(two)
    network.elapse(30)
    for _ in range(3):
        one.send(two)
        network.elapse(0.01)
        two.send(one)
        network.elapse(20)
    assert len(network.sent(TYPE_INITIATION)) == 1
