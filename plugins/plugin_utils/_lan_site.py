# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device on a LAN has to route, and by way of which address. Pure functions of what the mesh's hosts report."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


class LanSiteError(Exception):
    """A device whose site cannot be told: names the variable that would settle it, and the reason."""


@dataclass(frozen=True)
class Router:
    """A member of the mesh that advertises prefixes.

    routes: those that the network approves. underlay: its own addresses with their prefix length, e.g.
    ``192.168.50.1/24``; None when this run has not reached it.
    """

    name: str
    routes: tuple[str, ...]
    underlay: tuple[str, ...] | None = None


def find_gateways(underlay: Iterable[str], routers: Iterable[Router]) -> list[str]:
    """For each family, the address of the site's router on the LAN of a device with these addresses.

    The router is the one with an approved route to the device. Raises LanSiteError when there is none, when this run
    has not reached it, or when more than one address could be meant.
    """
    own = list(underlay)
    candidates: dict[int, dict[str, str]] = {}
    for router, mine in _routers_of(own, routers):
        if router.underlay is None:
            raise LanSiteError(
                f"this run has not reached {router.name}, the subnet router of its LAN: set sennit_lan_gateway to"
                " that one's address there, or leave --limit out"
            )
        for theirs in map(ipaddress.ip_interface, router.underlay):
            if theirs.network == mine.network:
                candidates.setdefault(mine.version, {})[str(theirs.ip)] = router.name
    for found in candidates.values():
        if len(found) > 1:
            them = ", ".join(f"{address} ({name})" for address, name in sorted(found.items()))
            raise LanSiteError(f"any of {them} could be its gateway: set sennit_lan_gateway")
    if not candidates:
        raise LanSiteError(
            f"it has the addresses {', '.join(own) or '(none)'}, and no subnet router of the mesh is on the same LAN"
            " and has an approved route to it: set sennit_lan_gateway, or sennit_advertise_routes of the subnet router"
        )
    return [next(iter(candidates[version])) for version in sorted(candidates)]


def _routers_of(
    underlay: Iterable[str], routers: Iterable[Router]
) -> Iterator[tuple[Router, ipaddress.IPv4Interface | ipaddress.IPv6Interface]]:
    """The routers that have a route to one of the device's addresses, with that address."""
    own = [ipaddress.ip_interface(text) for text in underlay]
    for router in routers:
        routes = [ipaddress.ip_network(route) for route in router.routes]
        for mine in own:
            if any(mine.ip in route for route in routes):
                yield router, mine


def prefixes(gateways: Sequence[str], routers: Iterable[Router], pools: Iterable[str]) -> list[str]:
    """What is behind these gateways: the mesh's pools, and the routes of all routers but the site's own.

    The site's own is the one with a route to a gateway's address. Of a family without a gateway there is nothing.
    Raises LanSiteError for a gateway that is no address.
    """
    addresses = []
    for text in gateways:
        try:
            addresses.append(ipaddress.ip_address(text))
        except ValueError as error:
            raise LanSiteError(f"sennit_lan_gateway = {text}: {error}") from None
    found = {ipaddress.ip_network(pool) for pool in pools}
    for router in routers:
        routes = [ipaddress.ip_network(route) for route in router.routes]
        if not any(address in route for address in addresses for route in routes):
            found.update(routes)
    versions = {address.version for address in addresses}
    return [str(p) for p in sorted(found, key=lambda p: (p.version, p)) if p.version in versions]
