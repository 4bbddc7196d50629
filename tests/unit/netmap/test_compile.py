# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories, good and bad. A bad one is refused with host, variable and value, and with whoever else claims it."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.netmap.inventories import VERIFY_KEY, key, node, router, silent, static

from sennit.netmap.compile import compile_netmap, default_ipv6_pool
from sennit.netmap.inventory import CompileError, Host, Report
from sennit.netmap.model import Netmap


def compiled(hosts, previous=None, **options):
    return compile_netmap(hosts, previous, VERIFY_KEY, **options)


def refused(hosts, previous=None, **options) -> list[tuple[str, str, object, str]]:
    with pytest.raises(CompileError) as caught:
        compiled(hosts, previous, **options)
    for refusal in caught.value.refusals:
        assert str(refusal) in str(caught.value)
        assert refusal.host in str(refusal) and refusal.variable in str(refusal)
    return [(each.host, each.variable, each.value, each.reason) for each in caught.value.refusals]


def addresses(netmap: Netmap) -> dict[str, tuple[str, ...]]:
    return {node.name: node.addresses for node in netmap.nodes}


ALPHA = node("alpha", sennit_endpoint="192.0.2.1")

# --- good inventories


def test_the_smallest_inventory():
    netmap = compiled([ALPHA, node("beta")]).netmap
    assert (netmap.version, netmap.network.name, netmap.network.domain) == (1, "sennit", "sennit.internal")
    pool4, pool6 = map(ipaddress.ip_network, netmap.network.pools)
    assert str(pool4) == "100.64.0.0/10"
    assert pool6.prefixlen == 48 and pool6.subnet_of(ipaddress.ip_network("fd00::/8"))
    assert addresses(netmap) == {
        "alpha": ("100.64.0.1", str(pool6[1])),
        "beta": ("100.64.0.2", str(pool6[2])),
    }
    assert netmap.allocations == addresses(netmap)
    assert netmap.nodes[0].endpoint == "192.0.2.1:51820"
    assert Netmap.parse(netmap.to_bytes()) == netmap


def test_the_same_inventory_gives_the_same_bytes_and_version():
    hosts = [router("gw", "192.168.10.0/24"), static("phone"), ALPHA]
    first = compiled(hosts).netmap
    assert compiled(hosts).netmap.to_bytes() == first.to_bytes()
    assert compiled(hosts, first).netmap == first
    assert compiled(hosts, Netmap.parse(first.to_bytes())).netmap == first
    assert compiled(hosts, dataclasses.replace(first, version=7)).netmap.version == 7


def test_the_version_grows_by_one_when_anything_differs():
    first = dataclasses.replace(compiled([ALPHA, node("beta")]).netmap, version=7)
    for hosts in (
        [ALPHA],
        [ALPHA, node("beta"), node("gamma")],
        [ALPHA, node("beta", sennit_endpoint="192.0.2.2")],
        [ALPHA, router("beta", "10.0.0.0/8")],
        [ALPHA, dataclasses.replace(node("beta"), report=Report(key("new key of beta")))],
    ):
        assert compiled(hosts, first).netmap.version == 8
    assert compiled([ALPHA, node("beta")], first, superseding=True).netmap.version == 8


def test_empty_strings_are_unset_everywhere():
    unset = dict.fromkeys(
        [
            "ansible_host",
            "sennit_addresses",
            "sennit_advertise_routes",
            "sennit_allowed_ips",
            "sennit_domain",
            "sennit_endpoint",
            "sennit_ipv4_pool",
            "sennit_ipv6_pool",
            "sennit_listen_port",
            "sennit_network",
            "sennit_persistent_keepalive",
            "sennit_public_key",
        ],
        "",
    )
    bare = compiled([node("alpha"), router("gw", sennit_advertise_routes=None)]).netmap
    assert compiled([node("alpha", **unset), router("gw", **unset)]).netmap == bare
    of_blanks = router("gw", **{**unset, "sennit_advertise_routes": ["", " "]})
    assert compiled([node("alpha", **unset), of_blanks]).netmap == bare


