"""Both workers on sockets of this host, each core: what a flow has learned never outlives what it was true by."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.datapath.packets import ACK, offloaded, tcp, udp
from tests.unit.datapath.wires import wire

from sennit.datapath.channel import Channel
from sennit.datapath.core import PYTHON, DatapathCore
from sennit.datapath.inbound_worker import InboundWorker
from sennit.datapath.outbound_worker import OutboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import GSO_TCPV4, PLAIN
from sennit.datapath.worker import RemovePeer, Report, SetMtu, SetPeer, TakePackets
from sennit.wireguard.cookie import CookieJar
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import (
    DataReceived,
    DataSent,
    Dropped,
    ForgetSource,
    HandshakeNeeded,
    HandshakeReceived,
    InstallKeypair,
    KeepaliveReceived,
    RemoveKeypair,
    SetEndpoint,
    SetIdentity,
    UseKeypair,
)
from sennit.wireguard.keypair import Keypair

PEER, OTHER = b"p" * 32, b"o" * 32
PATIENCE = 10
_LOCAL, _REMOTE = 7, 9
_UDP_SEGMENT = 103


def keypair(local: int = _LOCAL, remote: int = _REMOTE, *, age: float = 0.0, key: int = 1) -> Keypair:
    return Keypair(bytes([key]) * 32, bytes([key]) * 32, local, remote, time.monotonic() - age, initiator=False)


class Side:
    """A worker in a thread of its own, with all of its ends in our hands."""

    def __init__(self, work: Callable[[Side, Channel, Channel], Any], udp_socket: UdpSocket) -> None:
        self.udp = udp_socket
        self.control, own = Channel.pair()
        self.other, towards = Channel.pair()
        self.events: list[Any] = []
        self._reports = 0
        self._thread = threading.Thread(target=self._run, args=(work, own, towards))
        self._ends = own, towards

    def start(self) -> None:
        self._thread.start()

    def _run(self, work: Callable[[Side, Channel, Channel], Any], own: Channel, towards: Channel) -> None:
        with contextlib.suppress(EOFError, OSError):  # its channel is closed
            work(self, own, towards).run()

    def tell(self, *commands: Any) -> None:
        assert self.control.send(list(commands))

    def told(self) -> list[Any]:
        """What the worker has reported until now, since the last time."""
        self._reports += 1
        self.tell(Report(self._reports))
        while Report(self._reports) not in self.events:
            assert select.select([self.control.socket], [], [], PATIENCE)[0]
            while (message := self.control.receive()) is not None:
                self.events += message
        events, self.events = [each for each in self.events if not isinstance(each, Report)], []
        return events

    def close(self) -> None:
        self.control.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        for end in (self.other, *self._ends):
            end.close()


class Remote:
    """The peer's socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.endpoint = self.socket.getsockname()

    def take(self, count: int) -> list[bytes]:
        return [self.socket.recv(65536) for _ in range(count)]

    def send(self, port: int, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.socket.sendto(datagram, ("127.0.0.1", port))


@pytest.fixture
def remotes() -> Iterator[list[Remote]]:
    remotes = [Remote(), Remote()]
    yield remotes
    for remote in remotes:
        remote.socket.close()


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


def opened(datagrams: list[bytes], key: int = 1, index: int = _REMOTE) -> list[bytes]:
    arrivals = PYTHON.arrivals()
    result = PYTHON.opener(bytes([key]) * 32, index).open(datagrams, 0, arrivals, lambda source: True, 1)
    assert (result.end, result.unauthentic, result.replayed) == (len(datagrams), 0, 0)
    return arrivals.packets()


def counters(datagrams: list[bytes]) -> list[int]:
    return [int.from_bytes(datagram[8:16], "little") for datagram in datagrams]


def sums(events: list[Any], kind: type) -> tuple[int, int]:
    """Packets and bytes."""
    found = [event for event in events if isinstance(event, kind)]
    return sum(event.packets for event in found), sum(event.bytes for event in found)


def drops(events: list[Any]) -> Counter[DropReason]:
    found: Counter[DropReason] = Counter()
    for event in events:
        if isinstance(event, Dropped):
            found[event.reason] += event.count
    return found


# --- out


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
        side.tell(UseKeypair(PEER, keypair(8, 10, key=2)), RemoveKeypair(PEER, _LOCAL))
    events = side.told()
    assert {event.keypair_index for event in events if isinstance(event, DataSent)} <= {7, 8}
    assert sums(events, DataSent)[0] == 6


def test_no_keypair_any_more(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0])
    kernel.send(PLAIN + udp(4, b"x"))
    remotes[0].take(1)
    side.tell(RemoveKeypair(PEER, _LOCAL))
    side.told()
    kernel.send(PLAIN + udp(4, b"later"))
    while HandshakeNeeded(PEER) not in side.told():
        pass
    side.tell(UseKeypair(PEER, keypair(8, 10, key=2)))
    assert opened(remotes[0].take(1), 2, 10) == [udp(4, b"later")]


def test_a_keypair_that_expires_between_two_packets(outbound: tuple[Side, Any], remotes: list[Remote]) -> None:
    side, kernel = outbound
    set_up(side, remotes[0], keypair(age=179.5))
    arrived = 0
    while HandshakeNeeded(PEER) not in side.told():
        kernel.send(PLAIN + udp(4, b"x"))
        remotes[0].socket.settimeout(0.01)
        try:
            remotes[0].take(1)
            arrived += 1
        except TimeoutError:
            pass
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


# --- in


def sealer(key: int = 1, index: int = _LOCAL) -> Callable[..., list[bytes]]:
    """Seals packets, each call under the next counters."""
    sealing = PYTHON.sealer(bytes([key]) * 32, index, 1420)
    return lambda *packets: [bytes(datagram) for datagram in sealing.seal(packets)[0]]


def frames(kernel: Any, count: int) -> list[bytes]:
    """The next packets, of frames that hold one each."""
    return [kernel.recv(65600)[len(PLAIN) :] for _ in range(count)]


def receive_on(side: Side, *keypairs: Keypair) -> None:
    side.tell(SetPeer(PEER, ("10.0.0.0/8",)), *(InstallKeypair(PEER, each) for each in keypairs))
    side.told()


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
    side.tell(RemoveKeypair(PEER, _LOCAL))
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
    receive_on(side, keypair(age=179.5))
    seal = sealer()
    remotes[0].send(side.udp.port, *seal(udp(4, b"x")))
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


# --- several inbound workers


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
