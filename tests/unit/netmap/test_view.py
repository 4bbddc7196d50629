# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node makes of the map, and what a person sees of it."""

from __future__ import annotations

import configparser

import pytest
from tests.unit.netmap.inventories import VERIFY_KEY, key, node, raw_key, router, static

from sennit.netmap.compile import compile_netmap
from sennit.netmap.describe import describe
from sennit.netmap.model import NO_SUCH_NODE, NetmapError
from sennit.netmap.static_config import static_peer_configs
from sennit.netmap.view import derive

HOSTS = [
    node("alpha", sennit_endpoint="192.0.2.1", sennit_ipv6_pool="fd00:0:1::/48"),
    node("beta", sennit_persistent_keepalive=25, sennit_ipv6_pool="fd00:0:1::/48"),
    router("gw", "192.168.10.0/24", sennit_ipv6_pool="fd00:0:1::/48"),
    static("phone", sennit_persistent_keepalive=21, sennit_ipv6_pool="fd00:0:1::/48"),
]
NETMAP = compile_netmap(HOSTS, None, VERIFY_KEY).netmap


def test_a_view_is_all_the_others_and_their_allowed_ips():
    view = derive(NETMAP, raw_key("alpha"))
    assert (view.name, view.addresses, view.network) == ("alpha", ("100.64.0.1", "fd00:0:1::1"), NETMAP.network)
    assert {peer.name: peer.allowed_ips for peer in view.peers} == {
        "beta": ("100.64.0.2/32", "fd00:0:1::2/128"),
        "gw": ("100.64.0.3/32", "fd00:0:1::3/128", "192.168.10.0/24"),
        "phone": ("100.64.0.4/32", "fd00:0:1::4/128"),
    }
    assert [peer.public_key for peer in view.peers] == [raw_key("beta"), raw_key("gw"), raw_key("phone")]


def test_who_asks_for_a_keepalive_sends_it_to_those_with_an_endpoint():
    assert {peer.name: peer.persistent_keepalive for peer in derive(NETMAP, raw_key("beta")).peers} == {
        "alpha": 25,
        "gw": 0,
        "phone": 0,
    }
    assert all(peer.persistent_keepalive == 0 for peer in derive(NETMAP, raw_key("alpha")).peers)


def test_a_key_that_is_not_in_the_map_has_no_view():
    with pytest.raises(NetmapError) as caught:
        derive(NETMAP, raw_key("stranger"))
    assert caught.value.reason == NO_SUCH_NODE


def test_a_static_peers_configuration_has_all_but_its_private_key():
    text = static_peer_configs(NETMAP)["phone"]
    assert "\nPrivateKey" not in text
    interface, *peers = text.split("[Peer]\n")
    parser = configparser.ConfigParser()
    parser.read_string(interface)
    assert parser["Interface"]["Address"] == "100.64.0.4/32, fd00:0:1::4/128"
    assert len(peers) == 3
    parser = configparser.ConfigParser()
    parser.read_string("[Peer]\n" + peers[0])
    assert dict(parser["Peer"]) == {
        "publickey": key("alpha"),
        "allowedips": "100.64.0.1/32, fd00:0:1::1/128",
        "endpoint": "192.0.2.1:51820",
        "persistentkeepalive": "21",
    }


def test_the_description_has_a_line_a_fact():
    without_beta = compile_netmap([HOSTS[0], *HOSTS[2:]], NETMAP, VERIFY_KEY)
    text = describe(without_beta.netmap, {"new": ("100.64.0.7",)})
    assert "version: 2\n" in text
    assert "  gw:\n    kind: node\n" in text
    assert "    routes: [192.168.10.0/24]\n" in text
    assert "  new:\n    public_key: not made yet\n    addresses: [100.64.0.7]\n" in text
    assert "left:  # their addresses stay theirs\n  beta: [100.64.0.2, fd00:0:1::2]\n" in text
    assert describe(None) == ""
