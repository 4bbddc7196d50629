# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mesh addresses: given out once, kept for ever, never passed on to another name.

A node gets the lowest free host number of the IPv4 pool, and the same number in the IPv6 pool, so that 100.64.0.7 and
fd..::7 are one host. Numbers here are offsets from a pool's first address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from .dns import stub_addresses
from .prefixes import IPAddress, IPNetwork, parse_address


class PoolExhaustedError(Exception):
    """No free address is left in `pool`."""

    def __init__(self, pool: IPNetwork) -> None:
        super().__init__(f"no free address is left in {pool}")
        self.pool = pool


class AddressBook:
    """Who holds which address: the table of allocations while a map is compiled."""

    def __init__(self, pools: Mapping[int, IPNetwork], allocations: Mapping[str, Iterable[str]]) -> None:
        """pools: by IP version, 4 and 6. allocations: of the previous map, the newest of a name first."""
        self._pools = pools
        self._stub = stub_addresses(tuple(str(pool) for pool in pools.values()))
        self._owners: dict[IPAddress, str] = {}
        self._held: dict[str, list[IPAddress]] = {}
        self._next_offset = 1
        self._next_beyond = 1
        for name, addresses in allocations.items():
            self._held[name] = [parse_address(address) for address in addresses]
            for address in self._held[name]:
                self._owners[address] = name

    def owner(self, address: IPAddress) -> Optional[str]:
        """The name that holds the address now or held it once."""
        return self._owners.get(address)

    def reserved(self, address: IPAddress) -> Optional[str]:
        """Why nobody can have this address of a pool; None if somebody can."""
        pool = self._pools[address.version]
        if str(address) in self._stub:
            return "is where every node's own resolver answers"
        if int(address) == pool.first:
            return f"is the first address of {pool}, which stands for the pool itself"
        if address.version == 4 and int(address) == pool.last:
            return f"is the broadcast address of {pool}"
        return None

    def claim(self, name: str, address: IPAddress) -> None:
        """Make `address`, free or the name's own, the current one of `name`."""
        self._owners[address] = name
        held = self._held.setdefault(name, [])
        if address in held:
            held.remove(address)
        held.insert(0, address)

    def assign(self, name: str, explicit: Iterable[IPAddress] = ()) -> list[IPAddress]:
        """The addresses of a name, IPv4 first: the explicit ones, and of each other family the one it has or a new one.

        Raises PoolExhaustedError.
        """
        current: dict[int, list[IPAddress]] = {4: [], 6: []}
        for address in explicit:
            current[address.version].append(address)
        for version, addresses in current.items():
            if not addresses:
                addresses.extend(self._kept(name, version))
        if not current[4]:
            current[4] = [self._lowest(name, mirrored=not current[6])]
        if not current[6]:
            current[6] = [self._mirror(name, current[4][0])]
        result = current[4] + current[6]
        for address in reversed(result):
            self.claim(name, address)
        return result

    def table(self) -> dict[str, tuple[str, ...]]:
        """The table for the next map."""
        return {name: tuple(str(address) for address in held) for name, held in self._held.items()}

    def _kept(self, name: str, version: int) -> list[IPAddress]:
        pool = self._pools[version]
        return [address for address in self._held.get(name, ()) if address.version == version and address in pool][:1]

    def _free(self, address: IPAddress) -> bool:
        return address not in self._owners and self.reserved(address) is None

    def _lowest(self, name: str, mirrored: bool) -> IPAddress:
        pool, pool6 = self._pools[4], self._pools[6]
        for offset in range(self._next_offset, pool.size):
            address = IPAddress(pool.first + offset, 4)
            # .0 and .255 are whole addresses here, but there is software that takes them for a network's or broadcast.
            if int(address) & 0xFF in (0, 0xFF) or not self._free(address):
                continue
            if mirrored and offset < pool6.size and not self._free(IPAddress(pool6.first + offset, 6)):
                continue
            if mirrored:
                self._next_offset = offset + 1
            return address
        raise PoolExhaustedError(pool)

    def _mirror(self, name: str, address: IPAddress) -> IPAddress:
        pool, pool6 = self._pools[4], self._pools[6]
        offset = int(address) - pool.first
        if offset < pool6.size:
            mirror = IPAddress(pool6.first + offset, 6)
            if self._free(mirror):
                return mirror
        # Taken by somebody's explicit address: beyond the numbers that IPv4 has, so that no other mirror is in the way.
        start = pool.size if pool.size < pool6.size else 1
        for beyond in range(max(start, self._next_beyond), pool6.size):
            candidate = IPAddress(pool6.first + beyond, 6)
            if self._free(candidate):
                self._next_beyond = beyond + 1
                return candidate
        raise PoolExhaustedError(pool6)
