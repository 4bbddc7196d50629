"""Several inbound workers: what comes to the wrong one of them is not lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.datapath.packets import udp
from tests.unit.datapath.sides import PATIENCE, PEER, Remote, Side, drops, frames, keypair, receive_on, sealer, sums
from tests.unit.datapath.wires import wire

from sennit.datapath.channel import Channel
from sennit.datapath.core import DatapathCore
from sennit.datapath.inbound_worker import InboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.worker import Misdirected, SetPeer
from sennit.wireguard.cookie import CookieJar
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import (
    DataReceived,
    HandshakeReceived,
    InstallKeypair,
    SetEndpoint,
    SetIdentity,
    UseKeypair,
)

_UDP_SEGMENT = 103


@pytest.fixture
def workers(core: DatapathCore) -> Iterator[tuple[list[Side], list[Any]]]:
    """Two inbound workers, and what each of them writes to."""
    sockets = [UdpSocket(0, 0), UdpSocket(0, 0)]
    between = Channel.pair()
    with wire() as (first, first_tun), wire() as (second, second_tun):
        sides = []
        for queue, tun in enumerate((first_tun, second_tun)):

            def work(side: Side, own: Channel, other: Channel, queue: int = queue, tun: Any = tun) -> InboundWorker:
                others = {1 - queue: between[queue]}
                return InboundWorker(tun, side.udp, own, (other,), core, queue=queue, others=others)

            sides.append(Side(work, sockets[queue]))
        for side, end in zip(sides, (first, second), strict=True):
            side.start()
            end.kernel.setblocking(True)
            end.kernel.settimeout(PATIENCE)
        yield sides, [first.kernel, second.kernel]
        for each in (*sides, *between, *sockets):
            each.close()


def test_what_another_worker_has_received_is_not_lost(
    workers: tuple[list[Side], list[Any]], remotes: list[Remote]
) -> None:
    """The kernel joins what comes from one source: packets of several keypairs. Each gets its own, in order."""
    sides, kernels = workers
    seals = sealer(1, 8), sealer(2, 7)
    for side, pair in zip(sides, (keypair(8), keypair(7, key=2)), strict=True):
        receive_on(side, pair)
    source = remotes[0]
    source.socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 32 + 48)
    nobody, size = sealer(2, 9)(udp(4, bytes(20)))[0], 0
    for turn in range(5):
        packets = [udp(4, bytes([turn]) * 20, stream) for stream in range(4)]
        mixed = [seals[number % 2](packet)[0] for number, packet in enumerate(packets)]
        size += len(mixed[1]) + len(mixed[3])
        source.send(sides[0].udp.port, b"".join([*mixed, nobody]))
        for number, kernel in enumerate(kernels):
            assert frames(kernel, 2) == packets[number::2]
    own, others = sides[0].told(), sides[1].told()
    assert sums(own, DataReceived)[0] == 10
    assert sums(others, DataReceived) == (10, size)
    assert {event.endpoint[:2] for event in others if isinstance(event, DataReceived)} == {source.endpoint}
    assert drops(own) == {}
    assert drops(others) == {DropReason.UNKNOWN_INDEX: 5}
    # Its answers leave by the same way as others.
    assert [type(each) for each in sides[1].other.receive() or []] == [SetEndpoint, UseKeypair]


def test_a_handshake_message_is_anybody_s(workers: tuple[list[Side], list[Any]], remotes: list[Remote]) -> None:
    sides, _kernels = workers
    for side in sides:
        side.tell(SetIdentity(PEER))
        message = CookieJar(PEER).add_macs(bytes((1, 0, 0, 0)) + bytes(112), 0.0)
        remotes[0].send(side.udp.port, message)
        while not (events := side.told()):
            pass
        assert [(type(event), event.datagram) for event in events] == [(HandshakeReceived, message)]


def test_a_keypair_that_is_installed_while_the_commands_are_carried_out(
    core: DatapathCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has seen that there are no more of them. A packet on that keypair comes by another worker."""
    used = keypair()
    [datagram] = sealer()(packet := udp(4, b"x"))
    control, own = Channel.pair()
    another, other = Channel.pair()
    receive = other.receive

    def receive_later() -> list[Any] | None:
        monkeypatch.undo()
        assert control.send([SetPeer(PEER, ("10.0.0.0/8",)), InstallKeypair(PEER, used)])
        assert another.send([Misdirected([datagram], ("127.0.0.1", 51820))])
        return receive()

    monkeypatch.setattr(other, "receive", receive_later)
    udp_socket = UdpSocket(0, 0)
    outbound = Channel.pair()
    with wire() as (end, tun):
        InboundWorker(tun, udp_socket, own, outbound[:1], core, others={1: other}).obey()
        assert frames(end.kernel, 1) == [packet]
    for each in (control, own, another, other, *outbound, udp_socket):
        each.close()
