# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's side of routes.py, through pyroute2 (0.5.14 and later).

Only messages are pyroute2's, the socket is our own: its sockets and calls have changed their shape from release to
release, and the "del" of 0.5 carries NLM_F_EXCL, which kernels since 5.18 take for NLM_F_BULK and refuse.

Import this only in a child process: pyroute2 takes 12 MB.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from .routes import IPV4, IPV6, PROTOCOL, Place, Present, Wanted, difference

try:
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import (
        RTM_DELADDR,
        RTM_DELROUTE,
        RTM_DELRULE,
        RTM_GETADDR,
        RTM_GETROUTE,
        RTM_GETRULE,
        RTM_NEWADDR,
        RTM_NEWLINK,
        RTM_NEWROUTE,
        RTM_NEWRULE,
    )
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg
except ImportError as error:
    PYROUTE2_IMPORT_ERROR: ImportError | None = error
else:
    PYROUTE2_IMPORT_ERROR = None

_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
_LENGTHS = {socket.AF_INET: 32, socket.AF_INET6: 128}

# linux/netlink.h: length, type, flags, sequence number and port, then for an error its number
_NLMSGHDR = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
# linux/if.h, linux/if_link.h, linux/fib_rules.h, linux/rtnetlink.h
_IFF_UP = 0x1
_IFF_MULTICAST = 0x1000
_IN6_ADDR_GEN_MODE_NONE = 1
_FIB_RULE_INVERT = 0x2
_FR_ACT_TO_TBL = 1
_RTN_UNICAST = 1
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_TABLE_COMPAT = 252


def reconcile(place: Place, wanted: Wanted) -> dict[str, Any]:
    """Make the host as wanted.

    Returns, as JSON: "changes" (lines for the log), "on_link" (subnet routes left out) and "failed" ({what: the
    kernel's reason}; all else is done). Raises OSError when there is no interface, or netlink does not work at all.
    """
    if PYROUTE2_IMPORT_ERROR is not None:
        raise OSError(errno.ENOPKG, "the Python library pyroute2 is not installed")
    with _Netlink() as netlink:
        host = _Host(netlink, place)
        todo = difference(wanted, host.present())
        if wanted.addresses:
            host.change("", "link-local addresses", RTM_NEWLINK, host.link_without_own_addresses())
            host.change("", "link", RTM_NEWLINK, host.link_up())
        for address in todo.add_addresses:
            host.change("add address", address, RTM_NEWADDR, host.address(address))
        for prefix in todo.add_routes:
            host.change("add route", prefix, RTM_NEWROUTE, host.route(prefix))
        for family in todo.add_rules:
            host.change("add rule", f"IPv{family}", RTM_NEWRULE, host.rule(family))
        for family in todo.remove_rules:
            host.change("remove rule", f"IPv{family}", RTM_DELRULE, host.rule(family))
        for prefix in todo.remove_routes:
            host.change("remove route", prefix, RTM_DELROUTE, host.route(prefix))
        for address in todo.remove_addresses:
            host.change("remove address", address, RTM_DELADDR, host.address(address))
        return {"changes": host.changes, "on_link": list(todo.on_link), "failed": host.failed}


class _Netlink:
    """A socket to the kernel's routing tables, one request at a time (rtnetlink(7))."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> _Netlink:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def dump(self, request: int, message: Any) -> list[Any]:
        """All objects of the message's kind and family. Raises OSError."""
        kind = type(message)
        objects = []
        for data in self._replies(request, NLM_F_DUMP, message):
            found = kind(data)
            found.decode()
            objects.append(found)
        return objects

    def change(self, request: int, flags: int, message: Any) -> None:
        """One change. Raises OSError with the kernel's reason."""
        for _data in self._replies(request, NLM_F_ACK | flags, message):
            raise OSError(errno.EPROTO, "the kernel answered a change with an object")

    def _replies(self, request: int, flags: int, message: Any) -> Iterator[bytes]:
        """Every message of the reply, without the one that ends it."""
        self._sequence += 1
        header = message["header"]
        header["type"], header["flags"], header["sequence_number"] = request, NLM_F_REQUEST | flags, self._sequence
        message.encode()
        self._socket.send(message.data)
        while True:
            # The kernel never puts more than 32 KiB into one datagram of a dump.
            datagram = self._socket.recv(65536)
            offset = 0
            while offset + _NLMSGHDR.size <= len(datagram):
                length, kind, _flags, sequence, _port = _NLMSGHDR.unpack_from(datagram, offset)
                part = datagram[offset : offset + length]
                offset += max(_NLMSGHDR.size, length + 3 & ~3)
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    code = -int(_ERROR.unpack_from(part, _NLMSGHDR.size)[0])
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield part


