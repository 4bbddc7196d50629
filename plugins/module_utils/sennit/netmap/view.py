# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one node makes of the map: itself and its peers. A pure function, so that every node's view can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .model import EXIT_NODE_APPROVED, NO_SUCH_NODE, Netmap, NetmapError, Network
from .names import DnsView, derive_names


@dataclass(frozen=True)
class PeerView:
    """A peer, as WireGuard wants it. allowed_ips: its addresses as /32 and /128, then its routes.

    exit_node: whether this node may send everything else through it, which is a preference's choice and in no map.
    beacon: the TCP port of its service if it is a beacon.
    """

    name: str
    kind: str
    public_key: bytes
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    endpoint: Optional[str]
    persistent_keepalive: int
    unapproved_routes: tuple[str, ...] = ()
    exit_node: bool = False
    beacon: Optional[int] = None


@dataclass(frozen=True)
class View:
    """One node's part of the network: what it is called, its own addresses and routes, its peers by name, all names.

    exit_node: what the network makes of this node's own offer, EXIT_NODE_APPROVED or EXIT_NODE_OFFERED; None if there
    is no offer. beacon: the TCP port of this node's own service if it is a beacon.
    """

    name: str
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    network: Network
    peers: tuple[PeerView, ...]
    dns: DnsView
    unapproved_routes: tuple[str, ...] = ()
    exit_node: Optional[str] = None
    beacon: Optional[int] = None

    @property
    def beacons(self) -> tuple[PeerView, ...]:
        """The beacons among the peers."""
        return tuple(peer for peer in self.peers if peer.beacon is not None)


def derive(netmap: Netmap, public_key: bytes) -> View:
    """The view of the node with this public key (32 bytes). Raises NetmapError no-such-node if the map has no such.

    A node that asks for a persistent keepalive sends it to every peer with an endpoint: the others cannot be reached
    until they speak, and then they keep the path open themselves.
    """
    own = next((node for node in netmap.nodes if node.public_key == public_key), None)
    if own is None:
        raise NetmapError(NO_SUCH_NODE, f"no node in version {netmap.version} has this host's public key")
    peers = tuple(
        PeerView(
            name=node.name,
            kind=node.kind,
            public_key=node.public_key,
            addresses=node.addresses,
            routes=node.routes,
            allowed_ips=tuple(host_prefix(address) for address in node.addresses) + node.routes,
            endpoint=node.endpoint,
            persistent_keepalive=own.persistent_keepalive if node.endpoint else 0,
            unapproved_routes=node.unapproved_routes,
            exit_node=node.exit_node == EXIT_NODE_APPROVED,
            beacon=node.beacon,
        )
        for node in netmap.nodes
        if node is not own
    )
    return View(
        name=own.name,
        addresses=own.addresses,
        routes=own.routes,
        network=netmap.network,
        peers=peers,
        dns=derive_names(netmap),
        unapproved_routes=own.unapproved_routes,
        exit_node=own.exit_node,
        beacon=own.beacon,
    )


def host_prefix(address: str) -> str:
    """The prefix of one address alone: /32 or /128."""
    return f"{address}/128" if ":" in address else f"{address}/32"
