# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the network makes of what nodes offer: routes and exit nodes, approved or not, and who may state which."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.netmap.inventories import VERIFY_KEY, key, node, raw_key, router, silent, static

from sennit.netmap.compile import compile_netmap
from sennit.netmap.describe import describe
from sennit.netmap.inventory import CompileError, Host, Report
from sennit.netmap.model import Netmap
from sennit.netmap.view import derive


def in_groups(host: Host, *groups: str) -> Host:
    return dataclasses.replace(host, groups=(*host.groups, *groups))


def exit_node(name: str, *groups: str, **variables) -> Host:
    return Host(name, ("sennit", "sennit_exit_nodes", *groups), variables, Report(key(name)))


def compiled(*hosts, approved=None, previous=None, **options):
    if approved is not None:
        hosts = [dataclasses.replace(h, variables={**h.variables, "sennit_approved_routes": approved}) for h in hosts]
    result = compile_netmap(hosts, previous, VERIFY_KEY, **options)
    assert Netmap.parse(result.netmap.to_bytes()) == result.netmap
    return result


def nodes(result):
    return {each.name: each for each in result.netmap.nodes}


def refused(*hosts, **options):
    with pytest.raises(CompileError) as caught:
        compiled(*hosts, **options)
    return [(each.host, each.variable, each.value, each.reason) for each in caught.value.refusals]


BETA = node("beta")
EVERYTHING = [{"prefixes": ["0.0.0.0/0", "::/0"], "groups": ["all"]}]

# --- what is approved


@pytest.mark.parametrize("unset", [None, "", []])
def test_without_a_list_all_that_is_declared_is_approved(unset):
    result = compiled(router("gw", "10.0.0.0/8"), exit_node("out", sennit_approved_routes=""), approved=unset)
    assert nodes(result)["gw"].routes == ("10.0.0.0/8",)
    assert nodes(result)["out"].exit_node == "approved"
    assert b"unapproved" not in result.netmap.to_bytes()
    assert result.routes["gw"] == ("10.0.0.0/8",) and result.exit_nodes == ("out",)


def test_a_route_takes_a_prefix_that_holds_it_and_a_group_of_the_hosts():
    approved = [
        {"prefixes": ["10.0.0.0/8", "198.18.0.0/16", "fd00:1::/32"], "groups": ["offices"]},
        {"prefixes": ["192.168.50.0/24"], "groups": "sennit_subnet_routers"},
    ]
    office = in_groups(router("office", "10.1.0.0/16", "fd00:1:2::/48", "172.16.0.0/12", "198.18.0.0/15"), "offices")
    shed = router("shed", "192.168.50.0/25", "10.2.0.0/16")
    phone = static("phone", sennit_allowed_ips=["10.3.0.0/16"])
    found = nodes(compiled(office, shed, phone, approved=approved))
    assert found["office"].routes == ("10.1.0.0/16", "fd00:1:2::/48")
    assert found["office"].unapproved_routes == ("172.16.0.0/12", "198.18.0.0/15")
    assert (found["shed"].routes, found["shed"].unapproved_routes) == (("192.168.50.0/25",), ("10.2.0.0/16",))
    assert found["phone"].unapproved_routes == ("10.3.0.0/16",)


def test_default_routes_approve_exit_nodes_and_no_subnet():
    result = compiled(in_groups(router("gw", "10.0.0.0/8"), "all"), exit_node("out", "all"), approved=EVERYTHING)
    assert nodes(result)["out"].exit_node == "approved"
    assert nodes(result)["gw"].unapproved_routes == ("10.0.0.0/8",)
    assert result.exit_nodes == ("out",) and result.routes["gw"] == ()


def test_an_exit_node_takes_both_families():
    half = [{"prefixes": ["0.0.0.0/0"], "groups": ["all"]}]
    result = compiled(exit_node("out", "all"), approved=half)
    assert nodes(result)["out"].exit_node == "offered" and result.exit_nodes == ()
    assert "0.0.0.0/0 and ::/0" in result.warnings[0]
    other_half = [*half, {"prefixes": ["::/0"], "groups": ["sennit_exit_nodes"]}]
    assert nodes(compiled(exit_node("out", "all"), approved=other_half))["out"].exit_node == "approved"


def test_who_offers_to_be_an_exit_node():
    hosts = [
        exit_node("out"),
        exit_node("not-now", sennit_offer_exit_node="no"),
        node("too", sennit_offer_exit_node=True),
        node("beta", sennit_offer_exit_node=""),
    ]
    result = compiled(*hosts)
    assert {name: each.exit_node for name, each in nodes(result).items()} == {
        "out": "approved",
        "not-now": None,
        "too": "approved",
        "beta": None,
    }
    assert result.warnings == ("too offers to be an exit node but is not in group sennit_exit_nodes",)


def test_a_group_of_nobody_is_a_warning():
    result = compiled(BETA, approved=[{"prefixes": ["10.0.0.0/8"], "groups": ["ofices", "sennit_nodes"]}])
    assert result.warnings == ("sennit_approved_routes names group ofices, in which no member of the network is",)


