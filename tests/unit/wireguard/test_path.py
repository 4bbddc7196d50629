"""By which way of ours a peer was heard: kept with its endpoint, and given up when it may have stopped to work."""

from __future__ import annotations

from tests.unit.wireguard.network import Host, Network

from sennit.wireguard.events import DataReceived, Path

WAY = ("192.0.2.201", 7)


def arrive(network: Network, host: Host, path: Path) -> None:
    """Deliver what is under way to the host by this path."""
    for datagram in network.take_in_flight():
        host.take(datagram.data, path)


def outbound_path(host: Host, other: Host) -> Path | None:
    return host.device.outbound._peers[other.public_key].endpoint


def test_answers_take_the_way_of_the_question(network: Network, pair: tuple[Host, Host]) -> None:
    """Handshake messages and data alike; what is shown of it is the endpoint."""
    one, two = pair
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    (response,) = network.in_flight
    assert response.destination == (*one.endpoint, *WAY)
    assert outbound_path(two, one) == (*one.endpoint, *WAY)
    assert two.status(one).endpoint == one.endpoint
    arrive(network, one, two.endpoint)
    arrive(network, two, (*one.endpoint, "192.0.2.202", 8))
    assert outbound_path(two, one) == (*one.endpoint, "192.0.2.202", 8)
    assert two.status(one).endpoint == one.endpoint


def test_a_cookie_reply_is_all_that_a_source_brings_about(network: Network, pair: tuple[Host, Host]) -> None:
    """It may be forged: the answer names our address, and no interface that something would be kept of."""
    one, two = pair
    two.device.control._load.under_load = lambda now: True
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    (reply,) = network.in_flight
    assert reply.destination == (*one.endpoint, WAY[0], 0)
    assert outbound_path(two, one) == one.endpoint


def test_the_way_is_forgotten_when_nothing_comes_back(network: Network, session: tuple[Host, Host]) -> None:
    """The endpoint stays. Perhaps the address of ours is behind a provider that is down."""
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    network.lose = lambda datagram: True
    two.send(one)
    network.elapse(14)
    assert outbound_path(two, one) == (*one.endpoint, *WAY)
    network.elapse(2)
    assert outbound_path(two, one) == one.endpoint
    assert network.log[-1].destination == one.endpoint


def test_the_way_is_forgotten_when_the_host_changes(network: Network, session: tuple[Host, Host]) -> None:
    """And what came before the change, but is told of only later, does not bring it back."""
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    before = network.now
    network.now += 1
    control = two.device.control
    control.forget_source(one.public_key, network.now)
    two.advance()
    assert outbound_path(two, one) == one.endpoint
    index = control._peers[one.public_key].keypairs.current.local_index
    late = DataReceived(one.public_key, 1, 96, index, (*one.endpoint, *WAY), before)
    control.receive(late, network.now, network.wall)
    two.advance()
    assert outbound_path(two, one) == one.endpoint
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    assert outbound_path(two, one) == (*one.endpoint, *WAY)


def test_a_new_configured_endpoint_is_reached_as_the_host_chooses(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    one.endpoint = ("198.51.100.7", 1024)
    two.knows(one)
    assert outbound_path(two, one) == one.endpoint