def test_numbers_and_lists_may_come_as_strings():
    hosts = [router("gw", sennit_advertise_routes="192.168.10.0/24, 10.0.0.0/8", sennit_listen_port="7")]
    hosts[0].variables.update(sennit_persistent_keepalive="25", sennit_endpoint="gw.example")
    gw = compiled(hosts).netmap.nodes[0]
    assert gw.routes == ("10.0.0.0/8", "192.168.10.0/24")
    assert (gw.endpoint, gw.persistent_keepalive) == ("gw.example:7", 25)


def test_the_pools_are_the_inventorys():
    pools = {"sennit_ipv4_pool": "10.7.0.0/24", "sennit_ipv6_pool": "fd00:7::/64"}
    assert addresses(compiled([node("alpha", **pools)]).netmap) == {"alpha": ("10.7.0.1", "fd00:7::1")}


def test_the_derived_ipv6_pool_outlives_the_signing_key():
    first = compiled([ALPHA]).netmap
    assert first.network.pools[1] == default_ipv6_pool("sennit", VERIFY_KEY)
    assert compile_netmap([ALPHA], first, key("another verify key")).netmap == first
    assert default_ipv6_pool("sennit", VERIFY_KEY) != default_ipv6_pool("sennit", key("another verify key"))
    assert default_ipv6_pool("sennit", VERIFY_KEY) != default_ipv6_pool("demo", VERIFY_KEY)


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"ansible_host": "192.0.2.9"}, "192.0.2.9:51820"),
        ({"ansible_host": "2001:db8::9", "sennit_listen_port": 7}, "[2001:db8::9]:7"),
        ({"ansible_host": "192.0.2.9", "sennit_endpoint": ""}, "192.0.2.9:51820"),
        ({"ansible_host": "192.0.2.9", "sennit_endpoint": "gate.example:9"}, "gate.example:9"),
        ({"ansible_host": "alpha.example"}, None),
        ({"ansible_host": "127.0.0.1"}, None),
        ({"ansible_host": "::1"}, None),
        ({"ansible_host": "fe80::1%eth0"}, None),
        ({"ansible_host": "100.64.0.1"}, None),  # the play comes through the mesh
        ({}, None),
    ],
)
def test_the_endpoint_is_stated_or_how_ansible_reaches_the_host(variables, endpoint):
    assert compiled([node("alpha", **variables)]).netmap.nodes[0].endpoint == endpoint


def test_static_peers_own_pool_addresses_and_are_in_front_of_the_rest():
    phone = static("phone", sennit_allowed_ips=["100.64.0.50/32", "192.168.99.0/24", "203.0.113.7"])
    netmap = compiled([ALPHA, phone, static("tablet")]).netmap
    pool6 = ipaddress.ip_network(netmap.network.pools[1])
    assert addresses(netmap)["phone"] == ("100.64.0.50", str(pool6[50]))
    assert netmap.nodes[1].routes == ("192.168.99.0/24", "203.0.113.7/32")
    assert netmap.nodes[1].kind == "static"
    assert addresses(netmap)["tablet"][0] == "100.64.0.2"


def test_a_router_may_advertise_its_own_lan_even_with_its_endpoint_there():
    gw = router("gw", "192.168.10.0/24", underlay=("192.168.10.1/24", "198.51.100.0/24"), ansible_host="192.168.10.1")
    beta = node("beta", underlay=("198.51.100.7/24", "fe80::1/64", "127.0.0.1/8", "0.0.0.0/0"))
    netmap = compiled([gw, beta]).netmap
    assert netmap.nodes[1].routes == ("192.168.10.0/24",)


def test_a_node_may_advertise_prefixes_within_one_another():
    assert compiled([router("gw", "10.0.0.0/8", "10.1.0.0/16")]).netmap.nodes[0].routes == ("10.0.0.0/8", "10.1.0.0/16")


# --- addresses, for ever


def test_an_address_stays_when_hosts_come_before_or_go():
    first = compiled([node("beta")]).netmap
    second = compiled([node("alpha"), node("beta")], first).netmap
    assert addresses(second)["beta"] == addresses(first)["beta"]
    third = compiled([node("alpha")], second).netmap
    assert [each.name for each in third.nodes] == ["alpha"]
    assert third.allocations["beta"] == addresses(first)["beta"]
    fourth = compiled([node("gamma"), node("beta")], third).netmap
    assert addresses(fourth)["beta"] == addresses(first)["beta"]
    assert not set(addresses(fourth)["gamma"]) & set(addresses(third)["alpha"])


