"""Two devices in memory: the life of a session, by the clock (whitepaper section 6)."""

from __future__ import annotations

import pytest
from tests.unit.wireguard.network import Host, Network, is_keepalive

from sennit.wireguard.constants import REJECT_AFTER_MESSAGES, TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import DataSent, HandshakeGaveUp


def exchange(network: Network, one: Host, two: Host, seconds: float, every: float = 1.0) -> None:
    """Let both send all the while, and see that everything arrives."""
    sent = 0
    end = network.now + seconds
    while network.now < end:
        one.send(two)
        two.send(one)
        network.deliver()
        sent += 1
        network.elapse(every)
    assert one.payloads() == two.payloads() == [b"hello"] * sent


def test_the_initiator_rekeys_after_120_seconds(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    exchange(network, one, two, 119.5, every=0.5)
    assert not network.sent(TYPE_INITIATION)
    exchange(network, one, two, 2)
    assert len(network.sent(TYPE_INITIATION, one)) == len(network.sent(TYPE_RESPONSE, two)) == 1


def test_a_session_in_use_lasts_for_ever(network: Network, session: tuple[Host, Host]) -> None:
    """One handshake each 120 s, always by the same side, and not one packet lost at the seams."""
    one, two = session
    exchange(network, one, two, 1205)
    assert len(network.sent(TYPE_INITIATION, one)) == 10
    assert not network.sent(TYPE_INITIATION, two)
    assert not one.device.drops
    assert not two.device.drops
    # previous and current; nothing of the eight sessions before is left, nor of the handshakes.
    assert len(one.device.control._indices) == len(two.device.control._indices) == 2
    assert len(one.device.inbound._sessions) == len(two.device.inbound._sessions) == 2


def test_rekey_after_so_many_messages(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(6)
    current = one.device.control._peers[two.public_key].keypairs.current
    event = DataSent(two.public_key, 2**60, 0, current.local_index, network.now)
    one.device.control.receive(event, network.now, network.wall)
    one.advance()
    network.deliver()
    assert len(network.sent(TYPE_INITIATION, one)) == 1
    assert one.device.control._peers[two.public_key].keypairs.current is not current


def test_an_initiator_that_only_receives_rekeys_at_165_seconds(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(164)
    two.send(one)
    network.deliver()
    assert not network.sent(TYPE_INITIATION)
    network.elapse(1.5)
    two.send(one)
    network.deliver()
    assert len(network.sent(TYPE_INITIATION, one)) == 1
    two.send(one)
    network.deliver()
    network.elapse(60)
    assert len(network.sent(TYPE_INITIATION)) == 1
    assert one.payloads() == [b"hello"] * 3


def test_each_session_is_renewed_on_receive(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    for _ in range(3):
        network.elapse(166)
        two.send(one)
        network.deliver()
    assert len(network.sent(TYPE_INITIATION, one)) == 3
    assert not network.sent(TYPE_INITIATION, two)


def test_renewal_on_receive_is_tried_for_90_seconds(network: Network, session: tuple[Host, Host]) -> None:
    """The packets that keep coming in are not the user's: they do not start the 90 seconds again."""
    one, two = session
    network.lose = lambda datagram: datagram.type == TYPE_INITIATION
    network.elapse(166)
    start = network.now
    for _ in range(13):
        two.send(one)
        network.elapse(1)
    assert len(one.payloads()) == 13
    network.elapse(200)
    assert 85 < network.sent(TYPE_INITIATION, one)[-1].sent_at - start < 90


def test_a_responder_renews_nothing_on_receive(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(170)
    network.lose = lambda datagram: datagram.type == TYPE_INITIATION
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]
    assert not network.sent(TYPE_INITIATION, two)


def test_after_180_seconds_a_keypair_is_refused(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(179.9)
    two.send(one)
    (old,) = network.take_in_flight()
    network.now += 0.2
    one.take(old.data, old.source)
    assert one.device.drops == {DropReason.EXPIRED_KEYPAIR: 1}
    network.forget()
    two.send(one, b"new")
    network.deliver()
    assert [datagram.type for datagram in network.log][:2] == [TYPE_INITIATION, TYPE_RESPONSE]
    assert one.payloads() == [b"new"]


def test_a_silent_session_says_nothing(network: Network, session: tuple[Host, Host]) -> None:
    """Stealth: after the last keepalive of ten seconds, no timer sends anything."""
    network.elapse(11)
    network.forget()
    network.elapse(3600)
    assert not network.log


def test_passive_keepalive_after_10_seconds(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(60)
    network.forget()
    one.send(two)
    network.elapse(9.9)
    assert len(network.log) == 1
    network.elapse(0.2)
    (keepalive,) = network.sent(TYPE_TRANSPORT, two)
    assert is_keepalive(keepalive)
    network.elapse(60)
    assert len(network.log) == 2


def test_no_keepalive_when_data_goes_back(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(60)
    network.forget()
    one.send(two)
    network.elapse(5)
    two.send(one)
    network.elapse(9)
    assert not [datagram for datagram in network.log if is_keepalive(datagram)]


def test_a_silent_peer_gets_a_new_handshake_after_15_seconds(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(60)
    network.lose = lambda datagram: datagram.source == two.endpoint
    network.forget()
    start = network.now
    one.send(two)
    network.elapse(2)
    one.send(two)  # a later packet does not put the handshake off
    network.elapse(12.9)
    assert not network.sent(TYPE_INITIATION)
    network.elapse(0.5)
    (initiation,) = network.sent(TYPE_INITIATION, one)
    assert 15 <= initiation.sent_at - start < 15.334


def test_retries_end_after_90_seconds(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    network.lose = lambda datagram: True
    one.send(two, count=3)
    network.elapse(600)
    times = [datagram.sent_at - 1000 for datagram in network.sent(TYPE_INITIATION, one)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert 85 < times[-1] < 90
    assert all(5 <= gap < 5.334 for gap in gaps)
    assert len(set(gaps)) == len(gaps)
    assert one.news == [HandshakeGaveUp(two.public_key)]
    assert one.device.drops == {DropReason.HANDSHAKE_GAVE_UP: 3}
    assert one.device.next_deadline() is None
    assert not one.device.control._indices
    network.lose = lambda datagram: False
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]


def test_a_packet_of_the_user_starts_the_90_seconds_again(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    network.lose = lambda datagram: True
    one.send(two)
    network.elapse(60)
    one.send(two)
    network.elapse(600)
    assert 145 < network.sent(TYPE_INITIATION, one)[-1].sent_at - 1000 < 150


def test_staged_packets_are_bounded(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    for number in range(200):
        one.send(two, str(number).encode())
    network.deliver()
    assert one.device.drops == {DropReason.STAGED_QUEUE_FULL: 72}
    assert two.payloads() == [str(number).encode() for number in range(72, 200)]


@pytest.mark.parametrize("interval", [1, 25])
def test_persistent_keepalive(network: Network, interval: int) -> None:
    one, two = network.host(1), network.host(2)
    two.knows(one, endpoint=False)
    one.knows(two, keepalive=interval)
    network.deliver()
    assert two.status(one).endpoint == one.endpoint
    network.forget()
    network.elapse(interval * 4 + 0.5)
    assert len(network.log) == 4
    assert all(is_keepalive(datagram) and datagram.source == one.endpoint for datagram in network.log)
    one.knows(two, keepalive=0)
    network.forget()
    network.elapse(100)
    assert not network.log


def test_persistent_keepalive_brings_the_session_back(network: Network) -> None:
    """A peer behind NAT whose other side was away for an hour."""
    one, two = network.host(1), network.host(2)
    two.knows(one, endpoint=False)
    one.knows(two, keepalive=25)
    network.deliver()
    network.lose = lambda datagram: True
    network.elapse(3600)
    network.lose = lambda datagram: False
    network.elapse(120)
    network.forget()
    two.send(one)
    network.deliver()
    assert [datagram.type for datagram in network.log] == [TYPE_TRANSPORT]
    assert one.payloads() == [b"hello"]


def test_keys_are_forgotten_after_540_seconds(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(538)
    for host in (one, two):
        assert host.device.control._indices
        assert host.device.inbound._sessions
    network.elapse(5)
    for host, other in ((one, two), (two, one)):
        keypairs = host.device.control._peers[other.public_key].keypairs
        assert (keypairs.previous, keypairs.current, keypairs.next) == (None, None, None)
        assert not host.device.control._indices
        assert not host.device.inbound._sessions
        assert host.device.outbound._peers[other.public_key].session is None
        assert host.device.next_deadline() is None


def test_roaming(network: Network, session: tuple[Host, Host]) -> None:
    """The next authentic packet from another address, or port, or family, moves the endpoint; the session goes on."""
    one, two = session
    for endpoint in (("198.51.100.7", 1024), ("198.51.100.7", 1025), ("2001:db8::7", 1025), ("fe80::7%eth0", 1)):
        network.move(one, endpoint)
        network.forget()
        one.send(two)
        network.deliver()
        assert two.status(one).endpoint == endpoint
        two.send(one)
        network.deliver()
        assert one.payloads() == two.payloads() == [b"hello"]
        assert [datagram.type for datagram in network.log] == [TYPE_TRANSPORT] * 2


def test_a_keepalive_moves_the_endpoint_too(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    two.send(one)
    network.deliver()
    network.move(one, ("198.51.100.7", 1024))
    network.elapse(11)
    assert two.status(one).endpoint == ("198.51.100.7", 1024)


def test_only_authentic_and_new_packets_move_the_endpoint(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    elsewhere = ("203.0.113.66", 666)
    one.send(two)
    (packet,) = network.take_in_flight()
    forged = bytearray(packet.data)
    forged[-1] ^= 1
    two.take(bytes(forged), elsewhere)
    two.take(packet.data, packet.source)
    two.take(packet.data, elsewhere)
    assert two.status(one).endpoint == one.endpoint
    assert two.device.drops == {DropReason.DATA_AUTHENTICATION: 1, DropReason.REPLAYED_COUNTER: 1}


def test_the_configured_endpoint_does_not_undo_roaming(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    configured = one.endpoint
    network.move(one, ("198.51.100.7", 1024))
    one.send(two)
    network.deliver()
    moved, one.endpoint = one.endpoint, configured
    two.knows(one)
    assert two.status(one).endpoint == moved
    one.endpoint = ("198.51.100.8", 1024)
    two.knows(one)
    assert two.status(one).endpoint == one.endpoint


def test_lost_and_reordered_data(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    for number in range(100):
        one.send(two, str(number).encode())
    datagrams = network.take_in_flight()
    network.random.shuffle(datagrams)
    for datagram in datagrams[:50]:
        two.take(datagram.data, datagram.source)
    assert len(set(two.payloads())) == 50
    for datagram in datagrams[:50]:
        two.take(datagram.data, datagram.source)
    assert two.payloads() == []
    assert two.device.drops == {DropReason.REPLAYED_COUNTER: 50}


def test_replay_at_the_edges_of_the_window(network: Network, session: tuple[Host, Host]) -> None:
    """The window reaches back 8128 packets from the newest one (RFC 6479 with blocks of 64 in 8192 bits)."""
    one, two = session
    datagrams = []
    for _ in range(8130):
        one.send(two, b"")
        datagrams += network.take_in_flight()
    newest = datagrams[-1]
    oldest_inside, first_outside = datagrams[-1 - 8128], datagrams[-1 - 8129]
    two.take(newest.data, newest.source)
    two.take(oldest_inside.data, oldest_inside.source)
    assert len(two.payloads()) == 2
    two.take(first_outside.data, first_outside.source)
    two.take(oldest_inside.data, oldest_inside.source)
    two.take(newest.data, newest.source)
    assert two.payloads() == []
    assert two.device.drops == {DropReason.REPLAYED_COUNTER: 3}


def test_the_previous_session_still_receives(network: Network, session: tuple[Host, Host]) -> None:
    """A packet that was under way during a rekey arrives."""
    one, two = session
    network.elapse(121)
    two.send(one, b"late")
    (late,) = network.take_in_flight()
    one.send(two)
    network.deliver()
    assert len(network.sent(TYPE_INITIATION, one)) == 1
    one.take(late.data, late.source)
    assert one.payloads() == [b"late"]


def test_lossy_network(network: Network, pair: tuple[Host, Host]) -> None:
    """A third of everything lost for a quarter of an hour, and the mesh still recovers within seconds."""
    one, two = pair
    network.lose = lambda datagram: network.random.random() < 0.33
    for _ in range(900):
        one.send(two)
        two.send(one)
        network.elapse(1)
    assert min(len(one.payloads()), len(two.payloads())) > 450
    network.lose = lambda datagram: False
    network.elapse(6)
    one.payloads(), two.payloads()
    exchange(network, one, two, 10)


def test_timers_of_many_idle_peers_cost_nothing(network: Network) -> None:
    one = network.host(1)
    for number in range(2, 202):
        other = network.host(number)
        other.knows(one)
        one.knows(other)
        other.send(one)
    network.deliver()
    queue = one.device.control._deadlines
    assert queue.next_deadline() is not None
    network.elapse(600)
    assert one.device.next_deadline() is None
    assert len(queue._heap) == len(queue._queued) == len(queue._deadlines) == 0


def test_after_a_restart_the_peers_old_session_is_replaced_at_once(
    network: Network, session: tuple[Host, Host]
) -> None:
    """Without it, the peer would find out after 15 s of silence."""
    one, two = session
    control = two.device.control
    two.device = type(two.device)(control._static.private, random=network.random.randbytes, core=network.core)
    two.knows(one, endpoint=False)
    one.send(two, b"lost")
    network.deliver()
    assert two.device.drops == {DropReason.UNKNOWN_INDEX: 1}
    assert not network.sent(TYPE_INITIATION)
    two.device.control.resume(one.public_key, one.endpoint, network.now, network.wall)
    two.device.control.resume(bytes(32), one.endpoint, network.now, network.wall)
    two.advance()
    network.deliver()
    assert len(network.sent(TYPE_INITIATION)) == 1
    one.send(two, b"there")
    network.deliver()
    assert two.payloads() == [b"there"]
    two.device.control.resume(one.public_key, ("203.0.113.1", 1), network.now, network.wall)
    assert two.status(one).endpoint == one.endpoint


@pytest.mark.parametrize("initiator", [True, False])
def test_packets_that_would_exceed_the_counter_wait_for_a_new_session(
    network: Network, session: tuple[Host, Host], initiator: bool
) -> None:
    """On either side, and by the batch: no counter is used beyond the limit, and nothing is lost at the seam."""
    host, other = session if initiator else reversed(session)
    network.elapse(6)
    host.device.outbound._peers[other.public_key].session.sealer.counter = REJECT_AFTER_MESSAGES - 2
    host.device.control._peers[other.public_key].keypairs.sent = REJECT_AFTER_MESSAGES - 2
    network.forget()
    host.send(other, count=3)
    assert [datagram.type for datagram in network.log] == [TYPE_INITIATION]
    network.deliver()
    assert other.payloads() == [b"hello"] * 3
    counters = [int.from_bytes(datagram.data[8:16], "little") for datagram in network.sent(TYPE_TRANSPORT, host)]
    assert counters == [0, 1, 2]


def test_a_handshake_that_another_has_overtaken_is_forgotten_with_the_keys(
    network: Network, session: tuple[Host, Host]
) -> None:
    """Its ephemeral key is as secret as the keypairs (whitepaper section 6.3)."""
    one, two = session
    network.elapse(121)
    network.lose = lambda datagram: datagram.type == TYPE_INITIATION and datagram.source == one.endpoint
    one.send(two)
    network.deliver()
    network.elapse(3)
    two.device.control._peers[one.public_key].keypairs.sent = 2**60
    two.send(one)
    network.elapse(3)
    peer = one.device.control._peers[two.public_key]
    assert peer.keypairs.current is not None
    assert not peer.keypairs.current.initiator
    assert peer.handshake is not None
    network.lose = lambda datagram: True
    network.elapse(541)
    assert peer.handshake is None
    assert not one.device.control._indices
