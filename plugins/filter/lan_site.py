# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter sennit.mesh.lan_site: from the variables of a play to what a LAN device has to route."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sennit.mesh.plugins.plugin_utils._lan_site import LanSiteError, Router, find_gateways, prefixes


def lan_site(
    underlay: Sequence[Mapping[str, str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    host: str,
    gateways: Sequence[str] | str = (),
) -> dict[str, list[str]]:
    """{"gateways": [...], "prefixes": [...]}; raises AnsibleFilterError naming the host and the variable."""
    # As it may stand in an inventory: a list, or a string with commas.
    given = gateways.split(",") if isinstance(gateways, str) else gateways
    try:
        plan = _plan(hostvars)
        routers = [
            Router(name, tuple(routes), _underlay(hostvars, name)) for name, routes in plan["routes"].items() if routes
        ]
        found = [text.strip() for text in given if text.strip()] or find_gateways(_interfaces(underlay), routers)
        return {"gateways": found, "prefixes": prefixes(found, routers, plan["pools"])}
    except LanSiteError as error:
        raise AnsibleFilterError(f"{host}: {error}") from None


def _plan(hostvars: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What was validated for the whole mesh; every host that its play reached has it."""
    for name in hostvars:
        plan = hostvars[name].get("sennit_plan")
        if plan and "routes" in plan:
            return plan
    raise LanSiteError(
        "no node of the mesh is in this run, so the other sites are not known: leave --limit out, or set"
        " sennit_lan_gateway and sennit_static_routes"
    )


def _underlay(hostvars: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, ...] | None:
    status = hostvars[name].get("sennit_status") if name in hostvars else None
    return tuple(_interfaces(status["underlay"])) if status and "underlay" in status else None


def _interfaces(underlay: Iterable[Mapping[str, str]]) -> list[str]:
    """Addresses with their prefix length."""
    return [f"{each['address']}/{each['prefix'].partition('/')[2]}" for each in underlay]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file, by name."""
        return {"lan_site": lan_site}