def test_explicit_addresses_come_first_and_their_ipv6_follows():
    netmap = compiled([node("alpha"), node("beta", sennit_addresses=["100.64.0.1"])]).netmap
    pool6 = ipaddress.ip_network(netmap.network.pools[1])
    assert addresses(netmap) == {
        "alpha": ("100.64.0.2", str(pool6[2])),
        "beta": ("100.64.0.1", str(pool6[1])),
    }


def test_an_explicit_ipv6_address_moves_nobodys_mirror():
    pools = {"sennit_ipv4_pool": "10.7.0.0/24", "sennit_ipv6_pool": "fd00:7::/64"}
    hosts = [node("alpha", **pools, sennit_addresses=["fd00:7::2"]), node("beta", **pools), node("gamma", **pools)]
    hosts += [node("delta", **pools, sennit_addresses=["10.7.0.2"])]
    assert addresses(compiled(hosts).netmap) == {
        "alpha": ("10.7.0.1", "fd00:7::2"),
        "beta": ("10.7.0.3", "fd00:7::3"),
        "gamma": ("10.7.0.4", "fd00:7::4"),
        "delta": ("10.7.0.2", "fd00:7::100"),
    }


def test_a_changed_explicit_address_keeps_the_old_one_reserved():
    first = compiled([node("alpha", sennit_addresses=["100.64.0.1"])]).netmap
    second = compiled([node("beta"), node("alpha", sennit_addresses=["100.64.0.9"])], first).netmap
    assert addresses(second)["alpha"][0] == "100.64.0.9"
    assert addresses(second)["alpha"][1] == addresses(first)["alpha"][1]
    assert addresses(second)["beta"][0] == "100.64.0.2"
    # Unset again, it stays; and it may go back to what was its own.
    assert addresses(compiled([node("alpha")], second).netmap)["alpha"] == addresses(second)["alpha"]
    back = compiled([node("alpha", sennit_addresses=["100.64.0.1"])], second).netmap
    assert addresses(back)["alpha"] == addresses(first)["alpha"]


def test_network_broadcast_like_and_service_addresses_are_given_to_nobody():
    pool = {"sennit_ipv4_pool": "100.100.100.0/23"}
    hosts = [node(f"n{number}", **pool) for number in range(507)]
    given_out = {each[0] for each in addresses(compiled(hosts).netmap).values()}
    everything = {str(address) for address in ipaddress.ip_network("100.100.100.0/23")}
    assert everything - given_out == {
        "100.100.100.0",
        "100.100.100.100",
        "100.100.100.255",
        "100.100.101.0",
        "100.100.101.255",
    }
    assert refused([*hosts, node("late", **pool)]) == [
        ("late", "sennit_ipv4_pool", "100.100.100.0/23", "has no free address left")
    ]


def test_changed_pools_renumber_with_a_warning_and_forget_nothing():
    first = compiled([ALPHA, node("beta")]).netmap
    pool = {"sennit_ipv4_pool": "10.7.0.0/24"}
    result = compiled([node("alpha", **pool), node("beta", **pool)], first)
    assert addresses(result.netmap)["alpha"] == ("10.7.0.1", addresses(first)["alpha"][1])
    assert set(result.netmap.allocations["alpha"]) == {"10.7.0.1", *addresses(first)["alpha"]}
    assert any("100.64.0.0/10" in warning and "10.7.0.0/24" in warning for warning in result.warnings)
    assert addresses(compiled([ALPHA, node("beta")], result.netmap).netmap) == addresses(first)


NAMES = ["ann", "bob", "cy", "dee", "eve", "flo"]


