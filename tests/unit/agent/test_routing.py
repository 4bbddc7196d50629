"""What a host makes of its view by its preferences."""

import dataclasses

import pytest

from sennit.host.routes import Wanted
from sennit.netmap.model import KIND_NODE, Netmap, Network, Node
from sennit.netmap.view import derive
from sennit.preferences import Preferences
from sennit.routing import Routing, exit_state
from sennit.wireguard.peer import PeerStatus

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48"))
ALPHA = Node("alpha", KIND_NODE, bytes([1] * 32), ("100.64.0.1", "fd5e::1"), routes=("192.168.1.0/24",))
BETA = Node("beta", KIND_NODE, bytes([2] * 32), ("100.64.0.2",), routes=("192.168.2.0/24",), exit_node="approved")
VIEW = derive(Netmap(NETWORK, 1, (ALPHA, BETA)), ALPHA.public_key)
PEER = VIEW.peers[0]
NOW = 10_000.0


def routing(carries=True, exit_down=False, **preferences):
    return Routing(VIEW, Preferences(**preferences), carries, exit_down)


def test_by_default_all_routes_and_no_exit_node():
    assert routing().wanted(None) == Wanted(
        addresses=("100.64.0.1/32", "fd5e::1/128"),
        peer_addresses=("100.64.0.2/32",),
        subnet_routes=("192.168.2.0/24",),
        pools=NETWORK.pools,
        stub_addresses=("100.100.100.100/32", "fd5e::24:6464/128"),
    )
    assert routing(accept_dns=False).wanted(None).stub_addresses == ()
    assert routing().peer_config(PEER, None).allowed_ips == ("100.64.0.2/32", "192.168.2.0/24")
    assert routing().peer_config(PEER, None).persistent_keepalive == 0


def test_without_routes_a_peer_has_its_addresses():
    assert routing(accept_routes=False).wanted(None).subnet_routes == ()
    assert routing(accept_routes=False).peer_config(PEER, None).allowed_ips == ("100.64.0.2/32",)


@pytest.mark.parametrize(
    ("choice", "routes", "carried"),
    [
        (routing(exit_node="beta"), 2, True),
        (routing(exit_node="beta", exit_down=True), 2, True),
        (routing(exit_node="beta", carries=False), 2, False),
        (routing(exit_node="gone"), 2, False),
        # It has no IPv6.
        (routing(exit_node="beta", exit_node_fail_open=True), 1, True),
        (routing(exit_node="beta", exit_node_fail_open=True, exit_down=True), 0, True),
        (routing(exit_node="beta", exit_node_fail_open=True, carries=False), 0, False),
        (routing(exit_node="gone", exit_node_fail_open=True), 0, False),
    ],
)
def test_what_goes_by_the_exit_node_or_nowhere(choice, routes, carried):
    wanted = choice.wanted(("192.0.2.2", 51820))
    assert wanted.exit_routes == ("0.0.0.0/0", "::/0")[:routes]
    assert wanted.exit_node and wanted.exit_endpoint == "192.0.2.2"
    assert ("::/0" in choice.peer_config(PEER, None).allowed_ips) is carried


def test_an_exit_node_is_kept_awake():
    assert routing(exit_node="beta").peer_config(PEER, None).persistent_keepalive == 25
    view = dataclasses.replace(VIEW, peers=(dataclasses.replace(PEER, persistent_keepalive=9),))
    choice = Routing(view, Preferences(exit_node="beta"))
    assert choice.peer_config(view.peers[0], None).persistent_keepalive == 9


@pytest.mark.parametrize(
    ("live", "state"),
    [
        (None, "unknown"),
        (PeerStatus(("192.0.2.2", 1), None, 0, 0), "unknown"),
        (PeerStatus(None, None, 0, 0), "down"),
        (PeerStatus(("192.0.2.2", 1), NOW - 100, 0, 0), "active"),
        (PeerStatus(("192.0.2.2", 1), NOW - 100, 0, 0, unanswered=2), "active"),
        (PeerStatus(("192.0.2.2", 1), NOW - 100, 0, 0, unanswered=3), "down"),
        (PeerStatus(("192.0.2.2", 1), NOW - 300, 0, 0), "down"),
    ],
)
def test_states_of_an_exit_node(live, state):
    assert exit_state(live, NOW) == state
