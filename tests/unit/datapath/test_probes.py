"""Probes of the kernel's datapath: two kernels' WireGuard, paths between them, and what is under way, in virtual time.

A kernel follows whatever comes. What is under way is as TCP has it: each packet that arrives is answered by another,
shortly after, to the endpoint of then; and what is lost is sent again by its sender.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator

import pytest
from tests.unit.datapath.virtual_loop import VirtualLoop

from sennit.datapath.probes import Probes
from sennit.datapath.wireguard_netlink import LivePeer
from sennit.wireguard.events import Endpoint

OLD: Endpoint = ("192.0.2.1", 51820)
NEW: Endpoint = ("198.51.100.1", 51820)
NOBODY: Endpoint = ("203.0.113.1", 51820)
KEY = b"\1" * 32
MTU = 1420
EMPTY = 32
# Seconds: what a change by netlink takes, until a packet is answered at most, and until a lost one is sent again.
CHANGE = 0.0005
ANSWER = 0.002
AGAIN = 0.3


class Network:
    """What is yet to happen between the two ends, who are each at OLD and at NEW."""

    def __init__(self, loop: VirtualLoop, delay: float) -> None:
        self.loop = loop
        self.delay = delay
        self.random = random.Random(1)
        self.lost = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.now = 0.0
        self.ends = (End(self), End(self))
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), happen))

    def catch_up(self) -> None:
        """Have happen what has until the loop's time."""
        while self._events and self._events[0][0] <= self.loop.time():
            self.now, _number, happen = heapq.heappop(self._events)
            happen()
        self.now = self.loop.time()

    def pass_by(self, seconds: float) -> None:
        self.loop.pass_by(seconds)
        self.catch_up()

    def stream(self, packets: int) -> None:
        """Have as many under way, both ways."""
        for number in range(packets):
            self.after(self.random.uniform(0, 2 * self.delay), self.ends[number % 2].send)


class End:
    """A kernel with its one peer. ``hears``: from where something comes to it."""

    other: End

    def __init__(self, network: Network) -> None:
        self.network = network
        self.hears = {OLD, NEW}
        self.answers = True
        self.endpoint = OLD
        self.rx_bytes = 0
        self.there = True
        self.probes = Probes(self)

    # --- what Probes wants

    def peer(self, public_key: bytes) -> LivePeer | None:
        assert public_key == KEY
        self.network.pass_by(CHANGE)
        if not self.there:
            return None
        return LivePeer(KEY, endpoint=self.endpoint, rx_bytes=self.rx_bytes, latest_handshake=time.time())

    def set_endpoint(self, public_key: bytes, endpoint: Endpoint) -> None:
        assert public_key == KEY
        self.network.pass_by(CHANGE)
        self.endpoint = endpoint

    def rouse(self, public_key: bytes, endpoint: Endpoint) -> None:
        self.set_endpoint(public_key, endpoint)
        self._send(EMPTY, lambda: None, lambda: None)

    # --- packets

    def send(self) -> None:
        self._send(MTU, self.other.answer, self.send_again)

    def answer(self) -> None:
        if self.answers:
            self.network.after(self.network.random.uniform(0, ANSWER), self.send)

    def send_again(self) -> None:
        self.network.lost += 1
        self.network.after(AGAIN, self.send)

    def _send(self, length: int, arrived: Callable[[], None], lost: Callable[[], None]) -> None:
        by = self.endpoint
        if by not in self.other.hears:
            lost()
            return
        self.network.after(self.network.delay, lambda: self.other.receive(length, by, arrived))

    def receive(self, length: int, by: Endpoint, arrived: Callable[[], None]) -> None:
        self.rx_bytes += length
        self.endpoint = by
        arrived()

    # --- the test's

    def probe(self, *endpoints: Endpoint) -> None:
        self.probes.start(KEY, endpoints)

    @property
    def probing(self) -> bool:
        return KEY in self.probes._running


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def run(network: Network, seconds: float) -> None:
    """Until the probes have ended, and then as long."""

    async def wait() -> None:
        async with asyncio.timeout(60):
            while any(end.probing for end in network.ends):
                await asyncio.sleep(0.001)
                network.catch_up()
        end = network.loop.time() + seconds
        while network.loop.time() < end:
            await asyncio.sleep(0.01)
            network.catch_up()

    network.loop.run_until_complete(wait())


