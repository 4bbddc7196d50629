# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `sennit status` tells of a peer, as JSON, from what the netmap and the datapath say. Pure."""

from __future__ import annotations

from typing import Any, Optional

from .netmap.endpoint import join_endpoint
from .netmap.model import encode_key
from .netmap.view import PeerView
from .wireguard.peer import PeerStatus


def peer_status(peer: PeerView, live: Optional[PeerStatus]) -> dict[str, Any]:
    """One peer; ``live`` is the datapath's PeerStatus, or None while it does not know the peer."""
    endpoint = live.endpoint if live else None
    return {
        "name": peer.name,
        "kind": peer.kind,
        "public_key": encode_key(peer.public_key),
        "addresses": list(peer.addresses),
        "routes": list(peer.routes),
        "allowed_ips": list(peer.allowed_ips),
        "endpoint": join_endpoint(*endpoint) if endpoint else None,
        "latest_handshake": live.latest_handshake if live else None,
        "rx_bytes": live.rx_bytes if live else 0,
        "tx_bytes": live.tx_bytes if live else 0,
        "persistent_keepalive": peer.persistent_keepalive,
    }
