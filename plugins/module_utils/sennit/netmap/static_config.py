# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of a static peer, as wg-quick(8) reads it, for whoever sets up that phone or appliance."""

from __future__ import annotations

from .model import KIND_STATIC, Netmap, encode_key
from .view import View, derive, host_prefix


def static_peer_configs(netmap: Netmap) -> dict[str, str]:
    """The configuration text of each static peer by name, without the private key: only its owner has that."""
    return {
        node.name: wireguard_config(derive(netmap, node.public_key))
        for node in netmap.nodes
        if node.kind == KIND_STATIC
    }


def wireguard_config(view: View) -> str:
    """One peer's view in the format of wg-quick(8); `wg setconf` takes it without the Address line."""
    lines = [
        f"# {view.name} in the Sennit network {view.network.name}",
        "[Interface]",
        "# PrivateKey = the key that belongs to this peer's public key; it never leaves the peer",
        f"Address = {', '.join(host_prefix(address) for address in view.addresses)}",
    ]
    for peer in view.peers:
        lines += [
            "",
            f"# {peer.name}",
            "[Peer]",
            f"PublicKey = {encode_key(peer.public_key)}",
            f"AllowedIPs = {', '.join(peer.allowed_ips)}",
        ]
        if peer.endpoint is not None:
            lines.append(f"Endpoint = {peer.endpoint}")
        if peer.persistent_keepalive:
            lines.append(f"PersistentKeepalive = {peer.persistent_keepalive}")
    return "\n".join(lines) + "\n"