@pytest.mark.parametrize(
    ("approved", "value", "reason"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", "prefixes and groups"),
        ([{"prefixes": ["10.0.0.0/8"]}], {"prefixes": ["10.0.0.0/8"]}, "prefixes and groups"),
        ([{"prefixes": ["10.0.0.1/8"], "groups": ["a"]}], "10.0.0.1/8", "host bits"),
        ([{"prefixes": [], "groups": ["a"]}], {"prefixes": [], "groups": ["a"]}, "no list of strings"),
        ([{"prefixes": "10.0.0.0/8", "groups": 7}], {"prefixes": "10.0.0.0/8", "groups": 7}, "groups are no list"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(approved, value, reason):
    ((host, variable, found, why),) = refused(node("alpha"), BETA, approved=approved)
    assert (host, variable, found) == ("alpha", "sennit_approved_routes", value)
    assert reason in why


def test_the_list_is_one_for_the_whole_network():
    hosts = [node("alpha", sennit_approved_routes=EVERYTHING), BETA]
    ((host, variable, value, reason),) = refused(*hosts)
    assert (host, variable, value) == ("beta", "sennit_approved_routes", "")
    assert "alpha" in reason


def test_unapproved_prefixes_of_two_sites_are_refused_too():
    # An approval is taken back and given again; what two sites both are must not wait until then.
    approved = [{"prefixes": ["192.0.2.0/24"], "groups": ["nobody"]}]
    ((host, variable, value, reason),) = refused(
        router("one", "10.1.0.0/16"), router("two", "10.1.2.0/24"), approved=approved
    )
    assert (host, variable, value) == ("two", "sennit_advertise_routes", "10.1.2.0/24")
    assert "10.1.0.0/16 of one" in reason


# --- what the others see of it


def test_views_tell_what_is_approved_and_what_is_not():
    approved = [
        {"prefixes": ["10.1.0.0/16"], "groups": ["sennit_subnet_routers"]},
        {"prefixes": ["0.0.0.0/0", "::/0"], "groups": ["trusted"]},
    ]
    hosts = [router("gw", "10.1.0.0/16", "10.2.0.0/16"), exit_node("out", "trusted"), exit_node("wild"), BETA]
    netmap = compiled(*hosts, approved=approved).netmap
    peers = {peer.name: peer for peer in derive(netmap, raw_key("beta")).peers}
    assert peers["gw"].allowed_ips[2:] == peers["gw"].routes == ("10.1.0.0/16",)
    assert peers["gw"].unapproved_routes == ("10.2.0.0/16",)
    assert {name: peer.exit_node for name, peer in peers.items()} == {"gw": False, "out": True, "wild": False}
    assert not any(prefix.endswith("/0") for peer in peers.values() for prefix in peer.allowed_ips)
    assert derive(netmap, raw_key("gw")).unapproved_routes == ("10.2.0.0/16",)
    assert [derive(netmap, raw_key(name)).exit_node for name in ("out", "wild", "beta")] == [
        "approved",
        "offered",
        None,
    ]
    text = describe(netmap)
    assert "    routes: [10.1.0.0/16]\n    unapproved_routes: [10.2.0.0/16]\n" in text
    assert "    exit_node: approved\n" in text and "    exit_node: offered\n" in text


# --- who uses which


def test_a_node_may_state_an_exit_node_that_is_one():
    compiled(node("beta", sennit_exit_node="out"), exit_node("out"), exit_node("two", sennit_exit_node="out"))
    # To state that there is none fits every member, so it can be said of all at once.
    compiled(node("beta", sennit_exit_node="none"), static("phone", sennit_exit_node="none"))
    # Not a word about a host that this run leaves out, and its exit node with it.
    compiled(silent("beta", in_play=False, sennit_exit_node="out"), exit_node("out"))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("nobody", "no member"),
        ("gw", "does not offer to be an exit node"),
        ("beta", "its own exit node"),
        ("phone", "static peer"),
        ("wild", "sennit_approved_routes does not approve it"),
        ("late", "not in the map yet"),
        (["out"], "not a string"),
    ],
)
def test_an_exit_node_that_cannot_be_one_is_refused(wanted, reason):
    late = dataclasses.replace(exit_node("late", "trusted"), report=None, in_play=False)
    hosts = [router("gw"), static("phone"), exit_node("out", "trusted"), exit_node("wild"), late]
    approved = [{"prefixes": ["0.0.0.0/0", "::/0"], "groups": ["trusted"]}]
    ((host, variable, value, why),) = refused(node("beta", sennit_exit_node=wanted), *hosts, approved=approved)
    assert (host, variable, value) == ("beta", "sennit_exit_node", wanted)
    assert reason in why


@pytest.mark.parametrize(
    ("host", "variable", "value", "reason"),
    [
        (static("bad", sennit_exit_node="out"), "sennit_exit_node", "out", "is for nodes"),
        (exit_node("bad", sennit_offer_exit_node="perhaps"), "sennit_offer_exit_node", "perhaps", "true nor false"),
        (exit_node("bad", sennit_offer_exit_node=[True]), "sennit_offer_exit_node", [True], "true nor false"),
        (exit_node("bad", "sennit_lan_devices"), "group", "sennit_lan_devices", "not in sennit_exit_nodes"),
        (exit_node("bad", "sennit_static_peers"), "group", "sennit_static_peers", "not in sennit_exit_nodes"),
    ],
)
def test_what_does_not_fit_is_refused(host, variable, value, reason):
    found = refused(host, exit_node("out"))
    assert [each[:3] for each in found] == [("bad", variable, value)]
    assert reason in found[0][3]


def test_lan_devices_are_no_members():
    device = Host("printer", ("sennit", "sennit_lan_devices"), {}, None)
    assert [each.name for each in compiled(BETA, device).netmap.nodes] == ["beta"]
