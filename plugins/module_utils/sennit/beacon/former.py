# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses that nodes had in earlier maps, for a beacon: who has not heard of a change yet asks it by them. Pure.

A node that was away while the addresses of the network changed knows the beacon by an address that this has no more,
and has one itself from which WireGuard would let nothing in. So a beacon goes on serving at its former addresses, and
lets each node use its own former ones towards it. None of them is anybody else's: an address that a newer map gives to
another node, or routes to one, is former no more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..netmap.model import KIND_NODE, Netmap, Node
from ..netmap.view import host_prefix

# Seconds for which a node may have been away.
MAX_AGE = 30 * 86400.0
# Addresses of one node: of the last four changes of both families.
MAX_ADDRESSES = 8


Left = Mapping[bytes, Mapping[str, float]]
"""By public key: addresses, the last left last, and when they were left (seconds since the epoch)."""


@dataclass(frozen=True)
class Former:
    """Addresses, without length: ``own`` of this node, ``peers`` by public key."""

    own: tuple[str, ...] = ()
    peers: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)

    def prefixes(self, public_key: bytes) -> tuple[str, ...]:
        """Those of a peer as /32 and /128."""
        return tuple(map(host_prefix, self.peers.get(public_key, ())))


NO_FORMER = Former()


def leave(left: Left, before: Optional[Netmap], netmap: Netmap, now: float) -> Left:
    """What nodes have left when this map follows the one before, if that is known."""
    taken = _Taken(netmap.nodes)
    had = {node.public_key: node.addresses for node in (before.nodes if before else ())}
    after = {}
    for node in netmap.nodes:
        if node.kind != KIND_NODE:
            continue
        all_left = dict(left.get(node.public_key, {}))
        all_left.update({address: now for address in had.get(node.public_key, ()) if address not in node.addresses})
        usable = [(address, at) for address, at in all_left.items() if now - at < MAX_AGE and address not in taken]
        if usable:
            after[node.public_key] = dict(usable[-MAX_ADDRESSES:])
    return after


def served(left: Left, public_key: bytes) -> Former:
    """By the beacon with this public key."""
    addresses = {key: tuple(of_node) for key, of_node in left.items()}
    return Former(addresses.pop(public_key, ()), addresses)


class _Taken:
    """What addresses and routes of a map take up."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._addresses = {address for node in nodes for address in node.addresses}
        routes = {route for node in nodes for route in (*node.routes, *node.unapproved_routes)}
        self._routes = [ipaddress.ip_network(route) for route in routes]

    def __contains__(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return address in self._addresses or any(parsed in route for route in self._routes)
