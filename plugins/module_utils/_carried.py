# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway between the mesh and the networks around it carries, whichever firewall does it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.sennit.mesh.plugins.module_utils._host import IPNetwork

EVERYTHING: tuple[IPNetwork, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

# Addresses of somebody's own network. An exit node has such networks around it that come and go (a lease, a container
# bridge), and a cloud's metadata service at a link-local address; none of it is the internet.
PRIVATE: tuple[IPNetwork, ...] = (
    ipaddress.ip_network("10.0.0.0/8"),  # RFC 1918
    ipaddress.ip_network("100.64.0.0/10"),  # RFC 6598
    ipaddress.ip_network("169.254.0.0/16"),  # RFC 3927
    ipaddress.ip_network("172.16.0.0/12"),  # RFC 1918
    ipaddress.ip_network("192.168.0.0/16"),  # RFC 1918
    ipaddress.ip_network("fc00::/7"),  # RFC 4193
    ipaddress.ip_network("fe80::/10"),  # RFC 4291
)


@dataclass(frozen=True)
class Carried:
    """The traffic of one gateway.

    sources: what the mesh's traffic comes from. destinations: the prefixes behind the host, each with its interface.
    masquerade: whether what goes there gets the host's address. from_lan: whether they may start connections into the
    mesh. exit_node: whether the mesh gets out into the internet, which is all but not_the_internet.
    """

    interface: str
    sources: Sequence[IPNetwork]
    destinations: Sequence[tuple[IPNetwork, str]]
    masquerade: bool = True
    from_lan: bool = False
    exit_node: bool = False
    not_the_internet: Sequence[IPNetwork] = ()

    @property
    def prefixes(self) -> list[IPNetwork]:
        """The destinations without their interfaces."""
        return [prefix for prefix, _interface in self.destinations]


def not_the_internet(on_link: Iterable[IPNetwork]) -> list[IPNetwork]:
    """What a client of an exit node shall not reach, given what the exit node is on-link with; none in another."""
    return collapse([*PRIVATE, *on_link])


def collapse(prefixes: Iterable[IPNetwork]) -> list[IPNetwork]:
    """The same addresses in as few prefixes as possible, IPv4 first."""
    given = list(prefixes)
    found: list[IPNetwork] = list(ipaddress.collapse_addresses(p for p in given if p.version == 4))
    found += ipaddress.collapse_addresses(p for p in given if p.version == 6)
    return found


def without(prefixes: Iterable[IPNetwork], left_out: Iterable[IPNetwork]) -> list[IPNetwork]:
    """The prefixes that cover what is in these and not in those."""
    found = collapse(prefixes)
    for hole in collapse(left_out):
        remaining: list[IPNetwork] = []
        for prefix in found:
            if prefix.version != hole.version or not prefix.overlaps(hole):  # type: ignore[arg-type]
                remaining.append(prefix)
            elif hole != prefix and hole.subnet_of(prefix):  # type: ignore[arg-type]
                remaining += prefix.address_exclude(hole)  # type: ignore[arg-type]
        found = remaining
    return collapse(found)
