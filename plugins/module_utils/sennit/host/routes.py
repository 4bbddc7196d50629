# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent wants on its host, what is there, and the difference: pure functions over plain values.

The agent owns its interface's addresses, the routes in its own table, and one rule a family that leads there. It
recognises its routes and rules by table and protocol number, and never touches any other.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable
from typing import Union

# Marks our routes and rules in the kernel (`ip route` shows "proto 83"); not in rt_protos of iproute2.
PROTOCOL = 83

IPV4 = 4
IPV6 = 6

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
    """Addresses of the interface and prefixes to route into it, each with its length ("100.64.0.1/32")."""

    addresses: tuple[str, ...] = ()
    peer_addresses: tuple[str, ...] = ()
    subnet_routes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Present:
    """What is there of ours, and the prefixes that the host reaches directly over its other interfaces."""

    addresses: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    rules: frozenset[int] = frozenset()
    on_link: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """What to add and to remove; rules are named by their family, 4 or 6."""

    add_addresses: tuple[str, ...]
    add_routes: tuple[str, ...]
    add_rules: tuple[int, ...]
    remove_addresses: tuple[str, ...]
    remove_routes: tuple[str, ...]
    remove_rules: tuple[int, ...]
    on_link: tuple[str, ...]
    """Subnet routes that are not installed, for the host is on-link with them."""


def difference(wanted: Wanted, present: Present) -> Difference:
    """The least change that leads from ``present`` to ``wanted``.

    A subnet route that overlaps an on-link prefix is left out: to accept a route never takes a host off its own LAN.
    The rules are wanted as soon as there is a route to lead to.
    """
    on_link = overlapping(wanted.subnet_routes, present.on_link)
    routes = {*wanted.peer_addresses, *wanted.subnet_routes} - on_link
    rules = {family_of(prefix) for prefix in routes}
    addresses = set(wanted.addresses)
    return Difference(
        add_addresses=_ordered(addresses - present.addresses),
        add_routes=_ordered(routes - present.routes),
        add_rules=tuple(sorted(rules - present.rules)),
        remove_addresses=_ordered(present.addresses - addresses),
        remove_routes=_ordered(present.routes - routes),
        remove_rules=tuple(sorted(present.rules - rules)),
        on_link=_ordered(on_link),
    )


def overlapping(prefixes: Iterable[str], others: Iterable[str]) -> set[str]:
    """Those of ``prefixes`` that have an address in common with one of ``others``."""
    networks = [ipaddress.ip_network(other) for other in others]
    return {prefix for prefix in prefixes if _overlaps_any(ipaddress.ip_network(prefix), networks)}


def family_of(prefix: str) -> int:
    return IPV6 if ":" in prefix else IPV4


def _overlaps_any(network: _Network, others: Iterable[_Network]) -> bool:
    return any(network.version == other.version and network.overlaps(other) for other in others)


def _ordered(prefixes: Iterable[str]) -> tuple[str, ...]:
    """In the order of their family and number, so that the log reads the same every time."""
    networks = ((ipaddress.ip_network(prefix), prefix) for prefix in prefixes)
    return tuple(prefix for _network, prefix in sorted(networks, key=_sort_key))


def _sort_key(pair: tuple[_Network, str]) -> tuple[int, int, int]:
    network = pair[0]
    return network.version, int(network.network_address), network.prefixlen
