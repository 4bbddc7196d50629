# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `sennit status` tells, as JSON, from what is in force, the host and the datapath say."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from . import __version__
from .config import Config
from .datapath.base import DatapathStatus
from .following import Following
from .host.tunnel import Tunnel
from .in_force import TRIAL_EXPIRED, InForce
from .names import Names
from .netmap.endpoint import join_endpoint
from .netmap.model import encode_key
from .netmap.view import PeerView
from .paths.paths import Paths
from .relay.process import Relay
from .routing import DOWN, Routing, exit_state
from .wireguard.peer import PeerStatus


def status(
    config: Config,
    public_key: str,
    in_force: InForce,
    *,
    routing: Optional[Routing],
    tunnel: Tunnel,
    live: DatapathStatus,
    uptime: float,
    refused: Optional[Mapping[str, Any]],
    names: Names,
    unreadable: Sequence[str],
    following: Following,
    relay: Relay,
    paths: Paths,
) -> dict[str, Any]:
    """All of it; ``routing`` is None while there is no netmap."""
    state = in_force.state
    view = state.view
    peers = view.peers if view else ()
    return {
        "version": __version__,
        # By this host's clock, which its other times are by, too.
        "time": time.time(),
        "network": config.network,
        "interface": config.interface,
        "datapath": live.name,
        "core": live.core,
        "node": view.name if view else None,
        "public_key": public_key,
        "addresses": list(view.addresses) if view else [],
        "unapproved_routes": list(view.unapproved_routes) if view else [],
        "listen_port": live.listen_port,
        "fwmark": config.fwmark,
        "uptime": uptime,
        "netmap": {
            "version": state.netmap.version if state.netmap else None,
            "sha256": state.sha256,
            "origin": state.origin,
            "refused": refused,
        },
        "preferences": state.preferences.to_mapping(),
        "trial": _trial(in_force),
        "exit_node": _exit_node(in_force, routing, tunnel, live),
        "peers": [peer_status(peer, live.peers.get(peer.public_key), paths) for peer in peers],
        "routes": [
            {
                "prefix": prefix,
                "via": peer.name,
                "state": tunnel.route_state(prefix) if state.preferences.accept_routes else "not-accepted",
            }
            for peer in peers
            for prefix in peer.routes
        ],
        **_with_relay(following.status(), relay),
        "problems": [
            *unreadable,
            *_problems(in_force, routing, tunnel),
            *names.problems,
            *following.problems(),
            *([relay.problem] if relay.problem else []),
        ],
        "drops": dict(live.drops),
    }


def peer_status(peer: PeerView, live: Optional[PeerStatus], paths: Paths) -> dict[str, Any]:
    """One peer; ``live`` is the datapath's PeerStatus, or None while it does not know the peer.

    "path": {"kind": "lan", "ipv6", "direct" or "relay", "relay": a beacon's name or None}; None without an endpoint.
    "rtt" is for those who measure (rtt.py).
    """
    endpoint = live.endpoint if live else None
    return {
        "name": peer.name,
        "kind": peer.kind,
        "public_key": encode_key(peer.public_key),
        "addresses": list(peer.addresses),
        "routes": list(peer.routes),
        "unapproved_routes": list(peer.unapproved_routes),
        "exit_node": peer.exit_node,
        "allowed_ips": list(peer.allowed_ips),
        "path": paths.path_of(peer.public_key, endpoint),
        "endpoint": join_endpoint(*endpoint) if endpoint else None,
        "configured_endpoint": peer.endpoint,
        "latest_handshake": live.latest_handshake if live else None,
        "rtt": None,
        "rx_bytes": live.rx_bytes if live else 0,
        "tx_bytes": live.tx_bytes if live else 0,
        "persistent_keepalive": peer.persistent_keepalive,
    }


def _with_relay(followed: dict[str, Any], relay: Relay) -> dict[str, Any]:
    """The relay is a part of this node's service as a beacon."""
    if followed["beacon"] is None:
        return followed
    return {**followed, "beacon": {**followed["beacon"], "relay": relay.status()}}


def _trial(in_force: InForce) -> Optional[dict[str, Any]]:
    """The trial that runs, or the last one if it was not confirmed."""
    if in_force.trial is not None:
        trial = in_force.trial
        remaining = max(0.0, trial.ends_at - time.monotonic())
        return {"id": trial.id, "what": trial.proposal.what, "state": "running", "remaining": remaining}
    if in_force.expired is not None:
        trial = in_force.expired
        return {
            "id": trial.id,
            "what": trial.proposal.what,
            "state": "expired",
            "reason": TRIAL_EXPIRED,
            "message": f"{trial.proposal.state.of(trial.proposal.what)}: not confirmed within {trial.seconds:g} s",
        }
    return None


def _exit_node(
    in_force: InForce, routing: Optional[Routing], tunnel: Tunnel, live: DatapathStatus
) -> Optional[dict[str, str]]:
    name = in_force.state.preferences.exit_node
    if name is None:
        return None
    peer = routing.exit_peer if routing else None
    if peer is None or tunnel.exit_node_refusal:
        return {"name": name, "state": DOWN}
    return {"name": name, "state": exit_state(live.peers.get(peer.public_key), time.time())}


def _problems(in_force: InForce, routing: Optional[Routing], tunnel: Tunnel) -> Iterator[str]:
    preferences = in_force.state.preferences
    if preferences.exit_node is not None and routing is not None and routing.exit_peer is None:
        consequence = "leaves by the LAN" if preferences.exit_node_fail_open else "is stopped"
        yield (
            f"exit_node: {preferences.exit_node} is no approved exit node of this netmap; "
            f"what is not for the mesh {consequence}"
        )
    if tunnel.exit_node_refusal:
        yield f"exit_node: {preferences.exit_node} cannot be used here: {tunnel.exit_node_refusal}"
    for what, reason in tunnel.failed.items():
        yield f"{what}: {reason}"
    yield from tunnel.notices
