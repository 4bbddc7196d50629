"""One process for both directions at rest, and its relief. Who has sealed a packet shows in its counter."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.datapath.packets import ACK, offloaded, tcp, udp
from tests.unit.datapath.sides import (
    PATIENCE,
    PEER,
    Remote,
    Side,
    counters,
    frames,
    keypair,
    opened,
    receive_on,
    sealer,
    sums,
)
from tests.unit.datapath.wires import wire

from sennit.datapath import queues
from sennit.datapath.both_ways import BothWays
from sennit.datapath.channel import Channel
from sennit.datapath.core import PYTHON
from sennit.datapath.inbound_worker import InboundWorker
from sennit.datapath.outbound_worker import OutboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import GSO_TCPV4, PLAIN
from sennit.datapath.worker import Report, SetPeer, TakePackets
from sennit.wireguard.events import DataReceived, DataSent, SetEndpoint, UseKeypair
from sennit.wireguard.queues import Share

_RELIEF, _BESIDE = 0, 1


class Ends:
    """A worker for both directions and its relief in threads, with all of their other ends in our hands."""

    def __init__(self, tun: Any, *, waiting: bool = False) -> None:
        marks = queues.marks()
        self.udp = UdpSocket(0, 0)
        self.beside, beside = Channel.pair()
        to_relief, to_beside = Channel.pair(), Channel.pair()
        self._channels = (self.beside, beside, *to_relief, *to_beside)

        def both(_side: Side, own: Channel, _other: Channel) -> BothWays:
            from_inbounds = (to_beside[1], to_relief[0])
            outbound = OutboundWorker(
                tun, self.udp, beside, from_inbounds, PYTHON, share=Share(_BESIDE, 2, marks), taking=not waiting
            )
            to_outbounds = (to_relief[0], to_beside[0])
            inbound = InboundWorker(tun, self.udp, own, to_outbounds, PYTHON, watched=outbound.channels)
            return BothWays(inbound, outbound, to_relief[0], tun, self.udp)

        def relief(_side: Side, own: Channel, _other: Channel) -> OutboundWorker:
            share = Share(_RELIEF, 2, marks)
            return OutboundWorker(tun, self.udp, own, (to_relief[1],), PYTHON, share=share, taking=False)

        self.inbound = Side(both, self.udp)
        self.relief = Side(relief, self.udp)
        for side in (self.inbound, self.relief):
            side.start()

    def set_up(self, remote: Remote) -> None:
        commands = SetPeer(PEER, ("10.0.0.0/8",)), SetEndpoint(PEER, remote.endpoint), UseKeypair(PEER, keypair())
        self.relief.tell(*commands)
        self.relief.told()
        assert self.beside.send([*commands])
        self.told()

    def told(self) -> list[Any]:
        """What the outbound worker beside the inbound one has reported, since the last time."""
        assert self.beside.send([Report(1)])
        events: list[Any] = []
        while Report(1) not in events:
            assert select.select([self.beside.socket], [], [], PATIENCE)[0]
            events += self.beside.receive() or []
        return [event for event in events if not isinstance(event, Report)]

    def close(self) -> None:
        for side in (self.inbound, self.relief):
            side.close()
        for channel in self._channels:
            channel.close()
        self.udp.close()


@pytest.fixture
def ends() -> Iterator[tuple[Ends, Any]]:
    with wire() as (end, tun):
        tun.mtu = 1420
        end.kernel.setblocking(True)
        end.kernel.settimeout(PATIENCE)
        both = Ends(tun)
        yield both, end.kernel
        both.close()


@pytest.fixture
def remote() -> Iterator[Remote]:
    remote = Remote()
    yield remote
    remote.socket.close()


def who(datagrams: list[bytes]) -> list[int]:
    return [counter % 2 for counter in counters(datagrams)]


def send(kernel: Any, remote: Remote, *payloads: bytes) -> list[bytes]:
    """The datagrams of packets with these payloads, which have come in order."""
    packets = [udp(4, payload) for payload in payloads]
    for packet in packets:
        kernel.send(PLAIN + packet)
    datagrams = remote.take(len(packets))
    assert opened(datagrams) == packets
    return datagrams


def numbered(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") for number in range(count)]


def test_at_rest_one_does_both(ends: tuple[Ends, Any], remote: Remote) -> None:
    both, kernel = ends
    both.set_up(remote)
    receive_on(both.inbound, keypair())
    seal = sealer()
    for number in range(20):
        assert who(send(kernel, remote, bytes([number]))) == [_BESIDE]
        remote.send(both.udp.port, *seal(udp(4, bytes([number]))))
        assert frames(kernel, 1) == [udp(4, bytes([number]))]
    assert sums(both.told(), DataSent)[0] == 20
    assert sums(both.inbound.told(), DataReceived)[0] == 20
    assert both.relief.told() == []


def test_the_relief_takes_over_and_leaves_again(ends: tuple[Ends, Any], remote: Remote) -> None:
    both, kernel = ends
    both.set_up(remote)
    datagrams = send(kernel, remote, b"before")
    assert who(datagrams) == [_BESIDE]
    ends_at = time.monotonic() + PATIENCE
    while who(datagrams[-1:]) == [_BESIDE]:
        assert time.monotonic() < ends_at
        datagrams += send(kernel, remote, *numbered(100))
    while who(datagrams[-1:]) == [_RELIEF]:
        assert time.monotonic() < ends_at
        datagrams += send(kernel, remote, b"calm")
    taken = counters(datagrams)
    assert len(set(taken)) == len(taken)
    sent = sums(both.told(), DataSent)[0] + sums(both.relief.told(), DataSent)[0]
    assert sent == len(datagrams)


def test_a_super_packet_is_not_rest(ends: tuple[Ends, Any], remote: Remote) -> None:
    both, kernel = ends
    both.set_up(remote)
    after: list[bytes] = []
    ends_at = time.monotonic() + PATIENCE
    while _RELIEF not in who(after):
        assert time.monotonic() < ends_at
        kernel.send(offloaded(tcp(4, bytes(50_000), 0, ACK), GSO_TCPV4, 1000, 16))
        remote.take(50)
        after += send(kernel, remote, b"behind it")
    assert len(after) < 5


def test_what_is_received_is_not_rest_either(ends: tuple[Ends, Any], remote: Remote) -> None:
    both, kernel = ends
    both.set_up(remote)
    receive_on(both.inbound, keypair())
    seal = sealer()
    arrived = 0
    ends_at = time.monotonic() + PATIENCE
    while who(send(kernel, remote, b"x")) == [_BESIDE]:
        assert time.monotonic() < ends_at
        packets = [udp(4, payload, stream) for stream, payload in enumerate(numbered(40))]
        remote.send(both.udp.port, *seal(*packets))
        assert frames(kernel, 40) == packets
        arrived += 40
    assert sums(both.inbound.told(), DataReceived)[0] == arrived


def test_packets_wait_until_it_is_known_whose_they_are(remote: Remote) -> None:
    with wire() as (end, tun):
        tun.mtu = 1420
        both = Ends(tun, waiting=True)
        end.kernel.send(PLAIN + udp(4, b"x"))
        both.set_up(remote)
        both.inbound.told()
        assert both.relief.told() == []
        assert both.beside.send([TakePackets()])
        datagrams = remote.take(1)
        assert opened(datagrams) == [udp(4, b"x")]
        assert who(datagrams) == [_BESIDE]
        both.close()


def test_a_new_endpoint_is_known_before_the_answer(ends: tuple[Ends, Any], remote: Remote) -> None:
    """The packet that tells of it and the answer are the same process's."""
    both, kernel = ends
    both.set_up(remote)
    receive_on(both.inbound, keypair())
    seal, elsewhere = sealer(), Remote()
    for source in (elsewhere, remote, elsewhere):
        source.send(both.udp.port, *seal(udp(4, b"x")))
        frames(kernel, 1)
        send(kernel, source, b"y")
    elsewhere.socket.close()
