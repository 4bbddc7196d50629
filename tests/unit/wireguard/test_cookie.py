"""Under load: cookies and the limiter (whitepaper section 5.3)."""

from __future__ import annotations

import random

import pytest
from tests.unit.wireguard.network import Host, Network, with_mac1

from sennit.wireguard.constants import (
    COOKIE_REPLY_LENGTH,
    HANDSHAKE_QUEUE_CAPACITY,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    UNDER_LOAD_FAILURES,
    UNDER_LOAD_QUEUE_LENGTH,
)
from sennit.wireguard.cookie import CookieChecker, CookieJar, Mac1Checker
from sennit.wireguard.errors import DropReason, PacketError
from sennit.wireguard.events import AskForCookies, DataReceived, Dropped, HandshakeReceived, SendDatagram
from sennit.wireguard.load import LoadMonitor, RateLimiter
from sennit.wireguard.messages import CookieReply

NO_MAC2 = bytes(16)


def keep_under_load(host: Host) -> None:
    host.device.control._load.under_load = lambda now: True


def test_a_responder_under_load_asks_for_a_cookie(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(two)
    one.send(two)
    network.deliver()
    assert [datagram.type for datagram in network.log] == [TYPE_INITIATION, TYPE_COOKIE_REPLY]
    assert len(network.log[1].data) == COOKIE_REPLY_LENGTH
    assert two.device.drops == {DropReason.COOKIE_REQUIRED: 1}
    network.elapse(6)
    first, second = network.sent(TYPE_INITIATION)
    assert first.data[-16:] == NO_MAC2 != second.data[-16:]
    assert second.sent_at - first.sent_at >= 5, "a cookie must not be answered at once"
    assert two.payloads() == [b"hello"]


def test_an_initiator_under_load_asks_for_a_cookie(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(one)
    one.send(two)
    network.deliver()
    assert [datagram.type for datagram in network.log] == [TYPE_INITIATION, TYPE_RESPONSE, TYPE_COOKIE_REPLY]
    network.elapse(6)
    assert network.sent(TYPE_RESPONSE)[1].data[-16:] != NO_MAC2
    assert two.payloads() == [b"hello"]


def test_both_under_load(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(one)
    keep_under_load(two)
    one.send(two, b"from one")
    two.send(one, b"from two")
    network.elapse(20)
    assert one.payloads() == [b"from two"]
    assert two.payloads() == [b"from one"]


def test_many_waiting_handshakes_are_load_for_a_second(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    (initiation,) = network.take_in_flight()
    messages = [b"\1\0\0\0" + network.random.randbytes(112) for _ in range(UNDER_LOAD_QUEUE_LENGTH - 1)]
    flood = [with_mac1(message, two) for message in messages]
    two.device.receive(flood, ("203.0.113.1", 1), network.now, network.wall)
    assert set(two.device.drops) == {DropReason.HANDSHAKE_AUTHENTICATION}
    output = two.device.receive([*flood, initiation.data], one.endpoint, network.now, network.wall)
    assert two.device.drops[DropReason.COOKIE_REQUIRED] == len(output.datagrams) == UNDER_LOAD_QUEUE_LENGTH
    network.now += 0.9
    assert [data[0] for data, _ in two.device.receive(flood[:1], one.endpoint, network.now, 0.0).datagrams] == [3]
    network.now += 0.2
    assert two.device.receive(flood[:1], one.endpoint, network.now, 0.0).datagrams == []
    two.take(initiation.data, initiation.source)
    network.deliver()
    assert two.payloads() == [b"hello"]


def test_handshakes_that_cost_their_sums_for_nothing_are_load(network: Network, pair: tuple[Host, Host]) -> None:
    """However few of them wait at a time. Good ones do not count, and with a cookie they come through."""
    one, two = pair
    now, attacker = network.now, ("203.0.113.1", 1)

    def bad() -> bytes:
        return with_mac1(b"\1\0\0\0" + network.random.randbytes(112), two)

    for number in range(UNDER_LOAD_FAILURES - 1):
        two.device.receive([bad()], attacker, now + number / 200, network.wall)
    assert two.device.drops == {DropReason.HANDSHAKE_AUTHENTICATION: UNDER_LOAD_FAILURES - 1}
    network.now += 1.1
    for _ in range(UNDER_LOAD_FAILURES):
        assert two.device.receive([bad()], attacker, network.now, network.wall).datagrams == []
    assert [data[0] for data, _ in two.device.receive([bad()], attacker, network.now, network.wall).datagrams] == [3]
    one.send(two)
    network.deliver()
    assert one.device.control._peers[two.public_key].cookies._cookie
    for _ in range(60):
        for _ in range(20):
            two.device.receive([bad()], attacker, network.now, network.wall)
        network.elapse(0.1)
    assert two.payloads() == [b"hello"]


def test_handshakes_queue_up_and_are_handled_a_few_at_a_time(network: Network, session: tuple[Host, Host]) -> None:
    """A session that is up does not wait for them."""
    one, two = session
    control = two.device.control
    flood = [with_mac1(b"\1\0\0\0" + network.random.randbytes(112), two) for _ in range(HANDSHAKE_QUEUE_CAPACITY + 3)]
    for datagram in flood:
        control.receive(HandshakeReceived(datagram, ("203.0.113.1", 1)), network.now, network.wall)
    assert control.drops == {DropReason.HANDSHAKE_QUEUE_FULL: 3}
    received = control.status()[one.public_key].rx_bytes
    index = control._peers[one.public_key].keypairs.current.local_index
    control.receive(DataReceived(one.public_key, 1, 96, index, one.endpoint, network.now), network.now, network.wall)
    assert control.status()[one.public_key].rx_bytes == received + 96
    control.handle_handshakes(network.now, network.wall, 16)
    assert control.handshakes_waiting() == HANDSHAKE_QUEUE_CAPACITY - 16
    assert len([each for each in control.take_commands() if isinstance(each, SendDatagram)]) == 16
    control.handle_handshakes(network.now, network.wall)
    assert control.handshakes_waiting() == 0
    assert control.drops[DropReason.COOKIE_REQUIRED] == HANDSHAKE_QUEUE_CAPACITY


def test_without_mac1_there_is_no_answer_even_under_load(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(two)
    one.send(two)
    (initiation,) = network.take_in_flight()
    for position in range(132):
        forged = bytearray(initiation.data)
        forged[position] ^= 1
        two.take(bytes(forged), one.endpoint)
    assert not network.in_flight
    assert sum(two.device.drops.values()) == 132


def test_a_cookie_belongs_to_an_address_and_a_port(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(two)
    one.send(two)
    network.deliver()
    network.lose = lambda datagram: True
    network.elapse(6)
    again = network.sent(TYPE_INITIATION)[-1]
    for source in (("192.0.2.9", 51820), ("192.0.2.1", 51821)):
        two.take(again.data, source)
    assert two.device.drops == {DropReason.COOKIE_REQUIRED: 3}
    two.take(again.data, again.source)
    assert network.sent(TYPE_RESPONSE)


def test_cookie_replies_that_answer_nothing_are_refused(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    keep_under_load(two)
    one.send(two)
    network.deliver_one()
    (reply,) = network.take_in_flight()
    for position in range(8, COOKIE_REPLY_LENGTH):
        forged = bytearray(reply.data)
        forged[position] ^= 1
        one.take(bytes(forged), reply.source)
    assert one.device.drops == {DropReason.INVALID_COOKIE_REPLY: 56}
    one.take(reply.data, reply.source)
    assert sum(one.device.drops.values()) == 56
    one.take(reply.data, reply.source)
    assert one.device.drops == {DropReason.INVALID_COOKIE_REPLY: 57}
    one.take(reply.data[:4] + bytes(4) + reply.data[8:], reply.source)
    assert one.device.drops[DropReason.UNKNOWN_INDEX] == 1


def test_the_life_of_a_cookie() -> None:
    public, source = bytes(range(32)), ("192.0.2.1", 51820)
    checker, jar = CookieChecker(public, random.Random(1).randbytes), CookieJar(public)
    first = jar.add_macs(b"message", 0.0)
    assert first[-16:] == NO_MAC2
    assert Mac1Checker(public).valid(first)
    assert not Mac1Checker(bytes(32)).valid(first)
    assert not checker.has_valid_mac2(first, source, 0.0)
    reply = CookieReply.parse(checker.reply(first, 7, source, 0.0))
    assert reply.receiver == 7
    jar.consume(reply, 0.0)
    with pytest.raises(PacketError):
        jar.consume(reply, 0.0)
    for now, mac2, valid in ((114.9, True, True), (115.1, False, False)):
        message = jar.add_macs(b"message", now)
        assert (message[-16:] != NO_MAC2) == mac2
        assert checker.has_valid_mac2(message, source, now) == valid
    old = jar.add_macs(b"message", 100.0)
    assert checker.has_valid_mac2(old, source, 119.9)
    assert not checker.has_valid_mac2(old, source, 120.0)
    checker.reply(first, 7, source, 121.0)
    assert not checker.has_valid_mac2(old, source, 121.0)


def test_load_is_sticky() -> None:
    monitor = LoadMonitor()
    monitor.handshakes_waiting(127, 10.0)
    assert not monitor.under_load(10.0)
    monitor.handshakes_waiting(128, 10.0)
    monitor.handshakes_waiting(0, 10.5)
    assert monitor.under_load(10.9)
    assert not monitor.under_load(11.0)


def test_the_limiter_allows_a_burst_of_5_and_20_a_second() -> None:
    limiter = RateLimiter()
    assert [limiter.allow("192.0.2.1", 1.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.allow("192.0.2.2", 1.0)
    assert [limiter.allow("192.0.2.1", 1.0501) for _ in range(2)] == [True, False]
    assert [limiter.allow("192.0.2.1", 1.1502) for _ in range(3)] == [True, True, False]
    allowed = sum(limiter.allow("192.0.2.1", 2.0 + number / 1000) for number in range(10_000))
    assert 200 <= allowed <= 206


def test_the_limiter_takes_an_ipv6_host_as_its_network() -> None:
    limiter = RateLimiter()
    assert sum(limiter.allow(f"2001:db8::{number:x}", 1.0) for number in range(100)) == 5
    assert limiter.allow("2001:db8:0:1::1", 1.0)
    assert limiter.allow("fe80::1%eth0", 1.0)


def test_the_limiter_does_not_grow_without_end() -> None:
    limiter = RateLimiter()
    sources = [f"10.{a}.{b}.{c}" for a in range(4) for b in range(16) for c in range(256)]
    assert sum(limiter.allow(source, 1.0) for source in sources) == 8192
    assert limiter.allow(sources[0], 1.0)
    assert limiter.allow(sources[-1], 1.2)
    assert len(limiter._full_at) < 10


def test_an_established_source_is_limited_under_load(network: Network, pair: tuple[Host, Host]) -> None:
    """A valid mac2 does not give leave to flood."""
    one, two = pair
    keep_under_load(two)
    one.send(two)
    network.deliver()
    network.elapse(5)
    jar = one.device.control._peers[two.public_key].cookies
    for _ in range(20):
        message = b"\1\0\0\0" + network.random.randbytes(112)
        two.take(jar.add_macs(message, network.now), one.endpoint)
    assert two.device.drops[DropReason.HANDSHAKE_AUTHENTICATION] == 5
    assert two.device.drops[DropReason.RATE_LIMITED] == 15


def asked(host: Host) -> list[AskForCookies]:
    return [command for command in host.device.control.take_commands() if isinstance(command, AskForCookies)]


def test_the_inbound_half_asks_for_cookies_as_long_as_it_gives_many(network: Network, pair: tuple[Host, Host]) -> None:
    """It tells once a second, and before that is over it is told to go on; of secrets that control changes."""
    _one, two = pair
    control = two.device.control
    many = Dropped(DropReason.COOKIE_REQUIRED, UNDER_LOAD_FAILURES)
    told: list[AskForCookies] = []
    for _second in range(130):
        control.receive(many, network.now, network.wall)
        told += asked(two)
        secret, expires = control._checker.secret(network.now)
        assert told[-1].secret == secret
        assert told[-1].until >= min(network.now + 1, expires)
        network.now += 1
    network.now += 2
    control.receive(Dropped(DropReason.COOKIE_REQUIRED, UNDER_LOAD_FAILURES - 1), network.now, network.wall)
    assert not asked(two)
    assert not control._load.under_load(network.now)


def test_another_private_key_makes_other_cookies(network: Network, pair: tuple[Host, Host]) -> None:
    _one, two = pair
    control = two.device.control
    for key in (bytes([1]) * 32, bytes([2]) * 32):
        control.set_private_key(key)
        control.receive(Dropped(DropReason.COOKIE_REQUIRED, UNDER_LOAD_FAILURES), network.now, network.wall)
        assert len(asked(two)) == 1


def test_a_flood_costs_its_sums_at_the_beginning_only(network: Network, pair: tuple[Host, Host]) -> None:
    _one, two = pair
    for _message in range(5000):
        bad = with_mac1(b"\1\0\0\0" + network.random.randbytes(112), two)
        two.device.receive([bad], ("203.0.113.1", 1), network.now, network.wall)
        network.now += 0.001
    assert two.device.drops[DropReason.HANDSHAKE_AUTHENTICATION] == UNDER_LOAD_FAILURES
