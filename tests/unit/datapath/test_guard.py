"""Handshake messages that the inbound worker refuses: nobody else hears of them, and cookies are as control's are."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.native import native
from tests.unit.datapath.packets import udp
from tests.unit.datapath.sides import PEER, Side, drops, keypair
from tests.unit.datapath.wires import Wire, wire

from sennit.datapath.core import PYTHON, DatapathCore
from sennit.datapath.inbound_worker import InboundWorker
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import PLAIN
from sennit.datapath.worker import SetPeer
from sennit.wireguard.constants import INITIATION_LENGTH, RESPONSE_LENGTH, TRANSPORT_OVERHEAD
from sennit.wireguard.cookie import CookieChecker, CookieJar
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import AskForCookies, HandshakeReceived, InstallKeypair, Path, SetIdentity
from sennit.wireguard.messages import CookieReply

OURS = bytes(range(32))
SECRET = bytes(range(100, 132))
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
chance = random.Random(3)


class Peer:
    """Who speaks to the worker, from a port of its own."""

    def __init__(self, port: int, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.jar = CookieJar(OURS)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((HOSTS[family], 0))
        self.socket.connect((HOSTS[family], port))
        self.socket.settimeout(10)
        self.path: Path = self.socket.getsockname()[:2]

    def message(self, kind: int = 1) -> bytes:
        """With a valid mac1 and, if there is a cookie, mac2; and garbage before them."""
        length = {1: INITIATION_LENGTH, 2: RESPONSE_LENGTH}[kind] - 32
        return self.jar.add_macs(bytes((kind, 0, 0, 0)) + chance.randbytes(length - 4), 0.0)

    def refused(self, kind: int = 1) -> CookieReply:
        """The answer to a message that is refused."""
        message = self.message(kind)
        self.socket.send(message)
        reply = CookieReply.parse(self.socket.recv(2000))
        assert reply.receiver == int.from_bytes(message[4:8], "little")
        return reply


def worker(core: DatapathCore) -> Iterator[tuple[Side, Wire]]:
    udp_socket = UdpSocket(0, 0)
    with wire(takes_udp=False) as (end, tun):
        side = Side(lambda _side, own, other: InboundWorker(tun, udp_socket, own, (other,), core), udp_socket)
        side.start()
        side.tell(SetIdentity(OURS))
        side.told()
        yield side, end
        side.close()
    udp_socket.close()


@pytest.fixture
def inbound(core: DatapathCore) -> Iterator[tuple[Side, Wire]]:
    yield from worker(core)


@pytest.fixture
def asking() -> Iterator[Side]:
    """Native, and told to ask for cookies."""
    for side, _end in worker(native()):
        side.tell(AskForCookies(SECRET, time.monotonic() + 1000))
        side.told()
        yield side


def met_with(side: Side, count: int) -> tuple[list[bytes], Counter[DropReason]]:
    """What became of so many handshake messages: those that were handed over, and the drops of the others."""
    handed: list[bytes] = []
    dropped: Counter[DropReason] = Counter()
    while len(handed) + dropped.total() < count:
        events = side.told()
        handed += [event.datagram for event in events if isinstance(event, HandshakeReceived)]
        dropped += drops(events)
    return handed, dropped


@pytest.mark.parametrize("kind", [1, 2])
def test_what_is_not_for_us_is_dropped(inbound: tuple[Side, Wire], kind: int) -> None:
    side, _end = inbound
    peer = Peer(side.udp.port)
    messages = [peer.message(kind) for _number in range(30)]
    for number, message in enumerate(messages):
        forged = bytearray(message)
        forged[4 + 2 * number] ^= 1 << number % 8
        peer.socket.send(forged if number % 2 else message)
    assert met_with(side, 30) == (messages[::2], {DropReason.INVALID_MAC1: 15})


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("kind", [1, 2])
def test_a_cookie_is_given_and_taken(asking: Side, family: socket.AddressFamily, kind: int) -> None:
    peer = Peer(asking.udp.port, family)
    peer.jar.consume(peer.refused(kind), 0.0)
    assert met_with(asking, 1) == ([], {DropReason.COOKIE_REQUIRED: 1})
    message = peer.message(kind)
    peer.socket.send(message)
    assert met_with(asking, 1)[0] == [message]
    # It is the cookie that control would have given.
    ours = CookieChecker(OURS, lambda length: SECRET[:length])
    ours.secret(0.0)
    assert ours.has_valid_mac2(message, peer.path, 0.0)


def test_a_cookie_of_another_place_is_none(asking: Side) -> None:
    peer, thief = Peer(asking.udp.port), Peer(asking.udp.port)
    reply = peer.refused()
    peer.jar.consume(reply, 0.0)
    thief.jar = peer.jar
    assert thief.refused() != reply
    assert met_with(asking, 2) == ([], {DropReason.COOKIE_REQUIRED: 2})


def test_no_cookie_is_asked_for_any_more(asking: Side) -> None:
    peer = Peer(asking.udp.port)
    peer.refused()
    met_with(asking, 1)
    asking.tell(AskForCookies(SECRET, time.monotonic()))
    asking.told()
    message = peer.message()
    peer.socket.send(message)
    assert met_with(asking, 1)[0] == [message]


def test_another_key_of_ours(asking: Side) -> None:
    peer = Peer(asking.udp.port)
    asking.tell(SetIdentity(bytes(32)))
    asking.told()
    peer.socket.send(peer.message())
    assert met_with(asking, 1) == ([], {DropReason.INVALID_MAC1: 1})
    peer.jar = CookieJar(bytes(32))
    message = peer.message()
    peer.socket.send(message)
    assert met_with(asking, 1)[0] == [message]


def test_answers_have_a_limit(asking: Side) -> None:
    """What is beyond it is counted, and nothing else happens to it."""
    peer = Peer(asking.udp.port)
    messages = [peer.message() for _number in range(2000)]
    found: Counter[DropReason] = Counter()
    while not found[DropReason.HANDSHAKE_QUEUE_FULL]:
        for message in messages:
            peer.socket.send(message)
        found += drops(asking.told())
    assert found[DropReason.COOKIE_REQUIRED] >= 1000
    assert set(found) == {DropReason.COOKIE_REQUIRED, DropReason.HANDSHAKE_QUEUE_FULL}


def test_with_a_cookie_an_address_may_not_flood_either(asking: Side) -> None:
    """By whatever port; others are heard."""
    peers = [Peer(asking.udp.port), Peer(asking.udp.port)]
    other = Peer(asking.udp.port, socket.AF_INET6)
    for peer in (*peers, other):
        peer.jar.consume(peer.refused(), 0.0)
    met_with(asking, 3)
    since = time.monotonic()
    for _number in range(100):
        for peer in peers:
            peer.socket.send(peer.message())
    handed, dropped = met_with(asking, 200)
    assert set(dropped) == {DropReason.RATE_LIMITED}
    assert 25 <= len(handed) <= 25 * (2 + int(time.monotonic() - since))
    message = other.message()
    other.socket.send(message)
    assert met_with(asking, 1) == ([message], {})


def test_packets_of_sessions_among_refused_messages(inbound: tuple[Side, Wire]) -> None:
    """In one receive, too: what the kernel joins is of one source and of one length."""
    side, end = inbound
    side.tell(SetPeer(PEER, ("10.0.0.0/8",)), InstallKeypair(PEER, keypair()))
    side.told()
    inner = INITIATION_LENGTH - TRANSPORT_OVERHEAD
    sealing = PYTHON.sealer(bytes([1]) * 32, 7, inner)
    packets = [udp(4, bytes([number]) * (inner - 28)) for number in range(20)]
    data = [bytes(datagram) for datagram in sealing.seal(packets)[0]]
    bad = [b"\1\0\0\0" + chance.randbytes(INITIATION_LENGTH - 4) for _number in range(20)]
    good = CookieJar(OURS).add_macs(bad[0][:-32], 0.0)
    sender = UdpSocket(0, 0)
    end.kernel.setblocking(True)
    end.kernel.settimeout(10)
    try:
        mixed = [datagram for pair in zip(data, bad, strict=True) for datagram in pair]
        assert sender.send([*mixed[:20], good, *mixed[20:]], ("127.0.0.1", side.udp.port)) == 0
        received = [end.kernel.recv(65600)[len(PLAIN) :] for _packet in packets]
    finally:
        sender.close()
    assert received == packets
    handed, dropped = met_with(side, 21)
    assert handed == [good]
    assert dropped == {DropReason.INVALID_MAC1: 20}
