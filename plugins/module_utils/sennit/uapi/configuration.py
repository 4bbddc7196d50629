# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a request to set something makes of the peers, as a pure function of what is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..wireguard.events import PeerConfig
from .messages import PeerChange, Set

Peers = dict[bytes, PeerConfig]


def changed(peers: Mapping[bytes, PeerConfig], change: Set, own_public_key: bytes) -> tuple[Peers, Peers]:
    """What may stay of the peers as they are, and then what is wanted, for the datapath to have one after the other.

    A peer that is removed and set again, as replace_peers does it, is a new one: without a session, and with its
    counters at zero. One whose endpoint is set goes there, also if that endpoint was configured before and it has
    roamed since. Our own key is no peer, without being an error, so that one file can configure all of a network.
    """
    draft = _Draft({} if change.replace_peers else dict(peers))
    for each in change.peers:
        if each.public_key != own_public_key:
            draft.take(each)
    return draft.kept, draft.wanted()


class _Draft:
    """allowed_ips of those peers that were touched, as ordered sets; the rest are in their PeerConfig."""

    def __init__(self, peers: Peers) -> None:
        self.kept = dict(peers)
        self._peers = peers
        self._allowed_ips: dict[bytes, dict[str, None]] = {}
        self._owners = {prefix: key for key, config in peers.items() for prefix in config.allowed_ips}

    def take(self, change: PeerChange) -> None:
        key = change.public_key
        config = self._peers.get(key)
        if config is None and (change.update_only or change.remove):
            return
        if change.remove:
            self._clear_allowed_ips(key)
            del self._peers[key], self._allowed_ips[key]
            self.kept.pop(key, None)
            return
        self._peers[key] = _given(change, config or PeerConfig(key))
        if change.endpoint is not None and key in self.kept:
            self.kept[key] = replace(self.kept[key], endpoint=None)
        if change.replace_allowed_ips:
            self._clear_allowed_ips(key)
        for prefix, comes in change.allowed_ips:
            if comes:
                self._give(prefix, key)
            elif self._owners.get(prefix) == key:
                self._take_away(prefix)

    def wanted(self) -> Peers:
        for key, prefixes in self._allowed_ips.items():
            config = self._peers[key]
            # replace() takes three times as long, and there may be thousands.
            self._peers[key] = PeerConfig(
                key, tuple(prefixes), config.endpoint, config.persistent_keepalive, config.preshared_key
            )
        return self._peers

    def _of(self, key: bytes) -> dict[str, None]:
        if key not in self._allowed_ips:
            self._allowed_ips[key] = dict.fromkeys(self._peers[key].allowed_ips)
        return self._allowed_ips[key]

    def _clear_allowed_ips(self, key: bytes) -> None:
        prefixes = self._of(key)
        for prefix in prefixes:
            if self._owners.get(prefix) == key:
                del self._owners[prefix]
        prefixes.clear()

    def _give(self, prefix: str, key: bytes) -> None:
        """A prefix has one owner: whoever has it loses it."""
        if self._owners.get(prefix) != key:
            self._take_away(prefix)
            self._owners[prefix] = key
            self._of(key)[prefix] = None

    def _take_away(self, prefix: str) -> None:
        owner = self._owners.pop(prefix, None)
        if owner is not None:
            del self._of(owner)[prefix]


def _given(change: PeerChange, config: PeerConfig) -> PeerConfig:
    """With what the change has of a peer, but for its prefixes."""
    return PeerConfig(
        change.public_key,
        config.allowed_ips,
        config.endpoint if change.endpoint is None else change.endpoint,
        config.persistent_keepalive if change.persistent_keepalive is None else change.persistent_keepalive,
        config.preshared_key if change.preshared_key is None else change.preshared_key,
    )
