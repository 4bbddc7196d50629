# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cryptokey routing: which peer owns an address (whitepaper section 2)."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Optional

_Table = dict[int, bytes]
"""The prefixes of one length: the owner of each, by network number without the bits behind the prefix."""


class _Family:
    """The prefixes of one address family: a table for each prefix length in use, the longest first."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.tables: dict[int, _Table] = {}  # by the number of bits behind the prefix
        self.by_length: list[tuple[int, _Table]] = []

    def table(self, shift: int) -> _Table:
        table = self.tables.get(shift)
        if table is None:
            table = self.tables[shift] = {}
            self.by_length = sorted(self.tables.items(), key=lambda item: item[0])
        return table

    def drop_empty(self) -> None:
        self.tables = {shift: table for shift, table in self.tables.items() if table}
        self.by_length = sorted(self.tables.items(), key=lambda item: item[0])


class AllowedIPs:
    """Longest-prefix match from address to peer.

    One hash table a prefix length: a look-up costs at most one probe for each length in use (a mesh uses two or three),
    whatever the number of prefixes. Callers on the data path keep a small cache in front of it. A prefix takes about
    150 bytes.
    """

    def __init__(self) -> None:
        self._families = {4: _Family(32), 16: _Family(128)}
        # Of each peer the prefixes it was given, table and key in turns; one may have got another owner since.
        self._given: dict[bytes, list[_Table | int]] = {}

    def insert(self, prefix: str, peer: bytes) -> None:
        """Route a prefix ("192.0.2.0/24", "2001:db8::1") to the peer; bits beyond its length are ignored.

        A prefix has one owner: inserting one that another peer holds moves it. Raises ValueError for a malformed one.
        """
        packed, length = _parse(prefix)
        family = self._families[len(packed)]
        shift = family.bits - length
        key = int.from_bytes(packed, "big") >> shift
        table = family.table(shift)
        table[key] = peer
        given = self._given.get(peer)
        if given is None:
            given = self._given[peer] = []
        given += (table, key)

    def remove_peer(self, peer: bytes) -> None:
        """Forget every prefix of the peer. Nothing happens if it has none."""
        given = self._given.pop(peer, [])
        emptied = False
        for table, key in zip(given[::2], given[1::2]):
            if isinstance(table, dict) and isinstance(key, int) and table.get(key) == peer:
                del table[key]
                emptied |= not table
        if emptied:
            for family in self._families.values():
                family.drop_empty()

    def lookup(self, address: bytes) -> Optional[bytes]:
        """The peer that owns a packed address of 4 or 16 bytes, or None."""
        number = int.from_bytes(address, "big")
        for shift, table in self._families[len(address)].by_length:
            peer = table.get(number >> shift)
            if peer is not None:
                return peer
        return None


def _parse(prefix: str) -> tuple[bytes, int]:
    """Packed address and length. Raises ValueError."""
    address, slash, length = prefix.partition("/")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        packed = b""
    bits = 8 * len(packed)
    if packed and not slash:
        return packed, bits
    if packed and length.isascii() and length.isdigit() and int(length) <= bits:
        return packed, int(length)
    # It takes ten times as long, and knows what else there is and what is wrong with it.
    network = ip_network(prefix, strict=False)
    return network.network_address.packed, network.prefixlen
