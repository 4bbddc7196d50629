# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notices when addresses or policy rules of the host change, or the tunnel is set up or down, to look again.

A host moves to another LAN, or a network manager drops the rules that it does not know (systemd-networkd does so when
it starts). Spoken directly to the kernel (rtnetlink(7)): it has to be resident, and pyroute2 is too large for that.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import Optional

from ..netlink import NetlinkError, attributes, messages, unpack

# linux/rtnetlink.h; bit n-1 stands for group RTNLGRP_ n.
_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV4_RULE = 0x80
_RTMGRP_IPV6_IFADDR = 0x100
_RTMGRP_IPV6_RULE = 1 << 18
_GROUPS = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_RULE | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV6_RULE

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_IFA_ADDRESS = 1

_IFF_UP = 0x1

_IFINFOMSG = Struct("=BxHiI")  # family, type, index, flags
_IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, interface index

_Address = tuple[int, int, int, bytes]


class Monitor:
    """A socket to wait on; changed() then says whether what came matters."""

    def __init__(self, interface: str) -> None:
        """interface: the tunnel's. Raises OSError, also when there is no such interface."""
        self._index = socket.if_nametoindex(interface)
        self._up: Optional[bool] = None
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self.socket.bind((0, _GROUPS))
        self._known: set[_Address] = set()

    def close(self) -> None:
        self.socket.close()

    def changed(self) -> bool:
        """Read all that is there. True when a rule or an address came or went, or the tunnel went up or down.

        Every router advertisement announces addresses anew that are known already; those do not count.
        """
        changed = False
        while True:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The kernel had more to say than the socket holds, perhaps that one of these is gone.
                self._known.clear()
                changed = True
                continue
            try:
                for kind, _flags, _sequence, body in messages(data):
                    changed |= self._matters(kind, body)
            except NetlinkError:
                # Something has happened, whatever it was.
                changed = True

    def _matters(self, kind: int, body: memoryview) -> bool:
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            _family, _type, index, flags = unpack(_IFINFOMSG, body)
            if index != self._index:
                return False
            before, self._up = self._up, bool(flags & _IFF_UP)
            return self._up != before
        if kind not in (_RTM_NEWADDR, _RTM_DELADDR):
            return True
        address = _address(body)
        known = address in self._known
        if kind == _RTM_DELADDR:
            self._known.discard(address)
            return True
        self._known.add(address)
        return not known


def _address(body: memoryview) -> _Address:
    """Raises NetlinkError."""
    family, length, _flags, _scope, index = unpack(_IFADDRMSG, body)
    addresses = (bytes(value) for kind, value in attributes(body[_IFADDRMSG.size :]) if kind == _IFA_ADDRESS)
    return family, length, index, next(addresses, b"")
