"""Two devices in memory: how a session comes about, and what a lost, late, repeated or forged message does to it."""

from __future__ import annotations

import pytest
from tests.unit.wireguard.network import Host, Network, is_keepalive, with_mac1
from tests.unit.wireguard.test_vectors import LOW_ORDER_POINTS

from sennit.wireguard.constants import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import HandshakeCompleted, PeerConfig


def test_a_packet_brings_up_a_session(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two, b"first", count=3)
    network.deliver()
    assert two.payloads() == [b"first"] * 3
    assert [datagram.type for datagram in network.log] == [TYPE_INITIATION, TYPE_RESPONSE] + [TYPE_TRANSPORT] * 3
    two.send(one, b"back")
    network.deliver()
    assert one.payloads() == [b"back"]
    assert one.news == [HandshakeCompleted(two.public_key, network.wall)]
    assert two.news == [HandshakeCompleted(one.public_key, network.wall)]
    assert one.status(two).latest_handshake == two.status(one).latest_handshake == network.wall
    assert not one.device.drops
    assert not two.device.drops


def test_bytes_are_counted_as_wg_show_does(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two, bytes(12))  # 32 bytes of IPv4 packet, 64 on the wire
    network.deliver()
    assert (one.status(two).tx_bytes, one.status(two).rx_bytes) == (148 + 64, 92)
    assert (two.status(one).tx_bytes, two.status(one).rx_bytes) == (92, 148 + 64)


