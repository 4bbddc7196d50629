# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes are beacons, from the inventory to a node's view."""

from __future__ import annotations

import pytest
from tests.unit.netmap.inventories import VERIFY_KEY, key, node, raw_key, static

from sennit.netmap.compile import compile_netmap
from sennit.netmap.describe import describe
from sennit.netmap.inventory import CompileError, Host, Report
from sennit.netmap.model import Netmap
from sennit.netmap.view import derive


def beacon(name, **variables):
    return Host(name, ("sennit", "sennit_beacons"), variables, Report(key(name)))


def compiled(*hosts):
    return compile_netmap(hosts, None, VERIFY_KEY).netmap


def test_a_beacon_is_a_node_and_every_view_has_it():
    netmap = compiled(
        node("alpha"),
        beacon("harbor", ansible_host="192.0.2.1"),
        beacon("mole", sennit_endpoint="mole.example", sennit_beacon_port="7000"),
        static("phone"),
    )
    assert Netmap.parse(netmap.to_bytes()) == netmap
    view = derive(netmap, raw_key("alpha"))
    assert [(peer.name, peer.beacon) for peer in view.beacons] == [("harbor", 21472), ("mole", 7000)]
    assert view.beacon is None
    own = derive(netmap, raw_key("mole"))
    assert own.beacon == 7000 and [peer.name for peer in own.beacons] == ["harbor"]
    assert "    beacon: 7000\n" in describe(netmap)


def test_a_map_without_beacons_has_the_bytes_that_it_had_before_there_were_any():
    assert b"beacon" not in compiled(node("alpha"), static("phone")).to_bytes()


@pytest.mark.parametrize(
    ("host", "variable", "value", "reason"),
    [
        (beacon("bad"), "sennit_endpoint", "", "is not set"),
        (beacon("bad", ansible_host="bad.example"), "sennit_endpoint", "", "no address that others reach"),
        (beacon("bad", ansible_host="127.0.0.1"), "sennit_endpoint", "", "no address that others reach"),
        (beacon("bad", sennit_endpoint=" "), "sennit_endpoint", "", "is not set"),
        (beacon("bad", sennit_endpoint="300.1.1.1"), "sennit_endpoint", "300.1.1.1", "not an address"),
        (beacon("bad", sennit_endpoint="a", sennit_beacon_port=0), "sennit_beacon_port", 0, "from 1 to 65535"),
        (beacon("bad", sennit_endpoint="a", sennit_beacon_port="x"), "sennit_beacon_port", "x", "from 1 to 65535"),
        (Host("bad", ("sennit", "sennit_beacons", "sennit_static_peers")), "group", "sennit_static_peers", "not in"),
        (Host("bad", ("sennit", "sennit_beacons", "sennit_lan_devices")), "group", "sennit_lan_devices", "not in"),
    ],
)
def test_what_cannot_be_a_beacon_is_refused(host, variable, value, reason):
    with pytest.raises(CompileError) as caught:
        compiled(node("alpha"), host)
    ((refusal),) = caught.value.refusals
    assert (refusal.host, refusal.variable, refusal.value) == ("bad", variable, value)
    assert reason in refusal.reason
