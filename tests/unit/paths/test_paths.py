"""The shell around the plans: what it makes of what beacons and the host say, and how fast the datapath is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tests.unit.netmap.inventories import VERIFY_KEY, node, raw_key
from tests.unit.netmap.test_beacons import beacon

from sennit.beacon.whereabouts import LOCAL, OBSERVED, RELAY_OBSERVED, Candidate, Report, Whereabouts
from sennit.datapath.base import USERSPACE, DatapathStatus
from sennit.netmap.compile import compile_netmap
from sennit.netmap.endpoint import split_endpoint
from sennit.netmap.view import derive
from sennit.paths import paths
from sennit.paths.candidates import Local
from sennit.paths.paths import Paths
from sennit.relay.offer import RelayOffer
from sennit.wireguard.events import Endpoint
from sennit.wireguard.peer import PeerStatus

OWN, PEER, BEACON = raw_key("own"), raw_key("peer"), raw_key("alpha")
RELAY_KEY = bytes([7]) * 32
RELAY = ("192.0.2.1", 21473)
HOSTS = [
    node("own"),
    node("peer"),
    beacon("alpha", sennit_endpoint="192.0.2.1"),
]
HOME = Local(("192.168.1.2",), (ip_network("192.168.1.0/24"),))
ROAD = Local(("198.51.100.2",), (ip_network("198.51.100.0/24"),))
NEAR, OUTSIDE = ("192.168.1.7", 51820), ("203.0.113.7", 4711)


class FakeDatapath:
    def __init__(self) -> None:
        self.peers: dict[bytes, PeerStatus] = {}
        self.port = 51820
        self.probes: list[tuple[bytes, tuple[Endpoint, ...]]] = []
        self.moves: list[tuple[bytes, Endpoint]] = []
        self.looks = 0

    def status(self) -> DatapathStatus:
        self.looks += 1
        return DatapathStatus(USERSPACE, self.port, self.peers, {})

    def probe(self, public_key: bytes, endpoints: Sequence[Endpoint]) -> None:
        self.probes.append((public_key, tuple(endpoints)))

    def move(self, public_key: bytes, endpoint: Endpoint) -> None:
        self.moves.append((public_key, endpoint))
        self.peers[public_key] = replace(self.peers[public_key], endpoint=endpoint)


class FakeBeacons:
    def __init__(self) -> None:
        self.reports: Mapping[str, Report] = {}
        self.announced: list[tuple[Endpoint, ...]] = []

    def announce(self, addresses: tuple[Endpoint, ...]) -> None:
        self.announced.append(addresses)


class FakeHost:
    """Instead of the kernel's answers."""

    here = HOME

    def look(self) -> Local:
        return FakeHost.here

    def close(self) -> None:
        pass


def report(*candidates: Candidate, attached: bool = True, own: bool = True) -> Report:
    nodes = {OWN: Whereabouts(own, ()), PEER: Whereabouts(attached, candidates)}
    return Report(RelayOffer(RELAY[1], RELAY_KEY), nodes, None)


class Bench:
    def __init__(self) -> None:
        self.datapath = FakeDatapath()
        self.beacons = FakeBeacons()
        self.relays_changed = 0
        self.paths = Paths(
            self.datapath,
            OWN,
            self.beacons,
            stated=lambda endpoint: split_endpoint(endpoint) if endpoint else None,
            relays_changed=self._count,
        )
        view = derive(compile_netmap(HOSTS, None, VERIFY_KEY).netmap, OWN)
        for peer in view.peers:
            stated = split_endpoint(peer.endpoint) if peer.endpoint else None
            self.datapath.peers[peer.public_key] = PeerStatus(stated, None, 0, 0)
        self.paths.use(view)

    def _count(self) -> None:
        self.relays_changed += 1

    def say(self, *candidates: Candidate, attached: bool = True, own: bool = True) -> None:
        self.beacons.reports = {"alpha": report(*candidates, attached=attached, own=own)}
        self.paths.look_again()

    def session(self, key: bytes, endpoint: Endpoint, bytes_: int = 1000) -> None:
        before = self.datapath.peers[key]
        self.datapath.peers[key] = PeerStatus(endpoint, time.time(), before.rx_bytes + bytes_, before.tx_bytes + bytes_)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LocalAddresses", FakeHost)
    monkeypatch.setattr(FakeHost, "here", HOME)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def body() -> None:
        bench = Bench()
        running = asyncio.ensure_future(bench.paths.run())
        try:
            await asyncio.wait_for(test(bench), 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            bench.paths.close()

    asyncio.run(body())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_relay_becomes_a_peer_and_the_way_to_those_whose_place_nobody_states() -> None:
    async def test(bench: Bench) -> None:
        bench.say()
        assert bench.relays_changed == 1 and bench.paths.relay_peers.keys() == {RELAY_KEY}
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, None, 0, 0)
        await until(lambda: bool(bench.datapath.moves))
        assert bench.datapath.moves == [(PEER, RELAY)]
        assert bench.paths.path_of(PEER, RELAY) == {"kind": "relay", "relay": "alpha"}
        assert bench.paths.path_of(PEER, NEAR) == {"kind": "lan", "relay": None}
        assert bench.paths.path_of(PEER, OUTSIDE) == {"kind": "direct", "relay": None}
        assert bench.paths.path_of(PEER, None) is None and bench.paths.path_of(bytes(32), NEAR) is None
        assert bench.datapath.probes == []
        # A map without the beacon has no relay.
        bench.paths.use(None)
        assert bench.paths.relay_peers == {} and bench.relays_changed == 2

    run(test)


