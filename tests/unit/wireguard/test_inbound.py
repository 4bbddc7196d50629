"""The receiving half alone: what it lets through, what it refuses and why, and what it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wireguard.network import ipv4

from sennit.datapath.core import DatapathCore
from sennit.wireguard import aead
from sennit.wireguard.constants import (
    COOKIE_REPLY_LENGTH,
    COOKIES_AT_ONCE,
    COOKIES_EACH,
    COOKIES_TIME,
    HANDSHAKE_QUEUE_CAPACITY,
    INITIATION_LENGTH,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    REPLAY_WINDOW,
    RESPONSE_LENGTH,
)
from sennit.wireguard.cookie import CookieChecker, CookieJar
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import (
    AskForCookies,
    DataReceived,
    Dropped,
    HandshakeReceived,
    KeepaliveReceived,
    SetEndpoint,
    UseKeypair,
)
from sennit.wireguard.inbound import Inbound
from sennit.wireguard.keypair import Keypair
from sennit.wireguard.messages import CookieReply

PEER, OTHER, US = b"p" * 32, b"o" * 32, b"u" * 32
SOURCE = ("198.51.100.1", 51820)
KEYPAIR = Keypair(b"s" * 32, b"r" * 32, 7, 9, 100.0, initiator=False)
NOW = 101.0
INNER = ipv4("10.0.0.1", "10.0.0.2", b"hello")
INNER_V6 = (
    bytes([0x60, 0, 0, 0, 0, 5, 59, 64])
    + bytes.fromhex("fd00" + "00" * 13 + "01")
    + bytes.fromhex("fd" * 16)
    + b"hello"
)


def sealed(content: bytes, counter: int = 0, keypair: Keypair = KEYPAIR) -> bytes:
    """A datagram as the whitepaper describes it."""
    number = counter.to_bytes(8, "little")
    header = b"\4\0\0\0" + keypair.local_index.to_bytes(4, "little") + number
    return header + aead.new_aead(keypair.receive_key).encrypt(bytes(4) + number, content, None)


def make_inbound(core: DatapathCore) -> Inbound:
    inbound = Inbound(core)
    inbound.set_identity(US)
    inbound.set_peer(PEER, ("10.0.0.1/32", "fd00::1/128"))
    inbound.set_peer(OTHER, ("10.0.0.3/32",))
    inbound.install_keypair(PEER, KEYPAIR)
    return inbound


@pytest.fixture
def inbound(core: DatapathCore) -> Inbound:
    return make_inbound(core)


def refused(inbound: Inbound, datagram: bytes, now: float = NOW) -> DropReason:
    """Why it was dropped."""
    inbound.take_events()
    assert inbound.receive([datagram], SOURCE, now) == []
    (drop,) = [event for event in inbound.take_events() if isinstance(event, Dropped)]
    assert drop.count == 1
    return drop.reason


def test_packets_in_order_without_their_padding(inbound: Inbound) -> None:
    datagrams = [sealed(INNER.ljust(32, b"\0"), 0), sealed(INNER_V6, 1), sealed(INNER, 2)]
    assert inbound.receive(datagrams, SOURCE, NOW) == [INNER, INNER_V6, INNER]
    size = sum(map(len, datagrams))
    assert inbound.take_events() == [DataReceived(PEER, 3, size, KEYPAIR.local_index, SOURCE, NOW)]


def test_views_of_one_buffer(inbound: Inbound) -> None:
    one, two = sealed(INNER, 0), sealed(INNER, 1)
    view = memoryview(bytearray(one + two))
    assert inbound.receive([view[: len(one)], view[len(one) :]], SOURCE, NOW) == [INNER, INNER]


def test_the_first_packet_on_a_keypair_is_urgent(inbound: Inbound) -> None:
    inbound.receive([sealed(INNER, 0)], SOURCE, NOW)
    assert inbound.urgent
    inbound.take_events()
    inbound.receive([sealed(INNER, 1)], SOURCE, NOW)
    assert not inbound.urgent


def test_what_must_be_known_before_the_packets_are_answered(inbound: Inbound) -> None:
    """A responder's keypair is confirmed by its first packet, an initiator's is in use already."""
    assert inbound.take_commands() == []
    inbound.receive([sealed(INNER, 0)], SOURCE, NOW)
    assert inbound.take_commands() == [SetEndpoint(PEER, SOURCE), UseKeypair(PEER, KEYPAIR)]
    inbound.receive([sealed(INNER, 1)], SOURCE, NOW)
    assert inbound.take_commands() == []
    overtaken = replace(KEYPAIR, local_index=10)
    as_initiator = replace(KEYPAIR, local_index=8, initiator=True)
    inbound.install_keypair(PEER, overtaken)
    inbound.install_keypair(PEER, as_initiator)
    inbound.receive([sealed(INNER, 0, overtaken)], SOURCE, NOW)
    assert inbound.take_commands() == [SetEndpoint(PEER, SOURCE)]
    elsewhere = ("198.51.100.2", 51820)
    inbound.receive([sealed(INNER, 0, as_initiator)], elsewhere, NOW)
    assert inbound.take_commands() == [SetEndpoint(PEER, elsewhere)]


def test_a_keepalive_is_reported_and_not_passed_on(inbound: Inbound) -> None:
    assert inbound.receive([sealed(b"", 0)], SOURCE, NOW) == []
    assert inbound.urgent
    assert inbound.take_events() == [KeepaliveReceived(PEER, KEYPAIR.local_index, SOURCE, NOW)]
    assert inbound.take_events() == []


def test_the_newest_source_is_reported(inbound: Inbound) -> None:
    inbound.receive([sealed(INNER, 0)], SOURCE, NOW)
    inbound.receive([sealed(INNER, 1)], ("2001:db8::1", 1), NOW)
    (event,) = inbound.take_events()
    assert isinstance(event, DataReceived)
    assert event.endpoint == ("2001:db8::1", 1)


@pytest.mark.parametrize("kind", [0, 4, 5, 255])
@pytest.mark.parametrize("length", range(32))
def test_too_short_for_anything(inbound: Inbound, kind: int, length: int) -> None:
    assert refused(inbound, bytes([kind] * (length > 0)).ljust(length, b"\0")) is DropReason.WRONG_LENGTH


def test_reserved_bytes_must_be_zero(inbound: Inbound) -> None:
    datagram = bytearray(sealed(INNER))
    datagram[2] = 1
    assert refused(inbound, bytes(datagram)) is DropReason.UNKNOWN_TYPE


def test_an_index_of_nobody(inbound: Inbound) -> None:
    stranger = Keypair(b"s" * 32, b"r" * 32, 8, 9, 100.0, initiator=False)
    assert refused(inbound, sealed(INNER, keypair=stranger)) is DropReason.UNKNOWN_INDEX


def test_an_expired_keypair(inbound: Inbound) -> None:
    end = KEYPAIR.created_at + REJECT_AFTER_TIME
    assert inbound.receive([sealed(INNER, 0)], SOURCE, end - 0.001) == [INNER]
    assert refused(inbound, sealed(INNER, 1), end) is DropReason.EXPIRED_KEYPAIR


def test_a_counter_beyond_the_limit(inbound: Inbound) -> None:
    assert refused(inbound, sealed(INNER, REJECT_AFTER_MESSAGES)) is DropReason.COUNTER_LIMIT


@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_is_refused(core: DatapathCore, position: int, flip: int) -> None:
    datagram = bytearray(sealed(INNER))
    datagram[position % len(datagram)] ^= flip
    refused(make_inbound(core), bytes(datagram))


@pytest.mark.parametrize("length", range(len(sealed(INNER))))
def test_truncation_at_every_length_is_refused(inbound: Inbound, length: int) -> None:
    refused(inbound, sealed(INNER)[:length])


def test_replays(inbound: Inbound) -> None:
    newest = 20_000
    assert inbound.receive([sealed(INNER, newest)], SOURCE, NOW) == [INNER]
    assert refused(inbound, sealed(INNER, newest)) is DropReason.REPLAYED_COUNTER
    assert refused(inbound, sealed(INNER, newest - REPLAY_WINDOW - 1)) is DropReason.REPLAYED_COUNTER
    assert inbound.receive([sealed(INNER, newest - REPLAY_WINDOW)], SOURCE, NOW) == [INNER]


def test_a_forgery_does_not_use_up_its_counter(inbound: Inbound) -> None:
    forged = sealed(INNER, 3)[:-1] + b"\0"
    inbound.receive([forged], SOURCE, NOW)
    assert inbound.receive([sealed(INNER, 3)], SOURCE, NOW) == [INNER]


@pytest.mark.parametrize(
    "content",
    [
        b"\x45",
        INNER[:19],
        INNER[:-1],
        b"\x45\0\0\x13" + INNER[4:],
        b"\x50" + INNER[1:],
        bytes(64),
        INNER_V6[:39],
        INNER_V6[:-1],
    ],
)
def test_a_malformed_inner_packet(inbound: Inbound, content: bytes) -> None:
    assert refused(inbound, sealed(content)) is DropReason.MALFORMED_INNER_PACKET


@pytest.mark.parametrize("source", ["10.0.0.3", "10.9.9.9"])
def test_a_source_the_peer_may_not_use(inbound: Inbound, source: str) -> None:
    assert refused(inbound, sealed(ipv4(source, "10.0.0.2"))) is DropReason.SOURCE_NOT_ALLOWED


def test_what_a_refused_packet_still_says(inbound: Inbound) -> None:
    """It was authenticated, so the peer is alive, and there."""
    inbound.receive([sealed(b"\x45")], SOURCE, NOW)
    assert any(isinstance(event, DataReceived) for event in inbound.take_events())


def test_a_refused_packet_does_not_hold_up_the_rest(inbound: Inbound) -> None:
    datagrams = [sealed(INNER, 0), sealed(INNER, 0), b"x", sealed(INNER, 1)]
    assert inbound.receive(datagrams, SOURCE, NOW) == [INNER, INNER]


def for_us(kind: int, length: int) -> bytes:
    """A handshake message that shows its sender to know our public key, where its type can show that."""
    message = bytes([kind]).ljust(length, b"\0")
    return message if kind == 3 else CookieJar(US).add_macs(message[:-32], 0.0)


def test_whoever_does_not_know_our_key_is_not_passed_on(inbound: Inbound) -> None:
    for message in (for_us(1, INITIATION_LENGTH), for_us(2, RESPONSE_LENGTH)):
        for position in range(4, len(message) - 16):
            forged = bytearray(message)
            forged[position] ^= 1
            assert refused(inbound, bytes(forged)) is DropReason.INVALID_MAC1
    inbound.set_identity(OTHER)
    assert refused(inbound, for_us(1, INITIATION_LENGTH)) is DropReason.INVALID_MAC1


def test_without_an_identity_no_handshake_is_for_us(core: DatapathCore) -> None:
    inbound = Inbound(core)
    inbound.set_peer(PEER, ())
    assert refused(inbound, for_us(1, INITIATION_LENGTH)) is DropReason.INVALID_MAC1


@pytest.mark.parametrize(("kind", "length"), [(1, INITIATION_LENGTH), (2, RESPONSE_LENGTH), (3, COOKIE_REPLY_LENGTH)])
def test_handshake_messages_are_passed_on_whole(inbound: Inbound, kind: int, length: int) -> None:
    message = for_us(kind, length)
    assert inbound.receive([memoryview(message)], SOURCE, NOW) == []
    assert inbound.urgent
    assert inbound.take_events() == [HandshakeReceived(message, SOURCE)]
    assert refused(inbound, message + b"\0") is DropReason.WRONG_LENGTH
    assert refused(inbound, message[:-1]) is DropReason.WRONG_LENGTH


def test_handshake_messages_that_come_thick_go_together(inbound: Inbound) -> None:
    message = for_us(1, INITIATION_LENGTH)
    told, now = [], NOW
    for _millisecond in range(100):
        now += 0.001
        inbound.receive([message] * 5, SOURCE, now)
        assert inbound.urgent or now <= inbound.due <= now + 0.02
        if inbound.urgent or now >= inbound.due:
            told.append(len(inbound.take_events()))
            assert (inbound.urgent, inbound.due) == (False, float("inf"))
    assert told[0] == 5
    assert 8 <= len(told) <= 12
    now += 1
    inbound.receive([message], SOURCE, now)
    assert inbound.urgent


def test_handshake_messages_queue_up_to_a_limit(inbound: Inbound) -> None:
    message = for_us(1, INITIATION_LENGTH)
    inbound.receive([message] * (HANDSHAKE_QUEUE_CAPACITY + 2), SOURCE, NOW)
    events = inbound.take_events()
    assert len(events) == HANDSHAKE_QUEUE_CAPACITY + 1
    assert events[-1] == Dropped(DropReason.HANDSHAKE_QUEUE_FULL, 2)


def askers(inbound: Inbound) -> Counter[int]:
    """By port, how many handshake messages were passed on since the last call."""
    return Counter(event.source[1] for event in inbound.take_events() if isinstance(event, HandshakeReceived))


def receive_from(inbound: Inbound, ports: Iterable[int], message: bytes, now: float) -> None:
    for port in ports:
        inbound.receive([message], (SOURCE[0], port), now)


def test_under_load_a_flood_gets_few_cookies_and_other_sources_get_theirs(inbound: Inbound) -> None:
    initiation, response = for_us(1, INITIATION_LENGTH), for_us(2, RESPONSE_LENGTH)
    inbound.ask_for_cookies(AskForCookies(b"s" * 32, NOW + 1))
    for now in (NOW, NOW + COOKIES_TIME):
        receive_from(inbound, [1] * 100 + [2], initiation, now)
        assert askers(inbound) == {1: COOKIES_EACH, 2: 1}
        receive_from(inbound, range(3, 100), initiation, now)
        assert askers(inbound).total() == COOKIES_AT_ONCE - COOKIES_EACH - 1
        receive_from(inbound, [2], response, now)
        assert askers(inbound) == {2: 1}
    receive_from(inbound, [1] * 100, initiation, NOW + 1)
    assert askers(inbound) == {1: 100}


def test_under_load_a_message_for_others_takes_nobodys_cookie(inbound: Inbound) -> None:
    inbound.ask_for_cookies(AskForCookies(b"s" * 32, NOW + 1))
    receive_from(inbound, range(100), for_us(1, INITIATION_LENGTH)[:-32] + bytes(32), NOW)
    assert inbound.take_events() == [Dropped(DropReason.INVALID_MAC1, 100)]
    receive_from(inbound, [1], for_us(1, INITIATION_LENGTH), NOW)
    assert askers(inbound) == {1: 1}


def test_under_load_whoever_has_a_cookie_comes_through(inbound: Inbound) -> None:
    checker = CookieChecker(US, bytes)
    secret, _expires = checker.secret(NOW)
    inbound.ask_for_cookies(AskForCookies(secret, NOW + 1))
    jar = CookieJar(US)
    message = b"\1\0\0\0" + bytes(INITIATION_LENGTH - 36)
    jar.consume(CookieReply.parse(checker.reply(jar.add_macs(message, NOW), 0, SOURCE, NOW)), NOW)
    receive_from(inbound, range(100), for_us(1, INITIATION_LENGTH), NOW)
    assert askers(inbound).total() == COOKIES_AT_ONCE
    receive_from(inbound, [SOURCE[1]] * 10 + [1] * 10, jar.add_macs(message, NOW), NOW)
    assert askers(inbound) == {SOURCE[1]: 10}


def test_several_keypairs_of_several_peers(inbound: Inbound) -> None:
    newer = Keypair(b"S" * 32, b"R" * 32, 8, 9, 100.0, initiator=True)
    others = Keypair(b"x" * 32, b"y" * 32, 9, 9, 100.0, initiator=True)
    inbound.install_keypair(PEER, newer)
    inbound.install_keypair(OTHER, others)
    theirs = ipv4("10.0.0.3", "10.0.0.2")
    datagrams = [sealed(INNER, 0), sealed(INNER, 0, newer), sealed(theirs, 0, others), sealed(INNER, 1)]
    assert inbound.receive(datagrams, SOURCE, NOW) == [INNER, INNER, theirs, INNER]
    assert {(event.peer, event.local_index) for event in inbound.take_events() if isinstance(event, DataReceived)} == {
        (PEER, 7),
        (PEER, 8),
        (OTHER, 9),
    }


def test_removed_keypairs_and_peers_receive_nothing(inbound: Inbound) -> None:
    inbound.remove_keypair(KEYPAIR.local_index)
    assert refused(inbound, sealed(INNER)) is DropReason.UNKNOWN_INDEX
    inbound.install_keypair(PEER, KEYPAIR)
    inbound.remove_peer(PEER)
    assert refused(inbound, sealed(INNER)) is DropReason.UNKNOWN_INDEX
    inbound.install_keypair(PEER, KEYPAIR)
    inbound.remove_keypair(KEYPAIR.local_index)
    inbound.remove_peer(PEER)
    assert inbound.take_events() == []


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda data: b"\4\0\0\0\7\0\0\0" + data)))
)
def test_garbage_raises_nothing(core: DatapathCore, datagrams: list[bytes]) -> None:
    assert make_inbound(core).receive(datagrams, SOURCE, NOW) == []


@given(st.binary(max_size=100), st.sampled_from([b"", b"\x45", b"\x60", b"\x45\0\0"]))
def test_authentic_garbage_raises_nothing(core: DatapathCore, data: bytes, start: bytes) -> None:
    inbound = make_inbound(core)
    for packet in inbound.receive([sealed(start + data)], SOURCE, NOW):
        assert packet[0] >> 4 in (4, 6)
