"""What the relay passes on, and for whom."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.unit.relay.relaying import RELAY, Relay, drops, know, relayed
from tests.unit.wireguard.network import Datagram, Network, is_keepalive

from sennit.relay.forwarding import ATTACHED_FOR, HOLDS_FOR, INITIATIONS, INITIATIONS_AT_ONCE, LEAST_BURST
from sennit.relay.offer import relay_private_key
from sennit.relay.routes import EXPIRE_AFTER
from sennit.wireguard.constants import (
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from sennit.wireguard.crypto import public_key_of


def test_two_nodes_talk_and_the_relay_changes_no_byte() -> None:
    network, relay, (one, two) = relayed()
    one.send(two, b"there")
    network.deliver()
    two.send(one, b"and back")
    network.deliver()
    assert (two.payloads(), one.payloads()) == ([b"there"], [b"and back"])
    for near, far in ((one, two), (two, one)):
        came = [each.data for each in network.log if each.source == near.endpoint]
        assert came == relay.sent_to(far)
    assert {each.source for each in network.log if each.destination != RELAY} == {RELAY}
    assert relay.forwarder.forwarded_packets == len(network.log) // 2
    assert relay.forwarder.forwarded_bytes == sum(len(each.data) for each in network.log) // 2
    assert drops(relay) == {}


def test_sessions_are_renewed_for_as_long_as_they_are_used() -> None:
    network, relay, (one, two) = relayed()
    for number in range(60):
        one.send(two, b"%d" % number)
        two.send(one, b"%d" % -number)
        network.elapse(10)
    assert two.payloads() == [b"%d" % number for number in range(60)]
    assert one.payloads() == [b"%d" % -number for number in range(60)]
    between = [each for each in network.log if each.type == TYPE_INITIATION and each.source == RELAY]
    assert len(between) >= 4
    assert drops(relay) == {}


def test_one_sided_traffic_keeps_its_route() -> None:
    network, relay, (one, two) = relayed()
    for _number in range(100):
        one.send(two)
        network.elapse(5)
    assert len(two.payloads()) == 100
    assert drops(relay) == {}


def test_a_cookie_reply_finds_its_way() -> None:
    network, _relay, (one, two) = relayed()
    two.device.control._load.under_load = lambda now: True  # type: ignore[method-assign]
    one.send(two, b"after a cookie")
    network.elapse(10)
    assert two.payloads() == [b"after a cookie"]
    assert [each.source for each in network.sent(TYPE_COOKIE_REPLY)] == [two.endpoint, RELAY]


def test_pairs_with_the_same_indices_do_not_meet() -> None:
    network = Network()
    relay = Relay(network)
    hosts = [network.host(number) for number in range(1, 5)]
    relay.serve(*hosts)
    relay.attach(*hosts)
    for pair in (hosts[:2], hosts[2:]):
        for number, host in enumerate(pair):
            # Whoever has the same place in its pair makes up the same indices.
            host.device.control._random = random.Random(number).randbytes
        know(*pair)
    for one, two in (hosts[:2], hosts[2:]):
        one.send(two, one.address.encode())
    network.deliver()
    for one, two in (hosts[:2], hosts[2:]):
        two.send(one, two.address.encode())
    network.deliver()
    indices = [each.data[4:8] for each in network.sent(TYPE_INITIATION) if each.source == RELAY]
    assert len(indices) == 2 and len(set(indices)) == 1
    for one, two in (hosts[:2], hosts[2:]):
        assert (one.payloads(), two.payloads()) == ([two.address.encode()], [one.address.encode()])


# --- who is attached


def test_a_stranger_gets_nothing() -> None:
    """Neither an answer nor anything forwarded, whether or not he knows the relay's key and the nodes'."""
    network, relay, (one, two) = relayed()
    stranger = network.host(66)
    know(stranger, one)
    relay.attach(stranger)
    stranger.send(one)
    one.send(two)
    network.elapse(100)
    seen = [each.data for each in network.log if each.destination == two.endpoint and each.type == TYPE_TRANSPORT]
    network.forget()
    for datagram in seen:
        relay.take(datagram, stranger.endpoint)
    network.deliver()
    assert [each for each in network.log if each.source == RELAY] == []
    assert stranger.public_key not in relay.forwarder.attached
    assert drops(relay)["unknown-peer"] > 0
    assert drops(relay)["sender-not-attached"] > 0
    assert one.payloads() == []


def test_a_node_is_not_reached_before_it_is_attached_and_not_after_it_was_silent() -> None:
    network = Network()
    relay = Relay(network)
    one, two = network.host(1), network.host(2)
    relay.serve(one, two)
    know(one, two)
    relay.attach(one)
    one.send(two)
    network.deliver()
    assert drops(relay) == {"recipient-not-attached": 1}
    relay.attach(two)
    network.elapse(6)
    assert len(two.payloads()) == 1
    assert set(relay.forwarder.take_changes()) == {one.public_key, two.public_key}
    network.lose = lambda datagram: datagram.source == two.endpoint
    network.elapse(ATTACHED_FOR + 40)
    assert relay.forwarder.take_changes() == {two.public_key: None}
    assert set(relay.forwarder.attached) == {one.public_key}
    network.lose = lambda datagram: False
    network.elapse(60)
    one.send(two, b"again")
    network.elapse(10)
    assert two.payloads()[-1:] == [b"again"]
    assert relay.forwarder.take_changes() == {two.public_key: two.endpoint}


def test_an_idle_relay_waits_for_nothing() -> None:
    network, relay, hosts = relayed()
    for host in hosts:
        del network.hosts[host.endpoint]
    network.elapse(1000)
    assert relay.forwarder.attached == {}
    assert relay.forwarder.next_deadline() is None


def test_a_node_that_moves_is_followed_when_it_has_proved_itself() -> None:
    network, relay, (one, two) = relayed()
    one.send(two)
    network.deliver()
    before = two.endpoint
    network.move(two, ("203.0.113.9", 9))
    network.forget()
    two.send(one, b"too early")
    network.deliver()
    assert one.payloads() == []
    assert drops(relay) == {"sender-not-attached": 1}
    network.elapse(26)
    assert relay.forwarder.take_changes()[two.public_key] == two.endpoint
    network.forget()
    two.send(one, b"here")
    network.deliver()
    one.send(two, b"there")
    network.deliver()
    assert (one.payloads()[-1], two.payloads()[-1]) == (b"here", b"there")
    assert [each for each in network.log if each.source == RELAY and each.destination == before] == []


def test_a_keepalive_that_is_played_again_moves_nobody() -> None:
    network, relay, (one, _two) = relayed()
    network.elapse(26)
    keepalive = next(each for each in network.log if is_keepalive(each) and each.source == one.endpoint)
    relay.take(keepalive.data, ("203.0.113.66", 666))
    assert relay.forwarder.attached[one.public_key] == one.endpoint


def test_who_comes_to_anothers_place_takes_it() -> None:
    """As behind a NAT that gives a port to somebody else."""
    network, relay, (one, two, three) = relayed(3)
    del network.hosts[two.endpoint]
    network.move(one, two.endpoint)
    network.elapse(HOLDS_FOR + 26)
    assert relay.forwarder.attached == {one.public_key: one.endpoint, three.public_key: three.endpoint}
    three.send(two, b"for two")
    three.send(one, b"for one")
    network.elapse(1)
    assert one.payloads() == [b"for one"]


def test_who_sends_with_anothers_address_does_not_get_what_is_for_the_other() -> None:
    network, relay, (one, two, mallory) = relayed(3)
    relay.forwarder.take_changes()

    def forge(datagram: Datagram) -> bool:
        forged = datagram.source == mallory.endpoint
        if forged:
            network.in_flight.append(replace(datagram, source=two.endpoint))
        return forged

    network.lose = forge
    for _round in range(50):
        network.elapse(7)
        one.send(two, b"for two alone")
        network.deliver()
        assert two.public_key not in relay.forwarder.take_changes()
    assert two.payloads() == [b"for two alone"] * 50
    assert mallory.public_key not in relay.forwarder.attached


def test_who_is_cut_off_is_so_at_once() -> None:
    network, relay, (one, two, three) = relayed(3)
    for near, far in ((one, two), (two, one), (two, three), (three, two)):
        near.send(far)
        network.deliver()
    for host in (one, two, three):
        host.payloads()
    relay.serve(one, three)
    network.forget()
    one.send(two)
    two.send(one)
    three.send(two)
    network.elapse(100)
    assert relay.sent_to(two) == []
    assert one.payloads() == three.payloads() == []
    assert relay.forwarder.take_changes()[two.public_key] is None
    one.send(three, b"still here")
    network.deliver()
    assert three.payloads() == [b"still here"]
    # Nothing of it is left when it comes back.
    relay.serve(one, two, three)
    assert relay.forwarder.routes._owners.keys().isdisjoint((two.public_key, index) for index in range(10))
    network.elapse(200)
    one.send(two, b"back")
    network.elapse(10)
    assert two.payloads()[-1:] == [b"back"]


def test_a_relay_that_is_started_anew_begins_with_who_was_attached() -> None:
    network, relay, (one, two) = relayed()
    one.send(two)
    network.deliver()
    two.payloads()
    paths = relay.forwarder.attached
    again = Relay(network)
    assert again.forwarder.public_key == relay.forwarder.public_key
    again.serve(one, two)
    again.send(again.forwarder.resume({**paths, b"nobody" * 5 + b"..": ("192.0.2.77", 7)}, network.now, network.wall))
    network.deliver()
    assert again.forwarder.attached == paths
    # The nodes find out by WireGuard's own timers that their session is not known here.
    one.send(two, b"lost")
    network.elapse(16)
    one.send(two, b"heard")
    network.elapse(6)
    assert two.payloads()[-1] == b"heard"
    network.elapse(400)
    assert again.forwarder.attached == paths


def test_a_relay_that_is_started_anew_goes_on_with_the_sessions_of_the_nodes_that_it_serves() -> None:
    network, relay, (one, two, three) = relayed(3)
    for other in (two, three):
        one.send(other)
        network.deliver()
    again = Relay(network)
    again.serve(one, two)
    again.forwarder.restore(relay.forwarder.routes, network.now)
    again.send(again.forwarder.resume(relay.forwarder.attached, network.now, network.wall))
    network.deliver()
    two.payloads()
    network.forget()
    one.send(two, b"as before")
    two.send(one, b"and back")
    network.deliver()
    assert (two.payloads(), one.payloads()) == ([b"as before"], [b"and back"])
    assert {each.type for each in network.log} == {TYPE_TRANSPORT}
    assert {key for route in again.forwarder.routes for key in route[:2]} == {one.public_key, two.public_key}
    network.elapse(EXPIRE_AFTER + 20)
    assert len(again.forwarder.routes) == 0


# --- limits


def test_a_rate_is_a_nodes_own() -> None:
    network, relay, (one, two, three) = relayed(3, rate=10_000)
    for near in (one, three):
        near.send(two)
        network.deliver()
    two.payloads()
    one.send(two, bytes(1000), count=2 * LEAST_BURST // 1000)
    network.deliver()
    passed = len(two.payloads())
    assert LEAST_BURST * 0.9 < passed * 1056 <= LEAST_BURST
    assert drops(relay) == {"rate-exceeded": 2 * LEAST_BURST // 1000 - passed}
    three.send(two, b"served")
    network.deliver()
    assert two.payloads() == [b"served"]
    one.send(two, bytes(1000))
    network.deliver()
    assert two.payloads() == []
    network.elapse(1)
    one.send(two, bytes(1000), count=20)
    network.deliver()
    assert len(two.payloads()) == 9  # of 1,056 bytes each


def test_initiations_are_limited() -> None:
    network, relay, (one, two) = relayed()
    one.send(two)
    (initiation,) = network.take_in_flight()
    for number in range(3 * INITIATIONS_AT_ONCE):
        relay.take(initiation.data[:4] + number.to_bytes(4, "little") + initiation.data[8:], one.endpoint)
    # They are for nobody: another index has another mac1.
    assert relay.sent_to(two) == []
    assert drops(relay)["too-many-initiations"] == 2 * INITIATIONS_AT_ONCE
    network.now += 1
    for _number in range(2 * INITIATIONS):
        relay.take(initiation.data, one.endpoint)
    assert len(relay.sent_to(two)) == INITIATIONS
    two.send(one, b"the other is served")
    network.deliver()
    assert one.payloads() == [b"the other is served"]


def test_nobody_takes_over_an_index_of_anothers_session() -> None:
    """Mallory, a node herself, begins a handshake with two under the index that one has made up for it."""
    network, relay, (one, two, mallory) = relayed(3)
    one.send(two)
    network.deliver()
    index = next(each.data[4:8] for each in network.sent(TYPE_INITIATION, one))
    mallory.device.control._random = lambda length: index if length == 4 else b"\5" * length
    mallory.send(two)
    network.deliver()
    assert drops(relay) == {"sender-index-taken": 1}
    two.payloads()
    two.send(one, b"for one")
    network.deliver()
    assert one.payloads() == [b"for one"]


# --- what the kernel has joined


def test_a_batch_goes_on_as_one_and_others_between_do_not() -> None:
    network, relay, (one, two, three) = relayed(3)
    for far in (two, three):
        one.send(far)
        network.deliver()
        far.payloads()
    one.send(two, bytes(500), count=3)
    one.send(three, bytes(500), count=2)
    one.send(two, b"short")
    joined = [each.data for each in network.take_in_flight()]
    size = len(joined[0])
    sendings = relay.forwarder.receive(memoryview(b"".join(joined)), size, one.endpoint, network.now, network.wall)
    assert [(len(datagrams), path) for datagrams, path in sendings] == [
        (3, two.endpoint), (2, three.endpoint), (1, two.endpoint)
    ]  # fmt: skip
    assert [bytes(each) for datagrams, _path in sendings for each in datagrams] == joined
    relay.send(sendings)
    network.deliver()
    assert (len(two.payloads()), len(three.payloads())) == (4, 2)


@pytest.mark.parametrize("kind", [TYPE_INITIATION, TYPE_RESPONSE, TYPE_COOKIE_REPLY, TYPE_TRANSPORT, 5, 1 << 8 | 4])
def test_what_is_no_message_goes_nowhere(kind: int) -> None:
    network, relay, (one, two) = relayed()
    one.send(two)
    network.deliver()
    index = next(each.data[8:12] for each in network.sent(TYPE_RESPONSE) if each.source == RELAY)
    network.forget()
    head = kind.to_bytes(4, "little") + index
    for length in (0, 1, 4, 7, 8, 31, 33, 65, 93, 149, 1000):
        if kind == TYPE_TRANSPORT and length >= 32:
            continue
        relay.take((head + bytes(1000))[:length], one.endpoint)
    assert [each for each in network.log if each.source == RELAY] == []
    assert sum(drops(relay).values()) == (6 if kind == TYPE_TRANSPORT else 11)


# --- the key


def test_the_key_is_the_beacons_and_no_other() -> None:
    keys = [bytes([number]) * 32 for number in range(1, 20)]
    derived = {relay_private_key(key) for key in keys}
    assert len(derived) == len(keys) and derived.isdisjoint(keys)
    assert relay_private_key(keys[0]) == relay_private_key(keys[0])
    # A vector, so that a beacon is the same relay after an upgrade.
    assert public_key_of(relay_private_key(bytes(range(32)))).hex() == (
        "d5ef12aedb8561acc3ef109ab57077ad8c7ba00602f5541eebd5940fb553ad5c"
    )
