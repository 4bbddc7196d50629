"""Other endpoints are tried beside the one in use, and taken up when the peer answers there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wireguard.network import Host, Nat, Network

from sennit.wireguard.constants import REKEY_TIMEOUT, TYPE_INITIATION, TYPE_TRANSPORT
from sennit.wireguard.events import Endpoint

ELSEWHERE = ("198.51.100.2", 4500)
NOWHERE = ("203.0.113.9", 9)


@pytest.fixture
def session(network: Network, session: tuple[Host, Host]) -> tuple[Host, Host]:
    """A session that is not so new that another initiation would be one too many."""
    network.elapse(1)
    return session


def appear(network: Network, host: Host, endpoint: Endpoint) -> None:
    """Let the host be found at this endpoint as well; it answers from where it was asked."""
    network.hosts[endpoint] = Host(network, host.device, host.address, endpoint, host.received, host.news)


def test_a_peer_that_answers_there_is_there(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    appear(network, two, ELSEWHERE)
    one.probe(two, NOWHERE, ELSEWHERE)
    assert [datagram.destination for datagram in network.sent(TYPE_INITIATION)] == [NOWHERE, ELSEWHERE]
    network.deliver()
    assert one.status(two).endpoint == ELSEWHERE
    network.forget()
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]
    assert {datagram.destination for datagram in network.log} == {ELSEWHERE}


def test_where_nobody_answers_nothing_changes(network: Network, session: tuple[Host, Host]) -> None:
    """Not even afterwards: no timer runs for it."""
    one, two = session
    one.probe(two, NOWHERE, ELSEWHERE)
    network.deliver()
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]
    assert one.status(two).endpoint == two.endpoint and one.status(two).unanswered == 0
    network.forget()
    network.elapse(REKEY_TIMEOUT + 1)
    assert network.sent(TYPE_INITIATION) == []


def test_one_initiation_while_it_may_be_answered(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.probe(two, NOWHERE)
    network.elapse(1)
    one.probe(two, NOWHERE, ELSEWHERE)
    first, *again = network.sent(TYPE_INITIATION)
    assert {datagram.data for datagram in again} == {first.data}
    network.elapse(REKEY_TIMEOUT)
    one.probe(two, NOWHERE)
    assert network.log[-1].data != first.data


def test_a_probe_joins_the_handshake_under_way(network: Network, pair: tuple[Host, Host]) -> None:
    """The configured endpoint does not answer, another does; what was staged arrives."""
    one, two = pair
    appear(network, two, ELSEWHERE)
    network.lose = lambda datagram: datagram.destination == two.endpoint
    one.send(two)
    network.elapse(1)
    assert one.status(two).unanswered == 1
    one.probe(two, two.endpoint, ELSEWHERE)
    network.deliver()
    assert two.payloads() == [b"hello"]
    assert one.status(two).endpoint == ELSEWHERE and one.status(two).unanswered == 0


def test_what_is_late_on_the_old_path_does_not_lead_back(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    old = two.endpoint
    two.send(one, b"late")
    late = network.take_in_flight()
    appear(network, two, ELSEWHERE)
    one.probe(two, ELSEWHERE)
    network.deliver()
    for datagram in late:
        one.take(datagram.data, datagram.source)
    assert one.payloads() == [b"late"]
    assert one.status(two).endpoint == ELSEWHERE
    # Under the old keypair or the new: whoever is heard from a new place is there.
    assert late[0].source == old
    network.hosts[ELSEWHERE].endpoint = NOWHERE
    network.hosts[NOWHERE] = network.hosts.pop(ELSEWHERE)
    network.hosts[NOWHERE].send(one)
    network.deliver()
    assert one.status(two).endpoint == NOWHERE


def test_an_initiation_alone_does_not_move_a_session(network: Network, session: tuple[Host, Host]) -> None:
    """The way back may be blocked: then data would go where nobody hears it."""
    one, two = session
    away = ("198.51.100.1", 4500)
    appear(network, one, away)
    network.lose = lambda datagram: datagram.destination == away
    network.hosts[away].probe(two, two.endpoint)
    network.deliver()
    assert two.status(one).endpoint == one.endpoint
    two.send(one)
    network.deliver()
    assert one.payloads() == [b"hello"]
    network.lose = lambda datagram: False
    network.elapse(REKEY_TIMEOUT)
    network.hosts[away].probe(two, two.endpoint)
    network.deliver()
    network.hosts[away].send(two)
    network.deliver()
    assert two.status(one).endpoint == away


def test_a_moved_endpoint_stays_until_the_peer_is_heard_elsewhere(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.move(two, ELSEWHERE)
    two.send(one)
    network.deliver()
    assert one.status(two).endpoint == ELSEWHERE
    network.move(two, ("198.51.100.7", 7))
    two.send(one)
    network.deliver()
    assert one.status(two).endpoint == two.endpoint


def test_a_peer_that_is_not_there_and_a_key_that_is_not(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    control = one.device.control
    control.probe(bytes(32), [NOWHERE], network.now, network.wall)
    control.move(bytes(32), NOWHERE, network.now)
    control.set_private_key(bytes(32))
    one.probe(two, NOWHERE)
    assert network.log == []


KINDS = {
    "open": {},
    "address-dependent": {"address_dependent": True},
    "symmetric": {"symmetric": True},
}


@pytest.mark.parametrize("near", KINDS)
@pytest.mark.parametrize("far", KINDS)
def test_holes_are_punched_from_both_sides(network: Network, near: str, far: str) -> None:
    """Through any two NATs, unless both give a port for each destination; until then, and then, the relay serves."""
    one, two = network.host(1), network.host(2)
    relay = ("192.0.2.99", 21473)
    seen = {}
    for host, other, kind in ((one, two, near), (two, one, far)):
        host.knows(other, endpoint=False)
        host.move(other, relay)
        nat = network.behind[host.endpoint] = Nat(f"198.51.100.{len(seen) + 1}", **KINDS[kind])
        seen[host] = nat.outwards(host.endpoint, relay)
    network.relays[relay] = {seen[one]: seen[two], seen[two]: seen[one]}
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"] and one.status(two).endpoint == relay
    for _round in range(2):
        one.probe(two, seen[two])
        two.probe(one, seen[one])
        network.deliver()
        network.elapse(REKEY_TIMEOUT + 1)
    network.forget()
    one.send(two)
    two.send(one)
    network.deliver()
    assert one.payloads() == two.payloads() == [b"hello"]
    relayed = relay in {datagram.destination for datagram in network.log}
    assert relayed == (near == far == "symmetric")


@given(st.lists(st.sampled_from(["send", "back", "probe", "probe dead", "counter", "wait", "rekey"]), max_size=25))
def test_whatever_is_probed_no_packet_is_lost(steps: list[str]) -> None:
    """While the network loses nothing, data arrives, whichever of the peer's endpoints is in use."""
    network = Network()
    one, two = network.pair()
    appear(network, two, ELSEWHERE)
    sent = received = 0
    for step in steps:
        if step == "send":
            one.send(two)
            sent += 1
        elif step == "back":
            two.send(one)
            sent += 1
        elif step == "probe":
            one.probe(two, ELSEWHERE)
        elif step == "probe dead":
            one.probe(two, NOWHERE)
        elif step == "counter":
            two.probe(one, one.endpoint)
        elif step == "wait":
            network.elapse(1)
        else:
            network.elapse(125)
        network.deliver()
        received += len(one.payloads()) + len(two.payloads())
    network.elapse(REKEY_TIMEOUT + 1)
    received += len(one.payloads()) + len(two.payloads())
    assert received == sent
    assert all(datagram.data for datagram in network.sent(TYPE_TRANSPORT))