def start(network: Network, *ends: End, endpoints: tuple[Endpoint, ...] = (NEW,)) -> None:
    async def begin() -> None:
        network.catch_up()
        for end in ends:
            end.probe(*endpoints)

    network.loop.pass_by(1)
    network.loop.run_until_complete(begin())


def where(network: Network) -> list[Endpoint]:
    return [end.endpoint for end in network.ends]


ONE_PROBES = [(1, packets) for packets in (10, 1000)]
BOTH_PROBE = [(2, packets) for packets in (0, 1, 10, 1000)]


@pytest.mark.parametrize("delay", [0.001, 0.01, 0.04])
@pytest.mark.parametrize(("probing", "packets"), ONE_PROBES + BOTH_PROBE)
def test_streams_move_and_stay(loop: VirtualLoop, probing: int, packets: int, delay: float) -> None:
    network = Network(loop, delay)
    network.stream(packets)
    start(network, *network.ends[:probing])
    run(network, 1)
    assert where(network) == [NEW, NEW]
    assert network.lost == 0


@pytest.mark.parametrize("delay", [0.1, 0.2])
@pytest.mark.parametrize("packets", [10, 1000])
def test_streams_over_a_long_way_move(loop: VirtualLoop, packets: int, delay: float) -> None:
    network = Network(loop, delay)
    network.stream(packets)
    start(network, *network.ends)
    run(network, 2)
    assert where(network) == [NEW, NEW]


@pytest.mark.parametrize("delay", [0.001, 0.04])
@pytest.mark.parametrize("packets", [0, 1, 10, 1000])
def test_where_nobody_is(loop: VirtualLoop, packets: int, delay: float) -> None:
    """What is under way arrives but for a short time."""
    network = Network(loop, delay)
    network.stream(packets)
    start(network, *network.ends, endpoints=(NOBODY,))
    run(network, 1)
    assert where(network) == [OLD, OLD]
    assert network.lost <= 3 * min(packets, 60)


@pytest.mark.parametrize("probing", [1, 2])
@pytest.mark.parametrize("hearing", [0, 1])
@pytest.mark.parametrize("packets", [1, 10, 100, 1000])
def test_a_path_that_is_open_one_way_only(loop: VirtualLoop, packets: int, hearing: int, probing: int) -> None:
    network = Network(loop, 0.01)
    network.stream(packets)
    network.ends[1 - hearing].hears = {OLD}
    start(network, *network.ends[:probing])
    run(network, 1)
    assert where(network) == [OLD, OLD]


def test_one_after_another(loop: VirtualLoop) -> None:
    network = Network(loop, 0.01)
    network.stream(100)
    start(network, *network.ends, endpoints=(NOBODY, NEW, OLD))
    run(network, 1)
    assert where(network) == [NEW, NEW]


def test_a_peer_that_is_silent(loop: VirtualLoop) -> None:
    network = Network(loop, 0.01)
    one, two = network.ends
    start(network, one)
    assert one.endpoint == NEW
    run(network, 1)
    assert one.endpoint == OLD
    assert two.endpoint == NEW


def test_a_peer_that_is_taken_away_meanwhile(loop: VirtualLoop) -> None:
    network = Network(loop, 0.01)
    one, _two = network.ends
    start(network, one)
    one.there = False
    run(network, 1)
    assert one.endpoint == NEW


def test_what_is_set_meanwhile_stays(loop: VirtualLoop) -> None:
    network = Network(loop, 0.01)
    one, _two = network.ends
    start(network, one)
    one.probes.end(KEY)
    one.set_endpoint(KEY, NOBODY)
    run(network, 1)
    assert one.endpoint == NOBODY
