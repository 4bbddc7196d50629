"""The outbound worker on sockets of this host, each core: what a flow has learned never outlives its being true."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.datapath.packets import ACK, offloaded, tcp, udp
from tests.unit.datapath.sides import LOCAL, PEER, Remote, Side, counters, drops, keypair, lifetimes, opened, sums
from tests.unit.datapath.wires import wire

from sennit.datapath.core import DatapathCore
from sennit.datapath.outbound_worker import OutboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import GSO_TCPV4, PLAIN
from sennit.datapath.worker import RemovePeer, SetMtu, SetPeer, TakePackets
from sennit.wireguard.constants import REJECT_AFTER_TIME
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import DataSent, ForgetSource, HandshakeNeeded, RemoveKeypair, SetEndpoint, UseKeypair
from sennit.wireguard.keypair import Keypair


@pytest.fixture
def outbound(core: DatapathCore) -> Iterator[tuple[Side, Any]]:
    udp_socket = UdpSocket(0, 0)
    with wire() as (end, tun):
        tun.mtu = 1420
        side = Side(lambda _side, own, other: OutboundWorker(tun, udp_socket, own, (other,), core), udp_socket)
        side.start()
        yield side, end.kernel
        side.close()
    udp_socket.close()


def set_up(side: Side, remote: Remote, used: Keypair | None = None) -> None:
    side.tell(
        SetPeer(PEER, ("10.0.0.0/8", "fd00::/8")),
        SetEndpoint(PEER, remote.endpoint),
        UseKeypair(PEER, used or keypair()),
    )
    side.told()


def test_packets_leave_one_after_the_other(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    packets = [udp(4, bytes([number])) for number in range(20)]
    datagrams = []
    for packet in packets:
        kernel.send(PLAIN + packet)
        datagrams += remotes[0].take(1)
    assert opened(datagrams) == packets
    assert counters(datagrams) == list(range(20))
    assert sums(side.told(), DataSent) == (20, sum(map(len, datagrams)))


def test_super_packets_and_single_ones(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    payload = bytes(range(250)) * 200
    for _frame in range(3):
        for frame in (offloaded(tcp(4, payload, 0, ACK), GSO_TCPV4, 1000, 16), PLAIN + udp(6, b"six")):
            kernel.send(frame)
        datagrams = remotes[0].take(51)
        assert b"".join(packet[40:] for packet in opened(datagrams)[:50]) == payload
    assert sums(side.told(), DataSent)[0] == 3 * 51


def test_an_endpoint_that_moves(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    for number, remote in enumerate([*remotes, *remotes]):
        # As the inbound worker tells it, which nobody confirms.
        assert side.other.send([SetEndpoint(PEER, remote.endpoint)])
        kernel.send(PLAIN + udp(4, b"x"))
        kernel.send(PLAIN + udp(4, b"y"))
        assert counters(remote.take(2)) == [2 * number, 2 * number + 1]


def test_a_way_that_is_forgotten(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    """Of the endpoint that the inbound worker told, and by which packets have left."""
    side, kernel = outbound
    set_up(side, remotes[0])
    assert side.other.send([SetEndpoint(PEER, (*remotes[1].endpoint, "127.0.0.2", 1))])
    for source in ("127.0.0.2", "127.0.0.1"):
        for _number in range(3):
            kernel.send(PLAIN + udp(4, b"x"))
            assert remotes[1].socket.recvfrom(2000)[1][0] == source
        side.tell(ForgetSource(PEER))
        side.told()


def test_another_keypair(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0], keypair(age=10))
    for key in (1, 2):
        for number in range(3):
            kernel.send(PLAIN + udp(4, b"x"))
            (datagram,) = remotes[0].take(1)
            assert opened([datagram], key, 8 + key) == [udp(4, b"x")]
            assert counters([datagram]) == [number]
        side.tell(UseKeypair(PEER, keypair(8, 10, key=2)), RemoveKeypair(PEER, LOCAL))
    events = side.told()
    assert {event.keypair_index for event in events if isinstance(event, DataSent)} <= {7, 8}
    assert sums(events, DataSent)[0] == 6


def test_no_keypair_any_more(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    kernel.send(PLAIN + udp(4, b"x"))
    remotes[0].take(1)
    side.tell(RemoveKeypair(PEER, LOCAL))
    side.told()
    kernel.send(PLAIN + udp(4, b"later"))
    while HandshakeNeeded(PEER) not in side.told():
        pass
    side.tell(UseKeypair(PEER, keypair(8, 10, key=2)))
    assert opened(remotes[0].take(1), 2, 10) == [udp(4, b"later")]


def test_a_keypair_that_expires_between_two_packets(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    arrived = 0
    remotes[0].socket.settimeout(0.01)
    for left in lifetimes():
        set_up(side, remotes[0], keypair(age=REJECT_AFTER_TIME - left))
        while HandshakeNeeded(PEER) not in side.told():
            kernel.send(PLAIN + udp(4, b"x"))
            with contextlib.suppress(TimeoutError):
                remotes[0].take(1)
                arrived += 1
        if arrived:
            break
    assert arrived


def test_other_allowed_ips_and_no_peer(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    kernel.send(PLAIN + udp(4, b"x"))
    remotes[0].take(1)
    side.tell(SetPeer(PEER, ("fd00::/8",)))
    side.told()
    kernel.send(PLAIN + udp(4, b"x"))
    kernel.send(PLAIN + udp(6, b"y"))
    assert opened(remotes[0].take(1)) == [udp(6, b"y")]
    assert drops(side.told()) == {DropReason.NO_PEER_FOR_DESTINATION: 1}
    side.tell(RemovePeer(PEER))
    side.told()
    kernel.send(PLAIN + udp(6, b"y"))
    while not (found := drops(side.told())):
        pass
    assert found == {DropReason.NO_PEER_FOR_DESTINATION: 1}


def test_another_mtu(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    packet = udp(4, bytes(73))
    lengths = []
    for mtu in (1420, len(packet) + 3):
        side.tell(SetMtu(mtu))
        side.told()
        for _number in range(2):
            kernel.send(PLAIN + packet)
            lengths += map(len, remotes[0].take(1))
    padded = -(-len(packet) // 16) * 16
    assert lengths == [32 + padded] * 2 + [32 + len(packet) + 3] * 2


def test_malformed_frames_among_good_ones(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    for _number in range(5):
        kernel.send(b"x" * 15)
        kernel.send(PLAIN + udp(4, b"x"))
        remotes[0].take(1)
    assert drops(side.told()) == {DropReason.MALFORMED_OUTGOING_PACKET: 5}


def test_a_way_that_does_not_lead_there(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    """What the kernel refuses is counted, each packet; and a source of ours that is gone is done without."""
    side, kernel = outbound
    host, port = remotes[0].endpoint
    set_up(side, remotes[0])
    side.tell(SetEndpoint(PEER, ("127.0.0.1", 0)))
    side.told()
    for _number in range(3):
        kernel.send(PLAIN + udp(4, b"x"))
        while not (found := drops(side.told())):
            pass
        assert found == {DropReason.SEND_FAILED: 1}
    side.tell(SetEndpoint(PEER, (host, port, "203.0.113.77", 1)))
    side.told()
    kernel.send(PLAIN + udp(4, b"y"))
    assert opened(remotes[0].take(1)) == [udp(4, b"y")]


def test_another_socket(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    other = UdpSocket(0, 0)
    for port in (side.udp.port, other.port):
        kernel.send(PLAIN + udp(4, b"x"))
        assert remotes[0].socket.recvfrom(2000)[1][1] == port
        side.tell(other.socket)
        side.told()
    other.close()


def test_packets_stay_in_the_device_until_they_may_be_taken(core: DatapathCore, remotes: list[Remote]) -> None:
    udp_socket = UdpSocket(0, 0)
    with wire() as (end, tun):
        tun.mtu = 1420
        side = Side(
            lambda _side, own, other: OutboundWorker(tun, udp_socket, own, (other,), core, taking=False), udp_socket
        )
        side.start()
        end.kernel.send(PLAIN + udp(4, b"x"))
        assert side.told() == []
        set_up(side, remotes[0])
        side.tell(TakePackets())
        assert opened(remotes[0].take(1)) == [udp(4, b"x")]
        side.close()
    udp_socket.close()
