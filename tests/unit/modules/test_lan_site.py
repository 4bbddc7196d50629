# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which subnet router a device has, and what it routes by way of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.sennit.mesh.plugins.filter.lan_site import lan_site

POOLS = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]


def underlay(*interfaces: str) -> list[dict[str, str]]:
    """Addresses with their prefix, as status_info tells them."""
    found = []
    for text in interfaces:
        address, _slash, prefix = text.partition(" in ")
        found.append({"interface": "eth0", "address": address, "prefix": prefix})
    return found


DEVICE = underlay("192.168.50.20 in 192.168.50.0/24", "fd50:5e9:a::20 in fd50:5e9:a::/64")
ROUTER_A = underlay(
    "198.51.100.10 in 198.51.100.0/27",
    "192.168.50.1 in 192.168.50.0/24",
    "fd50:5e9:a::1 in fd50:5e9:a::/64",
)


def mesh(**changed: Any) -> dict[str, Any]:
    """hostvars after the mesh's play: two sites, and a node that routes nothing."""
    plan = {
        "pools": POOLS,
        "routes": {
            "node": [],
            "router-a": ["192.168.50.0/24", "fd50:5e9:a::/64"],
            "router-b": ["192.168.60.0/24", "fd50:5e9:b::/64"],
            **changed.pop("routes", {}),
        },
    }
    hostvars: dict[str, Any] = {
        "device": {},
        "node": {"sennit_plan": plan, "sennit_status": {"underlay": []}},
        "router-a": {"sennit_plan": plan, "sennit_status": {"underlay": ROUTER_A}},
        "router-b": {},  # not reached, which is nothing to router-a's devices
    }
    return {**hostvars, **changed}


def test_the_router_is_found_and_the_other_sites_are_routed() -> None:
    assert lan_site(DEVICE, mesh(), "device") == {
        "gateways": ["192.168.50.1", "fd50:5e9:a::1"],
        "prefixes": ["100.64.0.0/10", "192.168.60.0/24", "fd50:5e9:b::/64", "fd7a:115c:a1e0::/48"],
    }


def test_a_family_that_the_router_has_not_on_the_lan_is_not_routed() -> None:
    routers = mesh(**{"router-a": {"sennit_status": {"underlay": ROUTER_A[:2]}}})
    assert lan_site(DEVICE, routers, "device") == {
        "gateways": ["192.168.50.1"],
        "prefixes": ["100.64.0.0/10", "192.168.60.0/24"],
    }


@pytest.mark.parametrize("given", [["192.168.50.7"], "192.168.50.7", " 192.168.50.7, "])
def test_a_gateway_that_is_given_is_not_looked_for(given: Any) -> None:
    assert lan_site([], mesh(**{"router-a": {}}), "device", given) == {
        "gateways": ["192.168.50.7"],
        "prefixes": ["100.64.0.0/10", "192.168.60.0/24"],
    }


def test_a_router_whose_prefix_is_wider_than_the_lan_is_found() -> None:
    routers = mesh(routes={"router-a": ["192.168.48.0/20"]})
    assert lan_site(DEVICE[:1], routers, "device")["gateways"] == ["192.168.50.1"]


def test_an_unapproved_router_is_none() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"device: it has the addresses 192\.168\.50\.20/24.*sennit_lan_gateway"
    ):
        lan_site(DEVICE[:1], mesh(routes={"router-a": []}), "device")


def test_a_router_that_was_not_reached_is_said_so() -> None:
    with pytest.raises(AnsibleFilterError, match="device: this run has not reached router-a"):
        lan_site(DEVICE, mesh(**{"router-a": {}}), "device")


def test_two_addresses_are_too_many() -> None:
    routers = mesh(
        **{"router-a": {"sennit_status": {"underlay": [*ROUTER_A, *underlay("192.168.50.2 in 192.168.50.0/24")]}}}
    )
    with pytest.raises(AnsibleFilterError, match=r"192\.168\.50\.1 \(router-a\), 192\.168\.50\.2 \(router-a\)"):
        lan_site(DEVICE, routers, "device")


def test_a_run_without_the_mesh_knows_no_sites() -> None:
    with pytest.raises(AnsibleFilterError, match="device: no node of the mesh is in this run"):
        lan_site(DEVICE, {"device": {}, "router-a": {}}, "device", ["192.168.50.1"])


def test_a_gateway_that_is_no_address_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="device: sennit_lan_gateway = router"):
        lan_site(DEVICE, mesh(), "device", ["router"])
