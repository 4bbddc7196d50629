"""Several workers a direction: counters that are never used twice, keypairs that belong to one inbound queue."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.native import CORES, native
from tests.unit.datapath.packets import udp

from sennit.wireguard.batch import Core, PythonCore, Sealer
from sennit.wireguard.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES, REPLAY_WINDOW
from sennit.wireguard.control import Control
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import (
    HandshakeNeeded,
    HandshakeReceived,
    InstallKeypair,
    PeerConfig,
    RemoveKeypair,
    SendDatagram,
    UseKeypair,
)
from sennit.wireguard.keypair import Keypair
from sennit.wireguard.outbound import Outbound
from sennit.wireguard.queues import MAX_QUEUES, Numbers, Share, queue_of

PEER = b"p" * 32
KEYPAIR = Keypair(b"s" * 32, b"r" * 32, 7, 9, 1000.0, initiator=True, number=3)
ENDPOINT = ("192.0.2.1", 51820)


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> Core:
    return CORES[request.param]()


def marks() -> memoryview:
    return memoryview(bytearray(8 * 16)).cast("Q")


def sealers(core: Core, number: int, shared: memoryview) -> list[Sealer]:
    return [
        core.sealer(KEYPAIR.send_key, KEYPAIR.remote_index, 1420, Share(each, number, shared).counters(KEYPAIR))
        for each in range(number)
    ]


def sealed(sealer: Sealer, packets: int) -> list[int]:
    """The counters of so many packets that are sealed."""
    assert sealer.ready(packets)
    datagrams, _size = sealer.seal([udp(4, b"x")] * packets)
    return counters([bytes(each) for each in datagrams])


def counters(datagrams: Sequence[bytes]) -> list[int]:
    return [int.from_bytes(each[8:16], "little") for each in datagrams]


# --- counters

# Who seals next, how many packets, and whether the mark is overwritten behind it with one that it had before.
_TURNS = st.lists(st.tuples(st.integers(0, MAX_QUEUES - 1), st.integers(1, 70), st.booleans()), max_size=40)


@pytest.mark.parametrize("make", [PythonCore, native], ids=["python", "native"])
@settings(max_examples=60, deadline=None)
@given(number=st.integers(1, MAX_QUEUES), turns=_TURNS, chance=st.randoms(use_true_random=False))
def test_no_counter_is_used_twice(
    make: type[PythonCore], number: int, turns: list[tuple[int, int, bool]], chance: random.Random
) -> None:
    """Whatever becomes of the mark, which is written without a lock."""
    shared, used, before = marks(), set(), [0]
    all_sealers = sealers(make(), number, shared)
    for who, packets, stale in turns:
        fresh = sealed(all_sealers[who % number], packets)
        assert {each % number for each in fresh} == {who % number}
        assert used.isdisjoint(fresh)
        used.update(fresh)
        before.append(shared[KEYPAIR.number])
        if stale:
            shared[KEYPAIR.number] = chance.choice(before)


@pytest.mark.parametrize("number", range(1, MAX_QUEUES + 1))
def test_one_that_was_idle_is_not_late(core: Core, number: int) -> None:
    """Its next batch begins where the others began theirs, or behind, and all advance as one would with all packets."""
    shared = marks()
    first, *others = sealers(core, number, shared)
    for _batch in range(100):
        newest = sealed(first, 64)[-1]
    for other in others:
        begun = sealed(other, 64)[0]
        assert newest - 64 * number < begun <= newest
        assert newest - begun < REPLAY_WINDOW // 8
    taken_in_turns = [sealed(each, 64) for _batch in range(100) for each in (first, *others)]
    assert max(map(max, taken_in_turns)) - newest <= (100 + 1) * 64 * number


def test_a_sealer_alone_counts_by_one(core: Core) -> None:
    sealer = core.sealer(KEYPAIR.send_key, KEYPAIR.remote_index, 1420)
    assert sealed(sealer, 3) + sealed(sealer, 2) == list(range(5))


def test_others_of_other_keypairs_do_not_matter(core: Core) -> None:
    shared = marks()
    one, _two = sealers(core, 2, shared)
    sealed(one, 64)
    sealed(one, 64)
    assert [shared[at] > 0 for at in range(16)] == [at == KEYPAIR.number for at in range(16)]


@pytest.mark.parametrize("number", [2, 3, 7, MAX_QUEUES])
def test_the_last_counters(core: Core, number: int) -> None:
    """None beyond REJECT_AFTER_MESSAGES, whoever comes to it: the packets wait for the next keypair."""
    shared = marks()
    shared[KEYPAIR.number] = REJECT_AFTER_MESSAGES - 8 * number
    halves = [Outbound(1420, core, Share(each, number, shared)) for each in range(number)]
    used: set[int] = set()
    for half in halves:
        half.set_peer(PEER, ("10.0.0.0/8",))
        half.set_endpoint(PEER, ENDPOINT)
        half.use_keypair(PEER, KEYPAIR, 1000.0, confirm=False)
    while True:
        batches = [half.send([udp(4, b"x")] * 2, 1000.0) for half in halves]
        fresh = [counter for batch in batches for _path, each in batch for counter in counters(list(map(bytes, each)))]
        assert used.isdisjoint(fresh)
        used.update(fresh)
        if not fresh:
            break
    assert max(used) < REJECT_AFTER_MESSAGES
    assert 6 * number <= len(used) <= 9 * number
    for half in halves:
        assert half.send([udp(4, b"x")], 1000.0) == []
        assert HandshakeNeeded(PEER) in half.take_events()


def test_a_keypair_is_renewed_long_before() -> None:
    """By packets: counters grow as many times as fast as there are workers, at most."""
    assert MAX_QUEUES * REKEY_AFTER_MESSAGES < REJECT_AFTER_MESSAGES * 2 // 3


def test_one_worker_confirms(core: Core) -> None:
    shared = marks()
    one, two = (Outbound(1420, core, Share(each, 2, shared)) for each in range(2))
    for half in (one, two):
        half.set_peer(PEER, ("10.0.0.0/8",))
        half.set_endpoint(PEER, ENDPOINT)
        assert half.send([udp(4, b"x")], 1000.0) == []
    one.drop_staged(PEER, DropReason.NO_ENDPOINT)
    assert one.use_keypair(PEER, KEYPAIR, 1000.0, confirm=False) == []
    ((_path, datagrams),) = two.use_keypair(PEER, KEYPAIR, 1000.0, confirm=False)
    assert len(datagrams) == 1


# --- indices and numbers


def test_numbers_are_small_and_nobody_else_s() -> None:
    numbers = Numbers()
    assert [numbers.take() for _ in range(3)] == [0, 1, 2]
    numbers.give_back(1)
    assert [numbers.take() for _ in range(2)] == [1, 3]


class Pair:
    """A control half with many queues, and the peers that it has handshakes with, by turns."""

    def __init__(self, queues: int, peers: int) -> None:
        self.hub = Control(bytes([1]) * 32)
        self.hub.queues = queues
        self.peers = [Control(bytes([2 + number]) * 32) for number in range(peers)]
        for peer in self.peers:
            self.hub.set_peer(PeerConfig(peer.public_key, endpoint=ENDPOINT))
            peer.set_peer(PeerConfig(self.hub.public_key, endpoint=ENDPOINT))
        self.installed: list[InstallKeypair] = []
        self.removed: list[RemoveKeypair] = []

    def shake_hands(self, initiator: Control, responder: Control, now: float) -> None:
        initiator.receive(HandshakeNeeded(responder.public_key), now, now)
        for sender, receiver in ((initiator, responder), (responder, initiator)):
            for command in self._commands(sender):
                if isinstance(command, SendDatagram):
                    receiver.receive(HandshakeReceived(command.datagram, ENDPOINT), now, now)
            receiver.handle_handshakes(now, now)
        assert any(isinstance(command, UseKeypair) for command in self._commands(initiator))

    def _commands(self, control: Control) -> list[object]:
        commands = control.take_commands()
        if control is self.hub:
            self.installed += [command for command in commands if isinstance(command, InstallKeypair)]
            self.removed += [command for command in commands if isinstance(command, RemoveKeypair)]
        return list(commands)


@pytest.mark.parametrize("queues", [1, 2, 3, MAX_QUEUES])
def test_a_peer_stays_in_its_queue(queues: int) -> None:
    """Whoever begins the handshake; and the peers are spread evenly."""
    pair = Pair(queues, 2 * queues)
    for turn in range(4):
        for peer in pair.peers:
            sides = (pair.hub, peer) if turn % 2 else (peer, pair.hub)
            pair.shake_hands(*sides, 1000.0 + 200 * turn)
    used: dict[bytes, set[int]] = {}
    for command in pair.installed:
        used.setdefault(command.peer, set()).add(queue_of(command.keypair.local_index, queues))
    assert all(len(found) == 1 for found in used.values())
    places = sorted(found.pop() for found in used.values())
    assert places == sorted(list(range(queues)) * 2)


def test_numbers_of_keypairs_are_used_again() -> None:
    """But by none that lives."""
    pair = Pair(2, 3)
    for turn in range(10):
        for peer in pair.peers:
            pair.shake_hands(pair.hub, peer, 1000.0 + 200 * turn)
    gone = {(command.peer, command.local_index) for command in pair.removed}
    living = [
        command.keypair.number for command in pair.installed if (command.peer, command.keypair.local_index) not in gone
    ]
    assert len(set(living)) == len(living)
    assert max(command.keypair.number for command in pair.installed) < 3 * 3
