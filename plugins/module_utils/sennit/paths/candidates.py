# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a peer may be, and in which order that is tried: the LAN, IPv6, IPv4; then the relays. Pure functions."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Union

from ..wireguard.events import Endpoint

LAN = "lan"
IPV6 = "ipv6"
DIRECT = "direct"
RELAY = "relay"
RANKS = {LAN: 0, IPV6: 1, DIRECT: 2, RELAY: 3}
"""Best first."""

MAX_CANDIDATES = 16

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# RFC 1918, section 3, and RFC 4193, section 3.1: not routed by the internet, so whoever is there is near.
_NEAR = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


@dataclass(frozen=True)
class Local:
    """What a host's own addresses say: ``addresses``, and ``networks``, the on-link prefixes that these are in."""

    addresses: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def has_family_of(self, address: Address) -> bool:
        return any((":" in own) == (address.version == 6) for own in self.addresses)

    def endpoints(self, port: int) -> tuple[Endpoint, ...]:
        """Where this host says that it is."""
        return tuple((address, port) for address in self.addresses)


def kind_of(endpoint: Endpoint, local: Local) -> str:
    """LAN, IPV6 or DIRECT: of a path to this endpoint that is no relay's."""
    address = _address(endpoint[0])
    if address.is_link_local or any(address in network for network in (*local.networks, *_NEAR)):
        return LAN
    return IPV6 if address.version == 6 else DIRECT


def ranked(endpoints: Iterable[Endpoint], local: Local, port: int, pools: Sequence[str]) -> tuple[Endpoint, ...]:
    """The first MAX_CANDIDATES that are worth trying from this host, best first; of one kind, in the order given.

    Left out is what leads back to this host, which listens on ``port``, or into the mesh, whose addresses are in
    ``pools``; what is no place of one host, or of one on a link that is not known; and a family that this host has not.
    """
    own = set(local.endpoints(port))
    mesh = tuple(map(_network, pools))
    usable = [
        endpoint
        for endpoint in dict.fromkeys(endpoints)
        if endpoint not in own and endpoint[1] and _is_usable(_address(endpoint[0]), local, mesh)
    ]
    return tuple(sorted(usable[:MAX_CANDIDATES], key=lambda endpoint: RANKS[kind_of(endpoint, local)]))


def relay_order(beacons: Iterable[str], one: bytes, other: bytes) -> list[str]:
    """The names of these beacons as two nodes prefer their relays, by the nodes' public keys.

    Both find the same order, and those of other pairs are spread over all beacons (rendezvous hashing).
    """
    pair = b"".join(sorted((one, other)))
    return sorted(beacons, key=lambda name: hashlib.blake2s(name.encode() + b"\0" + pair).digest())


def _is_usable(address: Address, local: Local, mesh: Sequence[Network]) -> bool:
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    return local.has_family_of(address) and not any(address in network for network in mesh)


# An agent looks at the same addresses again and again, of all its peers.
@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


@lru_cache(maxsize=64)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)
