"""The sending half alone: routing, sealing, padding, staging, and what it reports."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wireguard.network import ipv4

from sennit.datapath.core import DatapathCore
from sennit.wireguard import aead
from sennit.wireguard.constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, STAGED_PACKETS
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import DataSent, Dropped, HandshakeNeeded, KeepaliveSent
from sennit.wireguard.keypair import Keypair
from sennit.wireguard.outbound import Outbound

PEER, OTHER = b"p" * 32, b"o" * 32
ENDPOINT = ("198.51.100.1", 51820)
KEYPAIR = Keypair(b"s" * 32, b"r" * 32, 7, 9, 100.0, initiator=False)
MTU = 1420
NOW = 101.0


def packet(payload: bytes = b"hello", destination: str = "10.0.0.2") -> bytes:
    return ipv4("10.0.0.1", destination, payload)


def opened(datagram: bytes, keypair: Keypair = KEYPAIR) -> tuple[int, bytes]:
    """Counter and content of a datagram, read as the whitepaper describes it."""
    kind, reserved, index, counter = struct.unpack_from("<B3sIQ", datagram)
    assert (kind, reserved, index) == (4, bytes(3), keypair.remote_index)
    cipher = aead.new_aead(keypair.send_key)
    return counter, cipher.decrypt(bytes(4) + counter.to_bytes(8, "little"), datagram[16:], None)


@pytest.fixture
def outbound(core: DatapathCore) -> Outbound:
    outbound = Outbound(MTU, core)
    outbound.set_peer(PEER, ("10.0.0.2/32", "fd00::2/128"))
    outbound.set_peer(OTHER, ("10.0.0.0/24",))
    outbound.set_endpoint(PEER, ENDPOINT)
    return outbound


@pytest.fixture
def ready(outbound: Outbound) -> Outbound:
    assert outbound.use_keypair(PEER, KEYPAIR, NOW) == []
    return outbound


def test_a_batch_has_one_endpoint_and_counters_in_order(ready: Outbound) -> None:
    for first in (0, 3):
        ((endpoint, datagrams),) = ready.send([packet(bytes([n])) for n in range(3)], NOW)
        assert endpoint == ENDPOINT
        assert [opened(datagram) for datagram in datagrams] == [
            (first + n, packet(bytes([n])).ljust(32, b"\0")) for n in range(3)
        ]


@given(st.integers(20, MTU + 100))
def test_padding(core: DatapathCore, length: int) -> None:
    """To a multiple of 16, but not beyond the MTU; a packet that is longer goes as it is."""
    outbound = Outbound(MTU, core)
    outbound.set_peer(PEER, ("10.0.0.2/32",))
    outbound.set_endpoint(PEER, ENDPOINT)
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    sent = packet(b"x" * (length - 20))
    ((_, (datagram,)),) = outbound.send([sent], NOW)
    content = opened(datagram)[1]
    assert content[:length] == sent
    assert not any(content[length:])
    assert len(content) == (max(length, min(MTU, -(-length // 16) * 16)))


def test_the_longest_prefix_wins_in_both_families(ready: Outbound) -> None:
    assert ready.send([packet(destination="10.0.0.3")], NOW) == []
    assert ready.take_events() == [Dropped(DropReason.NO_ENDPOINT, 1)]
    inner = bytes([0x60, 0, 0, 0, 0, 0, 59, 64]) + bytes(16) + bytes.fromhex("fd00" + "00" * 13 + "02")
    ((endpoint, datagrams),) = ready.send([inner], NOW)
    assert endpoint == ENDPOINT
    assert opened(datagrams[0])[1] == inner.ljust(48, b"\0")


@pytest.mark.parametrize("data", [b"", b"\x45", bytes(20), b"\x45" + bytes(18), b"\x60" + bytes(38), b"\x50" * 60])
def test_what_is_not_an_ip_packet(ready: Outbound, data: bytes) -> None:
    assert ready.send([data], NOW) == []
    assert ready.take_events() == [Dropped(DropReason.MALFORMED_OUTGOING_PACKET, 1)]


@given(st.binary(max_size=100))
def test_garbage_raises_nothing(core: DatapathCore, data: bytes) -> None:
    outbound = Outbound(MTU, core)
    outbound.set_peer(PEER, ("0.0.0.0/0", "::/0"))
    outbound.set_endpoint(PEER, ENDPOINT)
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    outbound.send([data], NOW)


def test_a_destination_of_nobody(ready: Outbound) -> None:
    assert ready.send([packet(destination="10.1.0.1")] * 2, NOW) == []
    assert ready.take_events() == [Dropped(DropReason.NO_PEER_FOR_DESTINATION, 2)]


def test_packets_wait_for_a_keypair(outbound: Outbound) -> None:
    packets = [packet(bytes([n])) for n in range(3)]
    assert outbound.send(packets[:1], NOW) == []
    assert outbound.urgent
    assert outbound.take_events() == [HandshakeNeeded(PEER)]
    assert outbound.send(packets[1:], NOW) == []
    assert not outbound.urgent
    assert outbound.take_events() == [HandshakeNeeded(PEER)]
    ((_, datagrams),) = outbound.use_keypair(PEER, KEYPAIR, NOW)
    assert [opened(datagram)[1][:21] for datagram in datagrams] == packets


def test_an_initiator_confirms_its_keypair(outbound: Outbound) -> None:
    """With an empty packet if there is nothing else, so that the responder may send."""
    keypair = replace(KEYPAIR, initiator=True)
    ((_, (datagram,)),) = outbound.use_keypair(PEER, keypair, NOW)
    assert opened(datagram) == (0, b"")
    outbound.remove_keypair(PEER, keypair.local_index)
    outbound.send([packet()], NOW)
    ((_, (datagram,)),) = outbound.use_keypair(PEER, replace(keypair, local_index=8, created_at=NOW), NOW)
    assert opened(datagram)[1][:25] == packet()


def test_a_counter_is_never_used_twice(ready: Outbound) -> None:
    """A keypair is taken up once: the command may come twice, by two ways, and later than that for a newer keypair."""

    def counter() -> int:
        ((_, (datagram,)),) = ready.send([packet()], NOW)
        return int.from_bytes(datagram[8:16], "little")

    first = counter()
    assert ready.use_keypair(PEER, KEYPAIR, NOW) == []
    assert counter() == first + 1
    together = replace(KEYPAIR, local_index=8)
    ready.use_keypair(PEER, together, NOW)
    assert counter() == 0
    ready.use_keypair(PEER, KEYPAIR, NOW)
    assert counter() == 1
    newer = replace(KEYPAIR, local_index=10, remote_index=11, created_at=NOW)
    ready.use_keypair(PEER, newer, NOW)
    assert counter() == 0
    for keypair in (KEYPAIR, together, newer):
        ready.use_keypair(PEER, keypair, NOW)
    assert counter() == 1


def test_the_oldest_staged_packets_give_way(outbound: Outbound) -> None:
    for n in range(STAGED_PACKETS + 2):
        outbound.send([packet(n.to_bytes(2, "big"))], NOW)
    assert Dropped(DropReason.STAGED_QUEUE_FULL, 2) in outbound.take_events()
    ((_, datagrams),) = outbound.use_keypair(PEER, KEYPAIR, NOW)
    numbers = [int.from_bytes(opened(datagram)[1][20:22], "big") for datagram in datagrams]
    assert numbers == list(range(2, STAGED_PACKETS + 2))


def test_staged_packets_are_dropped_by_command_and_with_the_peer(outbound: Outbound) -> None:
    outbound.send([packet()], NOW)
    outbound.drop_staged(PEER, DropReason.HANDSHAKE_GAVE_UP)
    outbound.send([packet()], NOW)
    outbound.remove_peer(PEER)
    events = outbound.take_events()
    assert Dropped(DropReason.HANDSHAKE_GAVE_UP, 1) in events
    assert Dropped(DropReason.PEER_REMOVED, 1) in events
    assert outbound.use_keypair(PEER, KEYPAIR, NOW) == []


def test_a_keypair_is_refused_when_it_is_too_old(ready: Outbound) -> None:
    end = KEYPAIR.created_at + REJECT_AFTER_TIME
    assert ready.send([packet()], end - 0.001)
    assert ready.send([packet()], end) == []
    assert HandshakeNeeded(PEER) in ready.take_events()


def test_a_keypair_is_refused_when_it_is_used_up(ready: Outbound) -> None:
    session = ready._peers[PEER].session
    assert session is not None
    session.sealer.counter = REJECT_AFTER_MESSAGES - 1
    assert ready.send([packet()] * 2, NOW) == []
    assert HandshakeNeeded(PEER) in ready.take_events()


def test_a_removed_keypair_is_not_used(ready: Outbound) -> None:
    ready.remove_keypair(PEER, KEYPAIR.local_index + 1)
    assert ready.send([packet()], NOW)
    ready.remove_keypair(PEER, KEYPAIR.local_index)
    assert ready.send([packet()], NOW) == []


def test_an_empty_packet_and_its_report(ready: Outbound) -> None:
    ((_, (datagram,)),) = ready.send_keepalive(PEER, NOW)
    assert len(datagram) == 32
    assert opened(datagram) == (0, b"")
    assert ready.urgent
    assert ready.take_events() == [KeepaliveSent(PEER, NOW)]
    assert not ready.urgent


def test_a_keepalive_without_a_keypair_asks_for_one(outbound: Outbound) -> None:
    assert outbound.send_keepalive(PEER, NOW) == []
    assert outbound.take_events() == [HandshakeNeeded(PEER)]


def test_a_report_sums_up_whole_datagrams(ready: Outbound) -> None:
    batches = ready.send([packet()] * 3, NOW) + ready.send([packet(b"x" * 100)], NOW)
    size = sum(len(datagram) for _, datagrams in batches for datagram in datagrams)
    assert ready.take_events() == [DataSent(PEER, 4, size, KEYPAIR.local_index, NOW)]
    assert ready.take_events() == []


def test_other_allowed_ips_leave_the_session(ready: Outbound) -> None:
    ready.set_peer(PEER, ("10.7.0.0/16",))
    assert ready.send([packet()], NOW) == []
    ((_, (datagram,)),) = ready.send([packet(destination="10.7.0.1")], NOW)
    assert opened(datagram)[0] == 0


def test_the_next_packet_goes_to_a_new_endpoint(ready: Outbound) -> None:
    ready.set_endpoint(PEER, ("2001:db8::1", 1))
    ((endpoint, _),) = ready.send([packet()], NOW)
    assert endpoint == ("2001:db8::1", 1)


def test_commands_for_a_peer_that_is_gone_do_nothing(outbound: Outbound) -> None:
    gone = b"g" * 32
    outbound.remove_peer(gone)
    outbound.set_endpoint(gone, ENDPOINT)
    outbound.remove_keypair(gone, 1)
    outbound.drop_staged(gone, DropReason.HANDSHAKE_GAVE_UP)
    assert outbound.send_keepalive(gone, NOW) == []
    assert outbound.send([], NOW) == []
    assert outbound.take_events() == []


def test_padding_follows_the_mtu(outbound: Outbound) -> None:
    """On the session that is up, and on those to come. The counter goes on."""
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    lengths = []
    for mtu in (MTU, 1283, 1500):
        outbound.set_mtu(mtu)
        ((_endpoint, datagrams),) = outbound.send([packet(bytes(1275 - 20))], NOW)
        lengths.append((opened(bytes(datagrams[0]))[0], len(datagrams[0]) - 32))
    assert lengths == [(0, 1280), (1, 1280), (2, 1280)]
    outbound.set_mtu(1277)
    ((_endpoint, datagrams),) = outbound.send([packet(bytes(1275 - 20))], NOW)
    assert len(datagrams[0]) - 32 == 1277
    other = replace(KEYPAIR, local_index=8, created_at=KEYPAIR.created_at + 1)
    outbound.use_keypair(PEER, other, NOW)
    ((_endpoint, datagrams),) = outbound.send([packet(bytes(1275 - 20))], NOW)
    assert len(datagrams[0]) - 32 == 1277


def udp(source_port: int, destination_port: int, destination: str = ENDPOINT[0]) -> bytes:
    return packet(struct.pack("!HHHH", source_port, destination_port, 8, 0), destination)


def test_what_was_sealed_is_not_sealed_again(outbound: Outbound) -> None:
    """The way to the endpoint leads into the tunnel. Other traffic to that host may well go through it."""
    outbound.port = 4000
    outbound.set_peer(PEER, ("0.0.0.0/0",))
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    own, others = udp(4000, ENDPOINT[1]), [udp(4001, ENDPOINT[1]), udp(4000, 53), packet(b"12345678", ENDPOINT[0])]
    assert outbound.send([own, own], NOW) == []
    ((_endpoint, datagrams),) = outbound.send([own, *others], NOW)
    assert [opened(bytes(datagram))[1][: len(other)] for datagram, other in zip(datagrams, others)] == others
    assert Dropped(DropReason.ROUTING_LOOP, 3) in outbound.take_events()
    # Once the endpoint is elsewhere, it is traffic like any other.
    outbound.set_endpoint(PEER, ("203.0.113.1", 1))
    ((_endpoint, datagrams),) = outbound.send([own], NOW)
    assert len(datagrams) == 1


def test_what_was_sealed_is_known_in_ipv6_too(outbound: Outbound) -> None:
    outbound.port = 4000
    outbound.set_peer(PEER, ("::/0",))
    outbound.set_endpoint(PEER, ("2001:db8::1", 5))
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    address = bytes.fromhex("20010db8000000000000000000000001")

    def ipv6(protocol: int, *ports: int) -> bytes:
        return struct.pack("!IHBB16s16sHHHH", 6 << 28, 8, protocol, 64, bytes(16), address, *ports, 8, 0)

    assert outbound.send([ipv6(17, 4000, 5)], NOW) == []
    ((_endpoint, datagrams),) = outbound.send([ipv6(17, 4000, 6), ipv6(6, 4000, 5)], NOW)
    assert len(datagrams) == 2


@given(st.binary(min_size=20, max_size=60))
def test_any_packet_to_the_endpoint(content: bytes) -> None:
    outbound = Outbound(MTU)
    outbound.set_peer(PEER, ("0.0.0.0/0",))
    outbound.set_endpoint(PEER, ENDPOINT)
    outbound.use_keypair(PEER, KEYPAIR, NOW)
    header = bytearray(content)
    header[0] = 0x40 | header[0] & 15
    header[16:20] = bytes(int(part) for part in ENDPOINT[0].split("."))
    assert len(outbound.send([bytes(header)], NOW)) == 1
