# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host makes of its view by its preferences: which routes it takes, and what its exit node carries. Pure."""

from __future__ import annotations

import dataclasses
import functools
from typing import Optional

from .beacon.former import NO_FORMER, Former
from .host.routes import EXIT_ROUTES, Wanted, family_of
from .netmap.view import PeerView, View, host_prefix
from .preferences import Preferences
from .wireguard.constants import REJECT_AFTER_TIME
from .wireguard.events import Endpoint, PeerConfig
from .wireguard.peer import PeerStatus

ACTIVE = "active"
DOWN = "down"
UNKNOWN = "unknown"

# Seconds between keepalives to the exit node, so that it is known whether it is there; as wg(8) recommends.
EXIT_KEEPALIVE = 25
# Initiations without an answer that make an exit node one that is down: 10 s after the first.
_UNANSWERED = 3


@dataclasses.dataclass(frozen=True)
class Routing:
    """One host's choice. ``carries`` is False while what is meant for the exit node must not be given to it, though it
    must not go elsewhere either; ``exit_down`` is whether the exit node does not answer. ``former``: addresses that a
    beacon serves beside those of the view.
    """

    view: View
    preferences: Preferences
    carries: bool = True
    exit_down: bool = False
    former: Former = NO_FORMER

    @functools.cached_property
    def exit_peer(self) -> Optional[PeerView]:
        """The exit node in use, if the network has it and approves it (still)."""
        name = self.preferences.exit_node
        if name is None:
            return None
        return next((peer for peer in self.view.peers if peer.name == name and peer.exit_node), None)

    @property
    def exit_routes(self) -> tuple[str, ...]:
        """What goes by the exit node or, if that is not to be, nowhere."""
        if self.preferences.exit_node is None:
            return ()
        if not self.preferences.exit_node_fail_open:
            return EXIT_ROUTES
        peer = self.exit_peer
        if peer is None or self.exit_down or not self.carries:
            return ()
        families = {family_of(address) for address in peer.addresses}
        return tuple(route for route in EXIT_ROUTES if family_of(route) in families)

    def wanted(self, exit_endpoint: Optional[Endpoint]) -> Wanted:
        """What is asked of the host; the exit node's endpoint, as far as known, is in the underlay."""
        peers = self.view.peers
        return Wanted(
            addresses=tuple(host_prefix(address) for address in self.view.addresses),
            stub_addresses=(
                *(host_prefix(address) for address in self.view.dns.stub if self.preferences.accept_dns),
                *map(host_prefix, self.former.own),
            ),
            peer_addresses=(
                *(host_prefix(address) for peer in peers for address in peer.addresses),
                *(prefix for peer in peers for prefix in self.former.prefixes(peer.public_key)),
            ),
            subnet_routes=tuple(prefix for peer in peers for prefix in self._accepted(peer)),
            exit_node=self.preferences.exit_node is not None,
            exit_routes=self.exit_routes,
            exit_endpoint=exit_endpoint[0] if exit_endpoint else None,
            lan_access=self.preferences.exit_node_allow_lan_access,
            pools=self.view.network.pools,
        )

    def peer_config(self, peer: PeerView, endpoint: Optional[Endpoint]) -> PeerConfig:
        """What is asked of the datapath for one peer."""
        allowed_ips = peer.allowed_ips if self.preferences.accept_routes else peer.allowed_ips[: len(peer.addresses)]
        keepalive = peer.persistent_keepalive
        if peer is self.exit_peer:
            keepalive = keepalive or EXIT_KEEPALIVE
            if self.carries:
                allowed_ips = (*allowed_ips, *EXIT_ROUTES)
        return PeerConfig(
            public_key=peer.public_key,
            allowed_ips=allowed_ips + self.former.prefixes(peer.public_key),
            endpoint=endpoint,
            persistent_keepalive=keepalive,
        )

    def _accepted(self, peer: PeerView) -> tuple[str, ...]:
        return peer.routes if self.preferences.accept_routes else ()


def exit_state(live: Optional[PeerStatus], now: float) -> str:
    """Whether the exit node answers; ``now`` in seconds since the epoch."""
    if live is None:
        return UNKNOWN
    if live.unanswered >= _UNANSWERED or live.endpoint is None:
        return DOWN
    if live.latest_handshake is None:
        return UNKNOWN
    # A keypair that nobody renews in time is renewed by the next keepalive.
    return ACTIVE if now - live.latest_handshake < REJECT_AFTER_TIME + 2 * EXIT_KEEPALIVE else DOWN