def test_what_beacons_say_is_tried_at_once_while_the_peer_is_in_use() -> None:
    async def test(bench: Bench) -> None:
        bench.say()
        await until(lambda: bool(bench.datapath.moves))
        bench.session(PEER, RELAY)
        bench.say(Candidate(OBSERVED, OUTSIDE), Candidate(RELAY_OBSERVED, RELAY), Candidate(LOCAL, NEAR))
        await until(lambda: bool(bench.datapath.probes))
        assert bench.datapath.probes[0] == (PEER, (NEAR, OUTSIDE))

    run(test)


def test_other_addresses_of_this_host_are_told_and_tried() -> None:
    async def test(bench: Bench) -> None:
        bench.say(Candidate(OBSERVED, OUTSIDE))
        bench.paths.host_changed()
        await until(lambda: bench.beacons.announced[-1:] == [(("192.168.1.2", 51820),)])
        bench.session(PEER, OUTSIDE)
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, time.time(), 0, 0)
        await asyncio.sleep(0.1)
        bench.datapath.probes.clear()
        FakeHost.here = ROAD
        bench.paths.host_changed()
        await until(lambda: {key for key, _endpoints in bench.datapath.probes} == {PEER, RELAY_KEY})
        assert dict(bench.datapath.probes) == {PEER: (OUTSIDE, RELAY), RELAY_KEY: (RELAY,)}
        assert bench.beacons.announced[-1] == (("198.51.100.2", 51820),)
        bench.datapath.port = 4000
        await until(lambda: bench.beacons.announced[-1] == (("198.51.100.2", 4000),))

    run(test)


def test_a_host_that_was_asleep_asks_for_everybody_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        bench.say(Candidate(OBSERVED, OUTSIDE))
        bench.session(PEER, OUTSIDE)
        bench.paths.host_changed()
        await until(lambda: bool(bench.beacons.announced))
        assert bench.datapath.probes == []
        monkeypatch.setattr(paths, "_suspended", lambda: 10**9)
        bench.paths.look_again()
        await until(lambda: PEER in dict(bench.datapath.probes))

    run(test)


def test_a_relay_that_has_forgotten_this_node_is_asked_once_for_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "INTERVAL", 0.05)

    async def looks(bench: Bench) -> None:
        for _look in range(3):
            seen = bench.datapath.looks
            bench.paths.look_again()
            await until(lambda seen=seen: bench.datapath.looks > seen)

    async def test(bench: Bench) -> None:
        bench.say()
        began = time.time() - 60
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, began, 0, 0)
        await looks(bench)
        assert bench.datapath.probes == []
        bench.say(own=False)
        await until(lambda: bench.datapath.probes == [(RELAY_KEY, (RELAY,))])
        # It answers. What its beacon says may be from before for a while.
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, time.time(), 0, 0)
        await looks(bench)
        assert len(bench.datapath.probes) == 1
        # And again if that was no help.
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, began + 20, 0, 0)
        await until(lambda: len(bench.datapath.probes) == 2)
        # Nobody says anything of it any more.
        bench.beacons.reports = {}
        bench.datapath.peers[RELAY_KEY] = PeerStatus(RELAY, began + 40, 0, 0)
        await looks(bench)
        assert len(bench.datapath.probes) == 2

    run(test)


def test_no_more_is_probed_at_once_nor_in_a_second_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_BURST", 20)
    monkeypatch.setattr(paths, "_RATE", 10)

    async def test(bench: Bench) -> None:
        bench.paths._waiting = {bytes([number]) * 32: (NEAR, OUTSIDE) for number in range(40)}
        counts = []
        for seconds in (0, 0, 1, 1.5, 100):
            bench.paths._probe(10**9 + seconds)
            counts.append(len(bench.datapath.probes))
        assert counts == [10, 10, 15, 18, 28]

    async def body() -> None:
        await test(Bench())

    asyncio.run(body())