def test_a_keepalive_confirms_a_session_when_there_is_no_data(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.knows(two, keepalive=25)
    network.deliver()
    assert [datagram.type for datagram in network.log] == [TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT]
    assert is_keepalive(network.log[-1])
    assert two.news == [HandshakeCompleted(one.public_key, network.wall)]


def test_the_responder_waits_for_the_first_packet(network: Network, pair: tuple[Host, Host]) -> None:
    """A response that nobody receives must not make the responder send data into the void."""
    one, two = pair
    one.send(two)
    network.lose = lambda datagram: datagram.type == TYPE_RESPONSE
    network.deliver()
    two.send(one, b"waits")
    network.deliver()
    assert not network.sent(TYPE_TRANSPORT)
    network.lose = lambda datagram: False
    network.elapse(6)
    assert one.payloads() == [b"waits"]
    assert two.payloads() == [b"hello"]


def test_a_responder_with_packets_starts_a_handshake_itself(network: Network, pair: tuple[Host, Host]) -> None:
    """Its response was lost, and the initiator is gone: the packets must not wait for ever."""
    one, two = pair
    one.send(two)
    network.deliver_one()
    network.take_in_flight()
    network.lose = lambda datagram: datagram.source == one.endpoint
    answered_at = network.now
    two.send(one)
    network.elapse(4.9)
    assert not network.sent(TYPE_INITIATION, two)
    network.elapse(0.5)
    (initiation,) = network.sent(TYPE_INITIATION, two)
    assert 5 <= initiation.sent_at - answered_at < 5.334


def test_an_initiation_moves_the_endpoint(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    (initiation,) = network.take_in_flight()
    two.take(initiation.data, ("198.51.100.7", 1024))
    assert two.status(one).endpoint == ("198.51.100.7", 1024)
    (response,) = network.take_in_flight()
    assert response.destination == ("198.51.100.7", 1024)
    one.take(response.data, ("198.51.100.8", 1024))
    assert one.status(two).endpoint == ("198.51.100.8", 1024)


def test_a_response_is_for_the_handshake_it_names(network: Network, session: tuple[Host, Host]) -> None:
    """Nothing authenticates the receiver index: turned to another one of the same peer, the response is not taken."""
    one, two = session
    network.elapse(121)
    one.send(two)
    network.deliver_one()
    network.deliver_one()
    response = next(datagram for datagram in network.take_in_flight() if datagram.type == TYPE_RESPONSE)
    current = one.device.control._peers[two.public_key].keypairs.current
    turned = response.data[:8] + current.local_index.to_bytes(4, "little") + response.data[12:-32]
    one.take(with_mac1(turned, one), response.source)
    assert one.device.drops == {DropReason.UNKNOWN_INDEX: 1}
    one.take(response.data, response.source)
    assert one.device.control._peers[two.public_key].keypairs.previous is current


def test_both_start_at_once(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two, b"from one")
    two.send(one, b"from two")
    assert [datagram.type for datagram in network.in_flight] == [TYPE_INITIATION] * 2
    network.deliver()
    assert one.payloads() == [b"from two"]
    assert two.payloads() == [b"from one"]
    for _ in range(3):
        one.send(two, b"more")
        two.send(one, b"more")
        network.deliver()
        assert one.payloads() == two.payloads() == [b"more"]
    assert not one.device.drops
    assert not two.device.drops


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_both_start_and_the_responses_cross(network: Network, pair: tuple[Host, Host], order: tuple[int, int]) -> None:
    one, two = pair
    one.send(two)
    two.send(one)
    for kind in (TYPE_INITIATION, TYPE_RESPONSE):
        datagrams = network.take_in_flight()
        assert [datagram.type for datagram in datagrams] == [kind] * 2
        for number in order:
            network.hosts[datagrams[number].destination].take(datagrams[number].data, datagrams[number].source)
    network.deliver()
    assert one.payloads() == two.payloads() == [b"hello"]
    # Each has its own session as current and the other's as previous; the handshakes left nothing else behind.
    assert len(one.device.control._indices) == len(two.device.control._indices) == 2


def test_a_lost_initiation_is_sent_again(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    network.lose = lambda datagram: True
    one.send(two)
    network.elapse(4.9)
    assert len(network.sent(TYPE_INITIATION)) == 1
    network.lose = lambda datagram: False
    network.elapse(0.5)
    first, second = network.sent(TYPE_INITIATION)
    assert 5 <= second.sent_at - first.sent_at < 5.334
    assert first.data[4:8] != second.data[4:8]
    assert two.payloads() == [b"hello"]


def test_a_response_to_a_stale_initiation_is_refused(network: Network, pair: tuple[Host, Host]) -> None:
    """The response to the first try comes after the second try was sent: only the second can be answered."""
    one, two = pair
    one.send(two)
    network.deliver_one()
    (late,) = network.take_in_flight()
    assert late.type == TYPE_RESPONSE
    network.lose = lambda datagram: True
    network.elapse(6)
    assert len(network.sent(TYPE_INITIATION)) == 2
    one.take(late.data, late.source)
    assert one.device.drops == {DropReason.UNKNOWN_INDEX: 1}
    network.lose = lambda datagram: False
    network.elapse(6)
    assert two.payloads() == [b"hello"]


def test_a_response_counts_once(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    network.deliver()
    (response,) = network.sent(TYPE_RESPONSE)
    one.take(response.data, response.source)
    assert one.device.drops == {DropReason.UNKNOWN_INDEX: 1}
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"] * 2


def test_a_forged_response_does_not_disturb_the_real_one(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    network.deliver_one()
    (response,) = network.take_in_flight()
    forged = response.data[:12] + network.random.randbytes(48)
    one.take(with_mac1(forged, one), response.source)
    assert one.device.drops == {DropReason.HANDSHAKE_AUTHENTICATION: 1}
    one.take(response.data, response.source)
    network.deliver()
    assert two.payloads() == [b"hello"]


@pytest.mark.parametrize("point", LOW_ORDER_POINTS)
def test_an_ephemeral_key_of_low_order_is_refused(network: Network, pair: tuple[Host, Host], point: str) -> None:
    one, two = pair
    one.send(two)
    (initiation,) = network.take_in_flight()
    two.take(with_mac1(initiation.data[:8] + bytes.fromhex(point) + initiation.data[40:-32], two), one.endpoint)
    assert two.device.drops == {DropReason.LOW_ORDER_POINT: 1}
    assert not network.in_flight

    two.take(initiation.data, one.endpoint)
    (response,) = network.take_in_flight()
    one.take(with_mac1(response.data[:12] + bytes.fromhex(point) + response.data[44:-32], one), two.endpoint)
    assert one.device.drops == {DropReason.LOW_ORDER_POINT: 1}
    assert not network.in_flight


@pytest.mark.parametrize("point", LOW_ORDER_POINTS)
def test_a_peer_with_a_key_of_low_order_is_never_spoken_to(network: Network, point: str) -> None:
    one = network.host(1)
    config = PeerConfig(bytes.fromhex(point), ("10.0.0.9/32",), ("192.0.2.9", 51820), persistent_keepalive=1)
    one.device.set_peer(config, network.now, network.wall)
    one.send_to("10.0.0.9", b"hello")
    network.elapse(10)
    assert not network.log


def test_an_initiation_works_once(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    network.deliver()
    (initiation,) = network.sent(TYPE_INITIATION)
    network.elapse(1)
    two.take(initiation.data, ("198.51.100.66", 666))
    assert two.device.drops == {DropReason.REPLAYED_INITIATION: 1}
    assert two.status(one).endpoint == one.endpoint
    assert len(network.sent(TYPE_RESPONSE)) == 1


def test_timestamps_grow_though_the_clock_is_set_back(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    network.deliver()
    network.set_back = 3600.0
    network.elapse(200)
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"] * 2
    assert not two.device.drops


def test_initiations_that_follow_too_fast_are_refused(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    other = network.host(3)
    other.device = type(one.device)(one.device.control._static.private, random=network.random.randbytes)
    other.knows(two)
    one.send(two)
    network.deliver()
    network.now += 0.0195
    other.send(two)
    network.deliver()
    assert two.device.drops == {DropReason.INITIATION_FLOOD: 1}
    network.now += 0.001
    initiation = network.sent(TYPE_INITIATION)[-1]
    two.take(initiation.data, initiation.source)
    network.deliver()
    assert other.news == [HandshakeCompleted(two.public_key, network.wall)]


def test_an_unknown_peer_gets_no_answer(network: Network, pair: tuple[Host, Host]) -> None:
    _, two = pair
    stranger = network.host(3)
    stranger.knows(two)
    stranger.send(two)
    network.elapse(20)
    assert {datagram.source for datagram in network.log} == {stranger.endpoint}
    assert set(two.device.drops) == {DropReason.UNKNOWN_PEER}


def test_another_preshared_key_means_no_session(network: Network) -> None:
    one, two = network.host(1), network.host(2)
    one.knows(two, psk=bytes(31) + b"\1")
    two.knows(one, psk=bytes(31) + b"\2")
    one.send(two)
    network.deliver()
    assert one.device.drops == {DropReason.HANDSHAKE_AUTHENTICATION: 1}
    assert one.status(two).latest_handshake is None


def test_a_handshake_for_somebody_else_is_refused_by_mac1(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    three = network.host(3)
    three.knows(one)
    one.send(two)
    (initiation,) = network.take_in_flight()
    three.take(initiation.data, initiation.source)
    assert three.device.drops == {DropReason.INVALID_MAC1: 1}
    assert not network.in_flight


def test_a_peer_removed_in_mid_handshake(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    network.deliver_one()
    one.device.remove_peer(two.public_key)
    network.deliver()
    assert one.device.drops == {DropReason.UNKNOWN_INDEX: 1, DropReason.PEER_REMOVED: 1}
    assert one.device.next_deadline() is None
    assert not one.device.control._indices
    one.knows(two)
    network.elapse(6)
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]


def test_a_peer_removed_with_a_session(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.device.remove_peer(two.public_key)
    two.send(one)
    network.deliver()
    assert one.payloads() == []
    assert one.device.drops == {DropReason.UNKNOWN_INDEX: 1}
    assert one.device.status() == {}


def test_a_peer_set_again_keeps_its_session(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.knows(two)
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]
    assert [datagram.type for datagram in network.log] == [TYPE_TRANSPORT]


def test_no_endpoint_no_packets(network: Network) -> None:
    """A peer whose endpoint is unknown cannot be spoken to until it has spoken."""
    one, two = network.host(1), network.host(2)
    one.knows(two, endpoint=False)
    two.knows(one)
    one.send(two)
    network.elapse(30)
    assert not network.log
    assert one.device.drops == {DropReason.NO_ENDPOINT: 1}
    two.send(one)
    network.deliver()
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33)])
def test_keys_of_the_wrong_length_cannot_be_configured(network: Network, bad: bytes) -> None:
    one = network.host(1)
    with pytest.raises(ValueError, match="32 bytes"):
        type(one.device)(bad)
    with pytest.raises(ValueError, match="32 bytes"):
        one.device.set_peer(PeerConfig(bad), network.now, network.wall)
    with pytest.raises(ValueError, match="32 bytes"):
        one.device.set_peer(PeerConfig(bytes(32), preshared_key=bad), network.now, network.wall)
    with pytest.raises(ValueError, match="own peer"):
        one.device.set_peer(PeerConfig(one.public_key), network.now, network.wall)
    assert one.device.status() == {}
