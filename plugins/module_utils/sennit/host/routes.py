# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent wants on its host, what is there, and the difference: pure functions over plain values.

The agent owns its interface's addresses, the routes in its own table, and one rule a family that leads there. It
recognises its routes and rules by table and protocol number, and never touches any other.

With an exit node, the table has a default route of each family too. What must not take it is a throw route there, at
which the kernel goes on to the next rule and, in the end, to the main table.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable
from typing import Any, Optional, Union

# Marks our routes and rules in the kernel (`ip route` shows "proto 83"); not in rt_protos of iproute2.
PROTOCOL = 83

IPV4 = 4
IPV6 = 6

EXIT_ROUTES = ("0.0.0.0/0", "::/0")
# Never routed anywhere by anybody (RFC 3927, 4291, 5771): what a link says to itself.
_LINK_SCOPES = ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8")

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where on the host the agent works: interface name, routing table, rule priority and mark of its own packets."""

    interface: str
    table: int
    rule_priority: int
    fwmark: int


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Addresses of the interface and prefixes to route into it, each with its length ("100.64.0.1/32").

    exit_node: whether there is to be one; exit_routes: those of EXIT_ROUTES that are to lead there; exit_endpoint: its
    address in the underlay, as far as known. lan_access: whether the host's own LANs are reached directly then.
    pools: the mesh's. stub_addresses: where this host's own resolver answers, and a beacon by its former addresses: on
    the interface too, but never the source of what does not answer.
    """

    addresses: tuple[str, ...] = ()
    peer_addresses: tuple[str, ...] = ()
    subnet_routes: tuple[str, ...] = ()
    exit_node: bool = False
    exit_routes: tuple[str, ...] = ()
    exit_endpoint: Optional[str] = None
    lan_access: bool = False
    pools: tuple[str, ...] = ()
    stub_addresses: tuple[str, ...] = ()

    def without_ipv6(self) -> Wanted:
        """What of it a kernel can have that has no IPv6."""
        values: dict[str, Any] = {
            name: tuple(prefix for prefix in value if family_of(prefix) == IPV4)
            for name, value in vars(self).items()
            if isinstance(value, tuple)
        }
        return dataclasses.replace(self, **values)


@dataclasses.dataclass(frozen=True)
class Present:
    """What is there of ours, and of others what our routes must not take from them.

    on_link: prefixes that the host has an address in; lan: those of its LANs; internal: those of networks within it;
    tunnelled: those that lead into others' tunnels. gateways: addresses of the routers it uses.
    """

    addresses: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    rules: frozenset[int] = frozenset()
    on_link: tuple[str, ...] = ()
    throws: frozenset[str] = frozenset()
    lan: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    tunnelled: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """What to add and to remove; rules are named by their family, 4 or 6."""

    add_addresses: tuple[str, ...]
    add_routes: tuple[str, ...]
    add_throws: tuple[str, ...]
    add_rules: tuple[int, ...]
    remove_addresses: tuple[str, ...]
    remove_routes: tuple[str, ...]
    remove_throws: tuple[str, ...]
    remove_rules: tuple[int, ...]
    on_link: tuple[str, ...]
    """What is not routed, for the host is on-link with it."""
    elsewhere: tuple[str, ...]
    """What is not routed, for another's tunnel has it."""


def difference(wanted: Wanted, present: Present) -> Difference:
    """The least change that leads from ``present`` to ``wanted``.

    A subnet route that overlaps an on-link prefix is left out: to accept a route never takes a host off its own LAN.
    Nor does a route take from another's tunnel what that has: the same prefix is left out, a part of it stays there.
    The rules are wanted as soon as there is a route to lead to.
    """
    gateways = {f"{gateway}/{128 if ':' in gateway else 32}" for gateway in present.gateways}
    on_link = overlapping(wanted.subnet_routes, present.on_link) | (gateways & {*wanted.peer_addresses})
    meshed = {*wanted.peer_addresses, *wanted.subnet_routes} - on_link
    elsewhere = meshed & {*present.tunnelled}
    routes = (meshed - elsewhere) | {*wanted.exit_routes}
    throws = _inside(present.tunnelled, routes)
    if wanted.exit_routes:
        throws |= {*_LINK_SCOPES, *present.internal, *(present.lan if wanted.lan_access else ())}
    throws -= routes | _inside(throws, _LINK_SCOPES)
    rules = {family_of(prefix) for prefix in routes}
    throws = {prefix for prefix in throws if family_of(prefix) in rules}
    addresses = {*wanted.addresses, *wanted.stub_addresses}
    return Difference(
        add_addresses=_ordered(addresses - present.addresses),
        add_routes=_ordered(routes - present.routes),
        add_throws=_ordered(throws - present.throws),
        add_rules=tuple(sorted(rules - present.rules)),
        remove_addresses=_ordered(present.addresses - addresses),
        remove_routes=_ordered(present.routes - routes),
        remove_throws=_ordered(present.throws - throws),
        remove_rules=tuple(sorted(present.rules - rules)),
        on_link=_ordered(on_link),
        elsewhere=_ordered(elsewhere),
    )


def _inside(prefixes: Iterable[str], routes: Iterable[str]) -> set[str]:
    """Those of ``prefixes`` that are a part of one of ``routes``."""
    networks = [network for network in map(ipaddress.ip_network, routes) if network.num_addresses > 1]
    return {prefix for prefix in prefixes if any(_is_part(ipaddress.ip_network(prefix), each) for each in networks)}


def overlapping(prefixes: Iterable[str], others: Iterable[str]) -> set[str]:
    """Those of ``prefixes`` that have an address in common with one of ``others``."""
    networks = [ipaddress.ip_network(other) for other in others]
    return {prefix for prefix in prefixes if _overlaps_any(ipaddress.ip_network(prefix), networks)}


def family_of(prefix: str) -> int:
    return IPV6 if ":" in prefix else IPV4


def _overlaps_any(network: _Network, others: Iterable[_Network]) -> bool:
    return any(network.version == other.version and network.overlaps(other) for other in others)


def _is_part(network: _Network, of: _Network) -> bool:
    return network.version == of.version and network.prefixlen > of.prefixlen and network.overlaps(of)


def _ordered(prefixes: Iterable[str]) -> tuple[str, ...]:
    """In the order of their family and number, so that the log reads the same every time."""
    networks = ((ipaddress.ip_network(prefix), prefix) for prefix in prefixes)
    return tuple(prefix for _network, prefix in sorted(networks, key=_sort_key))


def _sort_key(pair: tuple[_Network, str]) -> tuple[int, int, int]:
    network = pair[0]
    return network.version, int(network.network_address), network.prefixlen