@given(st.lists(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), max_size=8), st.data())
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_inventories_changes_or_passes_on_an_address(sequence, data):
    previous = None
    seen: dict[str, tuple[str, ...]] = {}
    for names in sequence:
        hosts = []
        for name in names:
            known = previous is not None and name in [each.name for each in previous.nodes]
            unreached = known and data.draw(st.booleans())
            hosts.append(silent(name, in_play=data.draw(st.booleans())) if unreached else node(name))
        netmap = compiled(hosts, previous).netmap
        assert {each.name for each in netmap.nodes} == set(names)
        for name, own in addresses(netmap).items():
            assert seen.setdefault(name, own) == own
        everyones = [address for own in seen.values() for address in own]
        assert len(everyones) == len(set(everyones))
        assert netmap.allocations == seen
        previous = Netmap.parse(netmap.to_bytes())


# --- who is in


def test_a_host_that_is_down_or_left_out_stays_as_it_was():
    first = compiled([ALPHA, router("gw", "192.168.10.0/24"), node("beta")]).netmap
    gw = Host("gw", ("sennit", "sennit_subnet_routers"), {"sennit_advertise_routes": ["192.168.10.0/24"]})
    limited = compiled([ALPHA, dataclasses.replace(gw, in_play=False), silent("beta", in_play=False)], first)
    assert limited.netmap == first and limited.warnings == ()
    down = compiled([ALPHA, gw, silent("beta")], first)
    assert down.netmap == first
    assert [warning.split()[0] for warning in down.warnings] == ["gw", "beta"]


def test_a_host_never_seen_and_left_out_waits_with_a_warning():
    result = compiled([silent("beta", in_play=False), ALPHA])
    assert [each.name for each in result.netmap.nodes] == ["alpha"]
    assert set(result.pending) == {"beta"} and "beta" not in result.netmap.allocations
    assert "beta" in result.warnings[0]


def test_a_host_never_seen_that_does_not_answer_is_refused():
    down = silent("beta", ansible_host="192.0.2.2")
    ((host, variable, value, reason),) = refused([ALPHA, down], require_keys=False)
    assert (host, variable, value) == ("beta", "ansible_host", "192.0.2.2")
    assert "could not be reached" in reason and "sennit_nodes" in reason


def test_a_host_without_an_agent_is_pending_before_the_installation_and_refused_after():
    hosts = [ALPHA, node("beta", has_key=False)]
    result = compiled(hosts, require_keys=False)
    assert result.pending == {"beta": ("100.64.0.2", str(ipaddress.ip_network(result.netmap.network.pools[1])[2]))}
    ((host, variable, value, reason),) = refused(hosts)
    assert (host, variable, value) == ("beta", "group", "sennit_nodes")
    assert "no agent" in reason


def test_a_key_is_not_kept_for_a_name_that_was_another_kind_of_peer():
    first = compiled([static("beta"), ALPHA]).netmap
    assert refused([ALPHA, silent("beta")], first)[0][0] == "beta"


# --- bad inventories

IS_POOL = "overlaps 100.64.0.0/10 of the mesh (sennit_ipv4_pool)"


