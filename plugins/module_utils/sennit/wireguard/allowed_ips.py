# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cryptokey routing: which peer owns an address (whitepaper section 2)."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Optional

_Prefix = tuple[int, int]
"""Shift and key: a prefix of n bits in a family of w bits is (w - n, network number >> (w - n))."""


class _Family:
    """The prefixes of one address family: a table for each prefix length in use, the longest first."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[int, bytes]] = {}
        self.by_length: list[tuple[int, dict[int, bytes]]] = []

    def put(self, prefix: _Prefix, peer: bytes) -> Optional[bytes]:
        """Give the prefix to the peer. Return its owner until now, if any."""
        shift, key = prefix
        table = self.tables.get(shift)
        if table is None:
            table = self.tables[shift] = {}
            self._sort()
        before = table.get(key)
        table[key] = peer
        return before

    def delete(self, prefix: _Prefix) -> None:
        shift, key = prefix
        table = self.tables[shift]
        del table[key]
        if not table:
            del self.tables[shift]
            self._sort()

    def _sort(self) -> None:
        self.by_length = sorted(self.tables.items(), key=lambda item: item[0])


class AllowedIPs:
    """Longest-prefix match from address to peer.

    One hash table a prefix length: a look-up costs at most one probe for each length in use (a mesh uses two or three),
    whatever the number of prefixes. Callers on the data path keep a small cache in front of it.
    """

    def __init__(self) -> None:
        self._families: dict[int, _Family] = {4: _Family(), 16: _Family()}
        self._owned: dict[bytes, set[tuple[int, _Prefix]]] = {}

    def insert(self, prefix: str, peer: bytes) -> None:
        """Route a prefix ("192.0.2.0/24", "2001:db8::1") to the peer; bits beyond its length are ignored.

        A prefix has one owner: inserting one that another peer holds moves it. Raises ValueError for a malformed one.
        """
        network = ip_network(prefix, strict=False)
        size = network.max_prefixlen // 8
        shift = network.max_prefixlen - network.prefixlen
        entry = (shift, int(network.network_address) >> shift)
        before = self._families[size].put(entry, peer)
        if before is not None and before != peer:
            self._owned[before].discard((size, entry))
        self._owned.setdefault(peer, set()).add((size, entry))

    def remove_peer(self, peer: bytes) -> None:
        """Forget every prefix of the peer. Nothing happens if it has none."""
        for size, entry in self._owned.pop(peer, ()):
            self._families[size].delete(entry)

    def lookup(self, address: bytes) -> Optional[bytes]:
        """The peer that owns a packed address of 4 or 16 bytes, or None."""
        number = int.from_bytes(address, "big")
        for shift, table in self._families[len(address)].by_length:
            peer = table.get(number >> shift)
            if peer is not None:
                return peer
        return None
