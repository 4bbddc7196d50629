"""By which way of ours a peer was heard: kept with its endpoint, and given up when it may have stopped to work."""

from __future__ import annotations

from tests.unit.wireguard.network import Host, Network

from sennit.wireguard.device import Output
from sennit.wireguard.events import DataReceived, Path, SetEndpoint

WAY = ("192.0.2.201", 7)
ELSEWHERE = ("198.51.100.7", 1024)
OTHER_WAY = ("192.0.2.202", 8)


def arrive(network: Network, host: Host, path: Path) -> None:
    """Deliver what is under way to the host by this path."""
    for datagram in network.take_in_flight():
        host.take(datagram.data, path)


def arrive_unreported(network: Network, host: Host, path: Path) -> None:
    """As arrive(), but only outbound is told of it yet."""
    device = host.device
    for datagram in network.take_in_flight():
        device.inbound.receive([datagram.data], path, network.now)
    for command in device.inbound.take_commands():
        assert isinstance(command, SetEndpoint)
        device.outbound.set_endpoint(command.peer, command.endpoint)


def carry_out(host: Host) -> None:
    """What the control half wants, while it is not told of anything."""
    for command in host.device.control.take_commands():
        host.device._carry_out(command, Output([], [], [], set()), host.network.now)


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


def test_the_way_is_forgotten_and_not_where_the_peer_is_by_now(network: Network, session: tuple[Host, Host]) -> None:
    """Outbound hears of that before the control half does."""
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    network.now += 1
    one.send(two)
    arrive_unreported(network, two, (*ELSEWHERE, *OTHER_WAY))
    two.device.control.forget_source(one.public_key, network.now + 0.5)
    carry_out(two)
    assert outbound_path(two, one) == ELSEWHERE
    two.advance()
    assert two.status(one).endpoint == ELSEWHERE
    assert outbound_path(two, one) == (*ELSEWHERE, *OTHER_WAY)


def test_for_a_moment_no_packet_brings_the_forgotten_way_back(network: Network, session: tuple[Host, Host]) -> None:
    """It may answer what was sent by it. The same by another way, or of a peer that is elsewhere, is no such answer."""
    one, two = session
    old, new = (*one.endpoint, *WAY), (*one.endpoint, *OTHER_WAY)
    for path in (new, (*ELSEWHERE, *OTHER_WAY)):
        one.send(two)
        arrive(network, two, old)
        two.device.control.forget_source(one.public_key, network.now + 0.5)
        for arrives_by, leaves_by in ((old, one.endpoint), (path, path)):
            one.send(two)
            arrive(network, two, arrives_by)
            assert outbound_path(two, one) == leaves_by
            network.now += 0.1
        network.now += 0.5


def test_when_the_way_is_forgotten_the_peer_can_be_moved_at_once(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    two.device.control.forget_source(one.public_key, network.now + 0.5)
    two.move(one, ELSEWHERE)
    assert outbound_path(two, one) == ELSEWHERE


def test_when_the_way_is_forgotten_a_probe_can_be_answered(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(1)
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    two.device.control.forget_source(one.public_key, network.now + 0.5)
    network.hosts[ELSEWHERE] = Host(network, one.device, one.address, ELSEWHERE)
    two.probe(one, ELSEWHERE)
    network.deliver()
    assert outbound_path(two, one) == two.status(one).endpoint == ELSEWHERE


def test_a_new_configured_endpoint_is_reached_as_the_host_chooses(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.send(two)
    arrive(network, two, (*one.endpoint, *WAY))
    one.endpoint = ("198.51.100.7", 1024)
    two.knows(one)
    assert outbound_path(two, one) == one.endpoint
