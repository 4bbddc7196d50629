"""The inbound worker on sockets of this host, each core: what a flow has learned never outlives its being true."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.datapath.packets import ACK, tcp, udp
from tests.unit.datapath.sides import (
    LOCAL,
    PATIENCE,
    PEER,
    Remote,
    Side,
    drops,
    frames,
    keypair,
    lifetimes,
    receive_on,
    sealer,
    sums,
)
from tests.unit.datapath.wires import wire

from sennit.datapath.core import DatapathCore
from sennit.datapath.inbound_worker import InboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import PLAIN
from sennit.datapath.worker import RemovePeer, SetPeer
from sennit.wireguard.constants import REJECT_AFTER_TIME
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import (
    DataReceived,
    InstallKeypair,
    KeepaliveReceived,
    RemoveKeypair,
    SetEndpoint,
    UseKeypair,
)


@pytest.fixture
def inbound(core: DatapathCore) -> Iterator[tuple[Side, Any]]:
    udp_socket = UdpSocket(0, 0)
    with wire() as (end, tun):
        side = Side(lambda _side, own, other: InboundWorker(tun, udp_socket, own, (other,), core), udp_socket)
        side.start()
        end.kernel.setblocking(True)
        end.kernel.settimeout(PATIENCE)
        yield side, end.kernel
        side.close()
    udp_socket.close()


def test_packets_arrive_one_after_the_other(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    size = 0
    for number in range(20):
        datagrams = seal(udp(4, bytes([number])))
        remotes[0].send(side.udp.port, *datagrams)
        size += sum(map(len, datagrams))
        assert frames(kernel, 1) == [udp(4, bytes([number]))]
    events = side.told()
    assert sums(events, DataReceived) == (20, size)
    endpoints = {event.endpoint[:2] for event in events if isinstance(event, DataReceived)}
    assert endpoints == {remotes[0].endpoint}
    # The other worker is told once.
    told = []
    while (message := side.other.receive()) is not None:
        told += message
    assert [type(each) for each in told] == [SetEndpoint, UseKeypair]


def test_a_peer_that_moves(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    for remote in (*remotes, *remotes):
        for _number in range(3):
            remote.send(side.udp.port, *seal(udp(4, b"x")))
            frames(kernel, 1)
        moved = [
            command
            for command in iter(lambda: (side.other.receive() or [None])[0], None)
            if isinstance(command, SetEndpoint)
        ]
        assert [command.endpoint[:2] for command in moved] == [remote.endpoint]


def test_what_is_refused_is_counted(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    first, second, third = seal(udp(4, b"1"), udp(4, b"2", 1), udp(4, b"3", 2))
    unwanted, malformed, last = seal(udp(6, b"x"), b"E" * 30, udp(4, b"4", 3))
    remotes[0].send(side.udp.port, first)
    frames(kernel, 1)
    forged = second[:-1] + bytes([second[-1] ^ 1])
    strange = sealer(index=1234)(udp(4, b"x"))
    remotes[0].send(side.udp.port, forged, second, second, unwanted, malformed, *strange, b"", b"short", third, last)
    assert frames(kernel, 3) == [udp(4, b"2", 1), udp(4, b"3", 2), udp(4, b"4", 3)]
    assert drops(side.told()) == {
        DropReason.DATA_AUTHENTICATION: 1,
        DropReason.REPLAYED_COUNTER: 1,
        DropReason.SOURCE_NOT_ALLOWED: 1,
        DropReason.MALFORMED_INNER_PACKET: 1,
        DropReason.UNKNOWN_INDEX: 1,
        DropReason.WRONG_LENGTH: 2,
    }


def test_keepalives_are_told_at_once(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
    frames(kernel, 1)
    side.told()
    for _number in range(3):
        remotes[0].send(side.udp.port, *seal(b""))
        assert select.select([side.control.socket], [], [], PATIENCE)[0]
        message = side.control.receive()
        assert message is not None
        assert [type(event) for event in message] == [KeepaliveReceived]


def test_two_keypairs_at_once_and_one_that_ends(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair(), keypair(8, 10, key=2))
    one, two = sealer(), sealer(2, 8)
    for number in range(5):
        remotes[0].send(side.udp.port, *one(udp(4, bytes([number]))), *two(udp(4, bytes([number]), 1)))
        assert frames(kernel, 2) == [udp(4, bytes([number])), udp(4, bytes([number]), 1)]
    side.tell(RemoveKeypair(PEER, LOCAL))
    assert sums(side.told(), DataReceived)[0] == 10
    remotes[0].send(side.udp.port, *one(udp(4, b"x")), *two(udp(4, b"y")))
    assert frames(kernel, 1) == [udp(4, b"y")]
    events = side.told()
    assert drops(events) == {DropReason.UNKNOWN_INDEX: 1}
    assert sums(events, DataReceived)[0] == 1


def test_counts_of_what_is_removed_are_not_lost(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    for _number in range(4):
        remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
        frames(kernel, 1)
    side.tell(RemovePeer(PEER))
    assert sums(side.told(), DataReceived)[0] == 4
    remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
    while not (found := drops(side.told())):
        pass
    assert found == {DropReason.UNKNOWN_INDEX: 1}


def test_an_inner_source_that_is_allowed_no_more(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    receive_on(side, keypair())
    seal = sealer()
    for prefix in ("10.0.0.0/8", "fd00::/8", "10.0.0.0/8"):
        side.tell(SetPeer(PEER, (prefix,)))
        side.told()
        for _number in range(2):
            allowed, refused = (6, 4) if ":" in prefix else (4, 6)
            remotes[0].send(side.udp.port, *seal(udp(refused, b"no"), udp(allowed, b"yes")))
            assert frames(kernel, 1) == [udp(allowed, b"yes")]
        assert drops(side.told()) == {DropReason.SOURCE_NOT_ALLOWED: 2}


def test_a_session_that_expires_between_two_packets(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = inbound
    seal = sealer()
    for left in lifetimes():
        receive_on(side, keypair(age=REJECT_AFTER_TIME - left))
        remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
        if select.select([kernel], [], [], left)[0]:
            break
        side.told()
    frames(kernel, 1)
    while not (found := drops(side.told())):
        remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
        while select.select([kernel], [], [], 0)[0]:
            kernel.recv(65600)
    assert set(found) == {DropReason.EXPIRED_KEYPAIR}


def test_joined_datagrams_are_joined_again(inbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    """Many in one receive, on one keypair and on two."""
    side, kernel = inbound
    receive_on(side, keypair(), keypair(8, 10, key=2))
    one, two = sealer(), sealer(2, 8)
    payload = bytes(range(250)) * 160
    pieces = [tcp(4, payload[at : at + 1000], at, ACK) for at in range(0, len(payload), 1000)]
    sender = UdpSocket(0, 0)
    try:
        for _time in range(3):
            datagrams = one(*pieces[:20]) + two(*pieces[20:30]) + one(*pieces[30:])
            assert sender.send(datagrams, ("127.0.0.1", side.udp.port)) == 0
            received = b""
            while len(received) < len(payload):
                received += kernel.recv(65600)[len(PLAIN) + 40 :]
            assert received == payload
    finally:
        sender.close()
    assert sums(side.told(), DataReceived)[0] == 120


def test_a_super_packet_that_one_receive_cannot_hold_is_written_as_one(
    core: DatapathCore,
) -> None:
    """64 kB of TCP are 47 segments, and with what sealing adds only 45 datagrams fit into the kernel's buffer."""
    udp_socket, sender = UdpSocket(0, 0), UdpSocket(0, 0)
    packets = [tcp(4, bytes([number]) * 1368, number * 1368, options=bytes(12)) for number in range(47)]
    with wire() as (end, tun):
        side = Side(lambda _side, own, other: InboundWorker(tun, udp_socket, own, (other,), core), udp_socket)
        # All of it waits before the worker looks; the first packet tells it of the source.
        side.tell(SetPeer(PEER, ("10.0.0.0/8",)), InstallKeypair(PEER, keypair()))
        assert sender.send(sealer()(udp(4, b"first"), *packets), ("127.0.0.1", udp_socket.port)) == 0
        side.start()
        end.kernel.setblocking(True)
        end.kernel.settimeout(PATIENCE)
        sizes = [len(end.kernel.recv(1 << 17)) for _frame in range(2)]
        side.close()
    sender.close()
    udp_socket.close()
    assert sizes == [len(PLAIN + udp(4, b"first")), len(PLAIN) + 52 + 47 * 1368]


def test_a_responder_s_keypair_is_confirmed_by_its_first_packet(
    inbound: tuple[Side, Any], remotes: list[Remote]
) -> None:
    side, kernel = inbound
    first, second = keypair(age=5), replace(keypair(8, 10, key=2), created_at=time.monotonic())
    receive_on(side, first, second)
    for seal in (sealer(), sealer(2, 8)):
        remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
        frames(kernel, 1)
    told = []
    while (message := side.other.receive()) is not None:
        told += [command.keypair for command in message if isinstance(command, UseKeypair)]
    assert told == [second]
