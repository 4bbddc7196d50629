# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's own addresses, at which others may reach it (rtnetlink(7); linux/if_addr.h).

Asked of the kernel directly: a laptop that roams changes them often, and its peers wait.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple, Optional

from ..datapath import link
from ..netlink import Netlink, attributes, unpack
from .candidates import Local, Network

_RTM_GETADDR = 22
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
_NUMBER = Struct("=I")
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_SITE = 200
_IFA_F_TEMPORARY = 0x01
_LENGTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
# Found to be another host's, going out of use, not yet found to be nobody else's.
_NOT_USABLE = 0x08 | 0x20 | 0x40

# Interfaces that lead into a tunnel: what is reached through it is another VPN's, and goes as far as that.
_TUNNELS = frozenset({"wireguard", "tun", "ipip", "ip6tnl", "sit", "gre", "ip6gre", "vti", "vti6", "xfrm", "ppp"})


class HostAddress(NamedTuple):
    """An address that others may reach; ``temporary``: by the privacy extensions (RFC 8981), soon another."""

    address: str
    length: int
    interface: int
    temporary: bool


def parse(body: memoryview) -> Optional[HostAddress]:
    """One answer to RTM_GETADDR; None for an address of no use to others. Raises NetlinkError."""
    family, length, flags, scope, index = unpack(_IFADDRMSG, body)
    values = dict(attributes(body[_IFADDRMSG.size :]))
    if _IFA_FLAGS in values:
        (flags,) = unpack(_NUMBER, values[_IFA_FLAGS])
    # On a point-to-point link, IFA_ADDRESS is the other end's.
    raw = bytes(values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b"")))
    if scope not in (_RT_SCOPE_UNIVERSE, _RT_SCOPE_SITE) or flags & _NOT_USABLE:
        return None
    if len(raw) != _LENGTHS.get(family):
        return None
    return HostAddress(str(ipaddress.ip_address(raw)), length, index, bool(flags & _IFA_F_TEMPORARY))


def local(found: Iterable[HostAddress], tunnels: frozenset[int]) -> Local:
    """What these say together, without those on the interfaces of the indices ``tunnels``; those that last first."""
    kept = sorted((each for each in found if each.interface not in tunnels), key=lambda each: each.temporary)
    networks: dict[Network, None] = {
        ipaddress.ip_network(f"{each.address}/{each.length}", strict=False): None for each in kept
    }
    return Local(tuple(dict.fromkeys(each.address for each in kept)), tuple(networks))


class LocalAddresses:
    """Asks the kernel."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._netlink = Netlink(socket.NETLINK_ROUTE)
        self._links = link.Links()

    def look(self) -> Local:
        """Raises OSError."""
        bodies = self._netlink.dump(_RTM_GETADDR, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        tunnels = frozenset(each.index for each in self._links.all() if each.kind in _TUNNELS)
        return local((each for each in map(parse, bodies) if each), tunnels)

    def close(self) -> None:
        self._netlink.close()
        self._links.close()
