"""What is made of others' links, rules and routes on a host."""

import pytest

from sennit.host.routes import Place, Wanted
from sennit.host.surroundings import (
    Link,
    Route,
    Rule,
    Surroundings,
    exit_node_refusal,
    notices,
    table_refusal,
)

PLACE = Place("sennit0", 21472, 5200, 21472)
NONE = 65534
ETH = Link(2, "eth0")
WG = Link(3, "wg0", "wireguard", NONE)
MODEM = Link(4, "wwan0", "", NONE)
SIT = Link(5, "he", "sit", 776)
TAP = Link(6, "vnet0", "tun", 1, master=7)
BRIDGE = Link(7, "virbr0", "bridge")
BY_ETH = Route(254, "0.0.0.0/0", (2,), ("192.0.2.1",))


def has(*links, **values):
    return Surroundings(links=links, **values)


def test_lans_tunnels_and_networks_within_the_host_are_told_apart():
    surroundings = has(
        ETH, WG, MODEM, TAP, BRIDGE,
        addresses=((2, "192.0.2.0/24"), (3, "10.9.0.0/24"), (4, "198.51.100.0/30"), (7, "172.17.0.0/16")),
        routes=(
            BY_ETH,
            Route(254, "192.0.3.0/24", (2,)),
            Route(254, "192.0.4.0/24", (2,), ("192.0.2.9",)),
            Route(52, "10.8.0.0/16", (3,)),
            Route(51820, "0.0.0.0/0", (3,)),
            Route(254, "128.0.0.0/1", (3,)),
        ),
    )  # fmt: skip
    assert surroundings.lan == ("192.0.2.0/24", "192.0.3.0/24", "198.51.100.0/30")
    assert surroundings.internal == ("172.17.0.0/16",)
    assert surroundings.tunnelled == ("10.8.0.0/16", "10.9.0.0/24")
    assert surroundings.gateways == ("192.0.2.1", "192.0.2.9")


@pytest.mark.parametrize(
    "bridge",
    [
        has(BRIDGE, Link(2, "eth0", master=7), addresses=((7, "192.0.2.0/24"),)),
        has(BRIDGE, TAP, addresses=((7, "192.0.2.0/24"),), routes=(Route(254, "0.0.0.0/0", (7,), ("192.0.2.1",)),)),
    ],
)
def test_a_bridge_that_leads_out_of_the_host_is_a_lan(bridge):
    assert bridge.lan == ("192.0.2.0/24",)
    assert bridge.internal == ()


@pytest.mark.parametrize(
    ("surroundings", "code"),
    [
        (has(ETH, WG, underlay_links=frozenset({2}), default_links=frozenset({2})), ""),
        (has(ETH, WG, underlay_links=frozenset({3}), default_links=frozenset({2})), "exit-node-other-vpn"),
        (has(ETH, WG, underlay_links=frozenset({2}), default_links=frozenset({3})), "exit-node-other-vpn"),
        (has(MODEM, underlay_links=frozenset({4}), default_links=frozenset({4})), ""),
        (has(ETH, SIT, underlay_links=frozenset({2}), default_links=frozenset({2, 5})), ""),
        (has(ETH, SIT, underlay_links=frozenset({5}), default_links=frozenset({2, 5})), "exit-node-other-vpn"),
        (has(ETH, addresses=((2, "192.0.2.0/24"),), rp_filter=(("eth0", 1),)), "exit-node-rp-filter"),
        (has(ETH, addresses=((2, "192.0.2.0/24"),), rp_filter=(("eth0", 2),)), ""),
        (has(ETH, rp_filter=(("eth0", 1),)), ""),
        (has(WG, addresses=((3, "10.9.0.0/24"),), rp_filter=(("wg0", 1),)), ""),
    ],
)
def test_an_exit_node_is_refused_where_it_would_not_work(surroundings, code):
    assert exit_node_refusal(surroundings)[0] == code


def test_a_table_with_routes_in_it_is_not_ours():
    assert table_refusal(PLACE, has(ETH, routes=(BY_ETH,))) == ""
    routes = tuple(Route(21472, f"192.0.{number}.0/24", (2,)) for number in range(5))
    assert "(192.0.0.0/24, 192.0.1.0/24, 192.0.2.0/24 and 2 more)" in table_refusal(PLACE, has(ETH, routes=routes))


@pytest.mark.parametrize(
    ("surroundings", "told"),
    [
        (has(ETH, routes=(BY_ETH,), rules=(Rule(4, 0, 255), Rule(4, 32766, 254))), ""),
        (has(WG, routes=(Route(254, "10.9.0.0/24", (3,)),)), "wg0 (wireguard) keeps its routes (10.9.0.0/24)"),
        (has(WG, routes=(Route(51820, "0.0.0.0/0", (3,)),)), "wg0 (wireguard) takes everything that the mesh does not"),
        (has(rules=(Rule(4, 5270, 52),)), "tailscale is here"),
        (has(ETH, addresses=((2, "100.64.7.0/24"),)), "eth0 uses addresses of the mesh's pool (100.64.7.0/24)"),
        (has(rules=(Rule(6, 5200, 99),)), "another's IPv6 rule '5200: table 99' has the priority of ours"),
        (has(rules=(Rule(4, 9, 21472),)), "'9: table 21472' leads into our table"),
        (has(rules=(Rule(4, 6000, 9, 0x53E0),)), "takes the packets that bear our mark"),
        (has(rules=(Rule(4, 6000, 9, 0x40, 0xF0),)), ""),
        (has(rules=(Rule(4, 6000, 9, 0xE0, 0xF0),)), "fwmark 0xe0/0xf0 table 9' takes the packets that bear our mark"),
        (has(ETH, routes=(Route(9, "::/0", (2,)),), rules=(Rule(6, 7, 9),)), "'7: table 9' comes before ours"),
        (has(ETH, routes=(Route(9, "::/0", (2,)),), rules=(Rule(6, 7, 9, selective=True),)), ""),
        (has(ETH, routes=(Route(9, "::/0", (2,)),), rules=(Rule(6, 5300, 9),)), ""),
    ],
)
def test_what_others_have_is_told(surroundings, told):
    lines = notices(PLACE, Wanted(pools=("100.64.0.0/10", "fd5e::/48")), surroundings)
    assert len(lines) == bool(told), lines
    assert told in "".join(lines)