@pytest.mark.parametrize(
    ("bad", "variable", "value", "reason"),
    [
        # one address, one key, one name
        (node("bad", sennit_addresses=["100.64.0.5"]), "sennit_addresses", "100.64.0.5", "address of five (sennit_add"),
        (static("bad", sennit_allowed_ips="100.64.0.5/32"), "sennit_allowed_ips", "100.64.0.5/32", "of five"),
        (static("bad", sennit_public_key=key("alpha")), "sennit_public_key", key("alpha"), "also the key of alpha"),
        (node("ALPHA"), "inventory_hostname", "ALPHA", "of alpha"),
        # prefixes that others have
        (router("bad", "192.168.10.0/24"), "sennit_advertise_routes", "192.168.10.0/24", "of gw (sennit_advertise_rou"),
        (router("bad", "192.168.10.8/30"), "sennit_advertise_routes", "192.168.10.8/30", "overlaps 192.168.10.0/24 of"),
        (static("bad", sennit_allowed_ips=["192.168.10.8"]), "sennit_allowed_ips", "192.168.10.8", "of gw"),
        (router("bad", "100.64.0.0/10"), "sennit_advertise_routes", "100.64.0.0/10", IS_POOL),
        (router("bad", "100.64.7.0/24"), "sennit_advertise_routes", "100.64.7.0/24", IS_POOL),
        (router("bad", "100.0.0.0/8"), "sennit_advertise_routes", "100.0.0.0/8", IS_POOL),
        (static("bad", sennit_allowed_ips=["100.64.7.0/24"]), "sennit_allowed_ips", "100.64.7.0/24", IS_POOL),
        (router("bad", "fd00::/8"), "sennit_advertise_routes", "fd00::/8", "(sennit_ipv6_pool)"),
        (router("bad", "198.51.100.0/25"), "sennit_advertise_routes", "198.51.100.0/25", "of beta (underlay)"),
        (router("bad", "198.51.0.0/16"), "sennit_advertise_routes", "198.51.0.0/16", "198.51.100.7/24 of beta"),
        (router("bad", "2001:db8:b::/64"), "sennit_advertise_routes", "2001:db8:b::/64", "of beta (underlay)"),
        (
            router("bad", "192.0.2.0/24"),
            "sennit_advertise_routes",
            "192.0.2.0/24",
            "of alpha (endpoint)",
        ),
        # prefixes that nobody advertises
        (router("bad", "0.0.0.0/0"), "sennit_advertise_routes", "0.0.0.0/0", "default route"),
        (router("bad", "::/0"), "sennit_advertise_routes", "::/0", "default route"),
        (static("bad", sennit_allowed_ips="0.0.0.0/0"), "sennit_allowed_ips", "0.0.0.0/0", "default route"),
        (router("bad", "127.0.0.0/8"), "sennit_advertise_routes", "127.0.0.0/8", "loopback"),
        (router("bad", "169.254.0.0/16"), "sennit_advertise_routes", "169.254.0.0/16", "link-local"),
        (router("bad", "fe80::/64"), "sennit_advertise_routes", "fe80::/64", "link-local"),
        (router("bad", "224.0.0.0/3"), "sennit_advertise_routes", "224.0.0.0/3", "multicast"),
        # malformed
        (router("bad", "10.0.0.1/8"), "sennit_advertise_routes", "10.0.0.1/8", "the prefix is 10.0.0.0/8"),
        (router("bad", "10.0.0.0"), "sennit_advertise_routes", "10.0.0.0", "no prefix length"),
        (router("bad", "10.0.0.0/33"), "sennit_advertise_routes", "10.0.0.0/33", "from 0 to 32"),
        (router("bad", "10.0.0.0/255.0.0.0"), "sennit_advertise_routes", "10.0.0.0/255.0.0.0", "prefix length"),
        (router("bad", "10/8"), "sennit_advertise_routes", "10/8", "is not a prefix"),
        (router("bad", "010.0.0.0/8"), "sennit_advertise_routes", "010.0.0.0/8", "is not a prefix"),
        (router("bad", "lan"), "sennit_advertise_routes", "lan", "is not a prefix"),
        (router("bad", sennit_advertise_routes=7), "sennit_advertise_routes", 7, "not a list"),
        (router("bad", sennit_advertise_routes=[["x"]]), "sennit_advertise_routes", [["x"]], "not a list of strings"),
        (router("bad", sennit_advertise_routes={"x": 1}), "sennit_advertise_routes", {"x": 1}, "not a list of strings"),
        (node("bad", sennit_addresses=["100.64.0.300"]), "sennit_addresses", "100.64.0.300", "not an IP address"),
        (node("bad", sennit_addresses=["100.64.0.7/32"]), "sennit_addresses", "100.64.0.7/32", "not an IP address"),
        (node("bad", sennit_addresses=["10.0.0.7"]), "sennit_addresses", "10.0.0.7", "not in the mesh's pool"),
        (node("bad", sennit_addresses=["100.64.0.0"]), "sennit_addresses", "100.64.0.0", "first address"),
        (node("bad", sennit_addresses=["100.127.255.255"]), "sennit_addresses", "100.127.255.255", "broadcast"),
        (node("bad", sennit_addresses=["100.100.100.100"]), "sennit_addresses", "100.100.100.100", "own resolver"),
        (static("bad", sennit_public_key="secret"), "sennit_public_key", "secret", "not base64"),
        (static("bad", sennit_public_key=""), "sennit_public_key", "", "not set"),
        (static("bad", sennit_public_key=7), "sennit_public_key", 7, "not a string"),
        (
            static("bad", sennit_public_key=base64.b64encode(bytes(31)).decode()),
            "sennit_public_key",
            base64.b64encode(bytes(31)).decode(),
            "31 bytes",
        ),
        (
            static("bad", sennit_public_key=base64.b64encode(bytes(32)).decode()),
            "sennit_public_key",
            base64.b64encode(bytes(32)).decode(),
            "all zero",
        ),
        (node("bad", sennit_endpoint="gate:99999"), "sennit_endpoint", "gate:99999", "from 1 to 65535"),
        (node("bad", sennit_endpoint="127.0.0.1"), "sennit_endpoint", "127.0.0.1", "no other host"),
        (node("bad", sennit_endpoint="100.64.0.7:5"), "sennit_endpoint", "100.64.0.7:5", "own pool"),
        (node("bad", sennit_endpoint=["gate"]), "sennit_endpoint", ["gate"], "not a string"),
        (node("bad", sennit_listen_port="x"), "sennit_listen_port", "x", "from 1 to 65535"),
        (node("bad", sennit_listen_port=0), "sennit_listen_port", 0, "from 1 to 65535"),
        (node("bad", sennit_persistent_keepalive=-1), "sennit_persistent_keepalive", -1, "from 0 to 65535"),
        (node("bad", sennit_persistent_keepalive=True), "sennit_persistent_keepalive", True, "from 0 to 65535"),
        # names and groups
        (node("192.0.2.7"), "inventory_hostname", "192.0.2.7", "not a name"),
        (node("bad host"), "inventory_hostname", "bad host", "is not a name"),
        (node("bad..host"), "inventory_hostname", "bad..host", "is not a name"),
        (Host("bad", ("sennit",), {}, Report(key("bad"))), "group", "sennit", "none of sennit_nodes"),
        (
            Host("bad", ("sennit", "sennit_nodes", "sennit_static_peers"), {}, Report(key("bad"))),
            "group",
            "sennit_static_peers",
            "not in sennit_nodes",
        ),
        (node("bad", sennit_allowed_ips=["10.0.0.0/8"]), "sennit_allowed_ips", ["10.0.0.0/8"], "is for static peers"),
        (node("bad", sennit_public_key=key("bad")), "sennit_public_key", key("bad"), "is for static peers"),
        (
            static("bad", sennit_advertise_routes=["10.0.0.0/8"]),
            "sennit_advertise_routes",
            ["10.0.0.0/8"],
            "is for nodes",
        ),
        # the network's own, which all hosts share
        (node("bad", sennit_network="other"), "sennit_network", "other", "alpha has (unset)"),
        (node("bad", sennit_domain="x.test"), "sennit_domain", "x.test", "one for the whole network"),
        (node("bad", sennit_ipv4_pool="10.0.0.0/8"), "sennit_ipv4_pool", "10.0.0.0/8", "what alpha has"),
        # what hosts report
        (
            dataclasses.replace(node("bad"), report=Report(key("beta"))),
            "public key",
            key("beta"),
            "also the key of beta",
        ),
        (dataclasses.replace(node("bad"), report=Report("x")), "public key (reported by the host)", "x", "base64"),
        (node("bad", underlay=("lan",)), "underlay (reported by the host)", "lan", "neither"),
        (
            dataclasses.replace(node("bad"), report=Report(key("bad"), network="prod")),
            "sennit_network",
            "sennit",
            "network prod",
        ),
    ],
)
def test_refused(bad, variable, value, reason):
    hosts = [
        ALPHA,
        node("beta", underlay=("198.51.100.7/24", "2001:db8:b::7/64")),
        node("five", sennit_addresses=["100.64.0.5"]),
        router("gw", "192.168.10.0/24"),
    ]
    ((found_host, found_variable, found_value, found_reason),) = refused([*hosts, bad])
    assert (found_host, found_value) == (bad.name, value)
    assert found_variable.startswith(variable)
    assert reason in found_reason


