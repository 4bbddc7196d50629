# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network interfaces, as far as the datapath makes and removes them (rtnetlink(7); linux/if_link.h)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Optional

from ..netlink import CREATE, EXCL, Netlink, NetlinkError, attribute, attributes, messages, nested, unpack

TUN = "tun"
WIREGUARD = "wireguard"
ALIAS = "sennit"
"""By which an interface of ours is known that has outlived its agent."""

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_RTMGRP_LINK = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_STATS64 = 23
_IFLA_CARRIER = 33
_IFLA_INFO_KIND = 1
_IFF_UP = 0x1

_IFINFOMSG = Struct("=BxHiII")  # family, type, index, flags, changed flags
_BYTE = Struct("=B")
_NUMBER = Struct("=I")
_STATS = Struct(
    "=8Q"
)  # struct rtnl_link_stats64, as far as it is of use: packets, bytes, errors and dropped, rx and tx
_DROPS = ("rx-errors", "tx-errors", "rx-dropped", "tx-dropped")


@dataclass(frozen=True)
class Link:
    """kind: "" for a hardware device; carrier of a TUN device: whether a program holds it; drops: packets."""

    index: int
    kind: str
    alias: str
    carrier: bool
    drops: Mapping[str, int]


def parse(body: memoryview) -> Link:
    """One answer to RTM_GETLINK. Raises NetlinkError."""
    index = unpack(_IFINFOMSG, body)[2]
    kind, alias, carrier, drops = "", "", False, {}
    for what, value in attributes(body[_IFINFOMSG.size :]):
        if what == _IFLA_LINKINFO:
            kind = next((_text(inner) for key, inner in attributes(value) if key == _IFLA_INFO_KIND), "")
        elif what == _IFLA_IFALIAS:
            alias = _text(value)
        elif what == _IFLA_CARRIER:
            carrier = bool(unpack(_BYTE, value)[0])
        elif what == _IFLA_STATS64:
            drops = dict(zip(_DROPS, unpack(_STATS, value)[4:]))
    return Link(index, kind, alias, carrier, drops)


def _text(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace")


class Links:
    """A socket to the kernel's interfaces."""

    def __init__(self) -> None:
        self._netlink = Netlink(socket.NETLINK_ROUTE)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._netlink.close()

    def find(self, name: str) -> Optional[Link]:
        """The interface of this name, or None. Raises OSError."""
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return None
        return self.get(index)

    def get(self, index: int) -> Link:
        """Raises OSError: ENODEV when it is gone."""
        return parse(self._netlink.get(_RTM_GETLINK, _IFINFOMSG.pack(0, 0, index, 0, 0)))

    def all(self) -> list[Link]:
        """Raises OSError."""
        return [parse(body) for body in self._netlink.dump(_RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0))]

    def add(self, name: str, kind: str) -> None:
        """Make an interface; the kernel loads the kind's module. Raises OSError: EOPNOTSUPP when it has none."""
        body = (
            _IFINFOMSG.pack(0, 0, 0, 0, 0)
            + attribute(_IFLA_IFNAME, name.encode() + b"\0")
            + nested(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, kind.encode()))
        )
        self._netlink.change(_RTM_NEWLINK, CREATE | EXCL, body)

    def set(self, index: int, mtu: int, alias: str) -> None:
        """Raises OSError."""
        body = attribute(_IFLA_MTU, _NUMBER.pack(mtu)) + attribute(_IFLA_IFALIAS, alias.encode())
        self._netlink.change(_RTM_NEWLINK, 0, _IFINFOMSG.pack(0, 0, index, 0, 0) + body)

    def up(self, index: int) -> None:
        """Raises OSError."""
        self._netlink.change(_RTM_NEWLINK, 0, _IFINFOMSG.pack(0, 0, index, _IFF_UP, _IFF_UP))

    def remove(self, index: int) -> None:
        """Raises OSError."""
        self._netlink.change(_RTM_DELLINK, 0, _IFINFOMSG.pack(0, 0, index, 0, 0))


def tells_down(datagram: bytes, index: int) -> bool:
    """Whether one of these notifications says that the interface was down, or left this namespace, when it was sent."""
    with contextlib.suppress(NetlinkError):
        for what, _flags, _sequence, body in messages(datagram):
            if what in (_RTM_NEWLINK, _RTM_DELLINK):
                _family, _type, found, flags, _changed = unpack(_IFINFOMSG, body)
                if found == index and not flags & _IFF_UP:
                    return True
    return False


def watch() -> socket.socket:
    """A socket that becomes readable when an interface comes, goes or changes. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    watching = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    watching.bind((0, _RTMGRP_LINK))
    return watching