class _Host:
    """One netlink socket, and the place on the host that it works at."""

    def __init__(self, netlink: _Netlink, place: Place) -> None:
        self._netlink = netlink
        self._place = place
        self._index = socket.if_nametoindex(place.interface)
        self._loopback = socket.if_nametoindex("lo")
        self.changes: list[str] = []
        self.failed: dict[str, str] = {}

    def present(self) -> Present:
        addresses: set[str] = set()
        on_link: set[str] = set()
        for message in self._dump(RTM_GETADDR, ifaddrmsg):
            # With a point-to-point peer, IFA_ADDRESS is the peer, and IFA_LOCAL ours; IPv6 has IFA_ADDRESS alone.
            index, length, prefix = message["index"], message["prefixlen"], message.get_attr("IFA_ADDRESS")
            if index == self._index and message["scope"] != _RT_SCOPE_LINK:
                addresses.add(f"{message.get_attr('IFA_LOCAL') or prefix}/{length}")
            elif index not in (self._index, self._loopback) and length < _LENGTHS[message["family"]]:
                on_link.add(str(ipaddress.ip_network(f"{prefix}/{length}", strict=False)))
        routes = {
            f"{message.get_attr('RTA_DST') or _any(message['family'])}/{message['dst_len']}"
            for message in self._dump(RTM_GETROUTE, rtmsg)
            if message["proto"] == PROTOCOL and message.get_attr("RTA_TABLE") == self._place.table
        }
        rules = {
            IPV4 if message["family"] == socket.AF_INET else IPV6
            for message in self._dump(RTM_GETRULE, fibmsg)
            if message.get_attr("FRA_PROTOCOL") == PROTOCOL and message.get_attr("FRA_TABLE") == self._place.table
        }
        return Present(frozenset(addresses), frozenset(routes), frozenset(rules), tuple(sorted(on_link)))

    def _dump(self, request: int, kind: Any) -> Iterator[Any]:
        for family in _LENGTHS:
            yield from self._netlink.dump(request, _message(kind, {"family": family}))

    def change(self, verb: str, what: str, request: int, message: Any) -> None:
        """Send one change and keep what came of it; without a verb it is not worth a line in the log."""
        flags = NLM_F_CREATE | NLM_F_EXCL if request in (RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE) else 0
        try:
            self._netlink.change(request, flags, message)
        except OSError as error:
            self.failed[what] = str(error.strerror)
        else:
            if verb:
                self.changes.append(f"{verb} {what}")

    def address(self, address: str) -> Any:
        own, length = address.split("/")
        return _message(
            ifaddrmsg,
            {"family": _family(address), "index": self._index, "prefixlen": int(length), "scope": _RT_SCOPE_UNIVERSE},
            [("IFA_LOCAL", own), ("IFA_ADDRESS", own)],
        )

    def link_without_own_addresses(self) -> Any:
        """As with the kernel's WireGuard, no link-local address, for there is nobody on the link to use it with."""
        mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]}
        return _message(ifinfmsg, {"index": self._index}, [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]})])

    def link_up(self) -> Any:
        """Up, and without multicast, which WireGuard has no peer for."""
        change = _IFF_UP | _IFF_MULTICAST
        return _message(ifinfmsg, {"index": self._index, "flags": _IFF_UP, "change": change})

    def route(self, prefix: str) -> Any:
        destination, length = prefix.split("/")
        return _message(
            rtmsg,
            {
                "family": _family(prefix),
                "dst_len": int(length),
                "table": _RT_TABLE_COMPAT,
                "proto": PROTOCOL,
                "scope": _RT_SCOPE_UNIVERSE,
                "type": _RTN_UNICAST,
            },
            [("RTA_DST", destination), ("RTA_TABLE", self._place.table), ("RTA_OIF", self._index)],
        )

    def rule(self, family: int) -> Any:
        """What does not bear our mark looks into our table; the datapath's own packets bear it, and never do."""
        return _message(
            fibmsg,
            {
                "family": _FAMILIES[family],
                "action": _FR_ACT_TO_TBL,
                "flags": _FIB_RULE_INVERT,
                "table": _RT_TABLE_COMPAT,
            },
            [
                ("FRA_PRIORITY", self._place.rule_priority),
                ("FRA_FWMARK", self._place.fwmark),
                ("FRA_TABLE", self._place.table),
                ("FRA_PROTOCOL", PROTOCOL),
            ],
        )


def _message(
    kind: Any, fields: dict[str, int], attributes: tuple[tuple[str, Any], ...] | list[tuple[str, Any]] = ()
) -> Any:
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    return message


def _family(prefix: str) -> int:
    return socket.AF_INET6 if ":" in prefix else socket.AF_INET


def _any(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a destination, nothing is bound to it