@pytest.mark.parametrize(
    ("variables", "variable", "value", "reason"),
    [
        ({"sennit_network": "Demo net"}, "sennit_network", "Demo net", "not one label"),
        ({"sennit_domain": "demo..internal"}, "sennit_domain", "demo..internal", "DNS name"),
        ({"sennit_ipv4_pool": "fd00::/64"}, "sennit_ipv4_pool", "fd00::/64", "not an IPv4 prefix"),
        ({"sennit_ipv4_pool": "100.64.0.1/10"}, "sennit_ipv4_pool", "100.64.0.1/10", "host bits"),
        ({"sennit_ipv4_pool": "0.0.0.0/0"}, "sennit_ipv4_pool", "0.0.0.0/0", "default route"),
        ({"sennit_ipv4_pool": "10.0.0.0/31"}, "sennit_ipv4_pool", "10.0.0.0/31", "no room"),
        ({"sennit_ipv6_pool": "10.0.0.0/8"}, "sennit_ipv6_pool", "10.0.0.0/8", "not an IPv6 prefix"),
        ({"sennit_ipv6_pool": "ff00::/48"}, "sennit_ipv6_pool", "ff00::/48", "multicast"),
        ({"sennit_network": 7}, "sennit_network", 7, "not a string"),
    ],
)
def test_a_bad_network_is_refused(variables, variable, value, reason):
    ((host, found_variable, found_value, found_reason),) = refused([node("alpha", **variables)])
    assert (host, found_variable, found_value) == ("alpha", variable, value)
    assert reason in found_reason


