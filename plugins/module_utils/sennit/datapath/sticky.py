# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sticky sockets: on a host with several addresses, an answer leaves from the one that the question came to.

IP_PKTINFO and IPV6_PKTINFO tell that address, and the interface, and take it when sending (ip(7), ipv6(7)). The source
address is kept while it is the host's. The interface is kept too, where a route leads through it; where none does, and
always with IPv6, the host routes by the source address. It is all forgotten when the host's routes lead elsewhere than
they did before.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from struct import Struct
from typing import Any, Optional

from ..netlink import Netlink, NetlinkError, attribute, attributes, unpack
from ..wireguard.events import Path

Ancillary = tuple[tuple[int, int, bytes], ...]
"""Control messages for sendmsg."""

Source = tuple[str, int]
"""Where packets leave from: an address of this host, and the index of an interface or 0."""

_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_INFO4 = Struct("=I4s4s")  # struct in_pktinfo: interface, address of ours, destination as in the header
_INFO6 = Struct("=16sI")  # struct in6_pktinfo: address of ours, interface
_MAPPED = bytes(10) + b"\xff\xff"
ANCILLARY_SPACE = socket.CMSG_SPACE(_INFO6.size)

_RTM_GETROUTE = 26
_RTA_DST = 1
_RTA_SRC = 2
_RTA_OIF = 4
_RTA_MARK = 16
_RTM_F_FIB_MATCH = 0x2000
_RTMSG = Struct("=8BI")  # family, lengths of destination and source, TOS, table, protocol, scope, type, flags
_NUMBER = Struct("=I")


def ask_for_pktinfo(udp: socket.socket, family: int) -> None:
    """Have recvmsg tell where each datagram arrived. Raises OSError."""
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def parse(level: int, data: bytes) -> Source:
    """What recvmsg told. A dual-stack socket tells IPv4 addresses as mapped ones."""
    if level == socket.IPPROTO_IP:
        interface, packed, _destination = _INFO4.unpack(data)
    else:
        packed, interface = _INFO6.unpack(data)
        if packed.startswith(_MAPPED):
            packed = packed[len(_MAPPED) :]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), interface


def ancillary(source: Source, family: int) -> Ancillary:
    """What sendmsg takes on a socket of this family."""
    address, interface = source
    packed = _packed(address)
    if family == socket.AF_INET:
        return ((socket.IPPROTO_IP, _IP_PKTINFO, _INFO4.pack(interface, packed, bytes(4))),)
    mapped = packed if len(packed) == 16 else _MAPPED + packed
    return ((socket.IPPROTO_IPV6, _IPV6_PKTINFO, _INFO6.pack(mapped, interface)),)


def source_for(path: Path, mark: int) -> Optional[Source]:
    """From where packets with this mark are to leave, as the host is now; None where the host is to choose."""
    if len(path) == 2 or not _is_ours(path[2], path[3]):
        return None
    host, _port, local, interface = path
    if "%" in host:  # a neighbour
        return local, interface
    try:
        # Through an interface without a route the peer would be sought as a neighbour.
        leaves_by = _interface(host, local, mark, interface, _RTM_F_FIB_MATCH)
    except OSError:
        leaves_by = 0
    return local, interface if leaves_by == interface else 0


def leads(path: Path, mark: int) -> Optional[int]:
    """The interface by which the host sends what comes from the path's own address; None where it cannot."""
    if len(path) == 2 or not _is_ours(path[2], path[3]):
        return None
    try:
        return _interface(path[0].partition("%")[0], path[2], mark, 0, 0)
    except OSError:
        return None


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _is_ours(address: str, interface: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place: Any = (address, 0) if family == socket.AF_INET else (address, 0, 0, interface)
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def _interface(destination: str, source: str, mark: int, through: int, flags: int) -> int:
    """The index of the interface that the host's routes name (rtnetlink(7)). Raises OSError where there is none."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    target, origin = _packed(destination), _packed(source)
    body = _RTMSG.pack(family, 8 * len(target), 8 * len(origin), 0, 0, 0, 0, 0, flags)
    body += attribute(_RTA_DST, target) + attribute(_RTA_SRC, origin) + attribute(_RTA_MARK, _NUMBER.pack(mark))
    if through:
        body += attribute(_RTA_OIF, _NUMBER.pack(through))
    netlink = Netlink(socket.NETLINK_ROUTE)
    try:
        answer = netlink.get(_RTM_GETROUTE, body)
    finally:
        netlink.close()
    for kind, value in attributes(answer[_RTMSG.size :]):
        if kind == _RTA_OIF:
            return unpack(_NUMBER, value)[0]
    raise NetlinkError("a route without an interface")


class Ways:
    """How packets to each peer leave, kept by the control process to notice that the host's routes lead elsewhere."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._known: dict[bytes, tuple[Path, Optional[int]]] = {}

    def use(self, peer: bytes, path: Path) -> None:
        if len(path) == 2:
            self.forget(peer)
        else:
            self._known[peer] = (path, leads(path, self._mark))

    def forget(self, peer: bytes) -> None:
        """The host chooses how its packets leave."""
        self._known.pop(peer, None)

    def mark_changed(self, mark: int) -> None:
        """Packets are marked with another from now on."""
        self._mark = mark

    def keep(self, peers: Mapping[bytes, object]) -> None:
        """Forget all others."""
        for peer in self._known.keys() - peers.keys():
            del self._known[peer]

    def changed(self) -> list[bytes]:
        """The peers whose packets would leave by another interface now, or cannot any more."""
        return [peer for peer, (path, before) in self._known.items() if leads(path, self._mark) != before]