def test_no_hosts_is_refused():
    ((_host, variable, value, _reason),) = refused([])
    assert (variable, value) == ("group", "sennit")


def test_an_address_of_a_name_that_left_is_not_passed_on():
    previous = compiled([ALPHA, node("gone")]).netmap
    address = addresses(previous)["gone"][0]
    ((host, variable, value, reason),) = refused([ALPHA, node("beta", sennit_addresses=[address])], previous)
    assert (host, variable, value) == ("beta", "sennit_addresses", address)
    assert "gone, which has left" in reason


def test_the_claims_of_hosts_that_wait_count_too():
    waiting = silent("beta", in_play=False, sennit_addresses=["100.64.0.5"])
    assert refused([waiting, node("alpha", sennit_addresses=["100.64.0.5"])])[0][:3] == (
        "alpha",
        "sennit_addresses",
        "100.64.0.5",
    )


def test_all_that_is_wrong_is_told_at_once():
    found = refused(
        [
            node("alpha", sennit_endpoint="gate:0", sennit_addresses=["x", "y"]),
            router("gw", "10.0.0.1/8", "192.168.10.0/24"),
            router("gw2", "192.168.10.0/24"),
            static("phone", sennit_public_key="?"),
            silent("down"),
        ]
    )
    assert [(host, value) for host, _variable, value, _reason in found] == [
        ("alpha", "gate:0"),
        ("alpha", "x"),
        ("alpha", "y"),
        ("gw", "10.0.0.1/8"),
        ("phone", "?"),
        ("down", "down"),
        ("gw2", "192.168.10.0/24"),
    ]


def test_a_prefix_over_everybodys_underlay_is_one_refusal_that_names_a_few():
    hosts = [node(f"n{number}", underlay=("10.0.0.0/16",)) for number in range(300)]
    ((host, _variable, value, reason),) = refused([*hosts, router("gw", "10.0.0.0/8")])
    assert (host, value) == ("gw", "10.0.0.0/8")
    assert "10.0.0.0/16 of n0 (underlay)" in reason and reason.endswith("and 297 more")


def test_a_pool_over_an_underlay_is_a_warning():
    result = compiled([node("alpha", underlay=("100.70.1.2/24",))])
    assert "100.70.1.2/24 of alpha (underlay)" in result.warnings[0]


def test_a_node_that_advertises_without_being_a_subnet_router_is_a_warning():
    result = compiled([node("alpha", sennit_advertise_routes=["10.0.0.0/8"])])
    assert "sennit_subnet_routers" in result.warnings[0]


def test_a_thousand_nodes_make_a_map_that_nodes_accept():
    hosts = [
        router(f"n{number}", f"10.{number // 250}.{number % 250}.0/24", underlay=("198.18.0.0/15",))
        for number in range(1000)
    ]
    netmap = compiled(hosts).netmap
    assert len({address for each in netmap.nodes for address in each.addresses}) == 2000
    assert Netmap.parse(netmap.to_bytes()) == netmap
    assert compiled(hosts, netmap).netmap == netmap
