# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's side of routes.py, through pyroute2 (0.5.14 and later).

Only messages are pyroute2's, the socket is our own: its sockets and calls have changed their shape from release to
release, and the "del" of 0.5 carries NLM_F_EXCL, which kernels since 5.18 take for NLM_F_BULK and refuse.

Import this only in a child process: pyroute2 takes 12 MB.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Any, Callable, Optional

from ..netlink import CREATE, EXCL, Netlink
from .routes import IPV4, IPV6, PROTOCOL, Difference, Place, Present, Wanted, difference
from .surroundings import Link, Route, Rule, Surroundings, exit_node_refusal, notices, table_refusal

try:
    from pyroute2.netlink.rtnl import (
        RTM_DELADDR,
        RTM_DELROUTE,
        RTM_DELRULE,
        RTM_GETADDR,
        RTM_GETLINK,
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

_NLMSGHDR = struct.Struct("=IHHII")  # linux/netlink.h: length, type, flags, sequence number and port
# linux/if.h, linux/if_link.h, linux/fib_rules.h, linux/rtnetlink.h
_IFF_UP = 0x1
_IFF_MULTICAST = 0x1000
_IN6_ADDR_GEN_MODE_NONE = 1
_FIB_RULE_INVERT = 0x2
_FR_ACT_TO_TBL = 1
_RTN_UNICAST = 1
_RTN_THROW = 9
_RTM_F_CLONED = 0x200
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_SCOPE_HOST = 254
_RT_TABLE_COMPAT = 252
_FOREVER = 0xFFFFFFFF


# Addresses far away, to ask for the way there (RFC 5737; RFC 4291, section 2.4: global unicast).
_ANYWHERE = ("203.0.113.1", "2000::1")


def survey(place: Place, exit_endpoint: Optional[str]) -> dict[str, str]:
    """Whether an exit node, at this address of the underlay if it is known, can be used here. Changes nothing.

    Returns, as JSON: "code" and "message" of the refusal, empty strings when there is none. Raises OSError.
    """
    with _opened(place) as host:
        return _exit_node_refusal(host.surroundings(exit_endpoint))


def reconcile(place: Place, wanted: Wanted, may_raise: bool) -> dict[str, Any]:
    """Make the host as wanted. may_raise: also when that takes setting the link up; else all waits until it is.

    Returns, as JSON: "down" (so all waits), "changes" (lines for the log), "on_link" and "elsewhere" (prefixes left
    out), "failed" ({what: the reason}; all else is done), "notices" (what others have here) and "exit_node_refusal" (as
    survey(); the routes to the exit node are there all the same, so that nothing passes them by). Raises OSError when
    there is no interface, or netlink does not work at all.
    """
    without_ipv6 = (
        () if _has_ipv6() else ("this kernel has no IPv6: of the mesh, this host has its IPv4 addresses alone",)
    )
    if without_ipv6:
        wanted = wanted.without_ipv6()
    with _opened(place) as host:
        surroundings = host.surroundings(wanted.exit_endpoint)
        present = host.present(surroundings)
        refusal = table_refusal(place, surroundings)
        # Once our rules are there, whoever adds to our table was not there first.
        if refusal and not present.rules:
            wanted = Wanted(addresses=wanted.addresses, pools=wanted.pools)
            host.failed[place.interface] = refusal
        todo = difference(wanted, present)
        down = bool(wanted.addresses) and not may_raise and not host.is_up()
        if not down:
            _make(host, wanted, todo)
        return {
            "down": down,
            "changes": host.changes,
            "on_link": list(todo.on_link),
            "elsewhere": list(todo.elsewhere),
            "failed": host.failed,
            "notices": [*without_ipv6, *notices(place, wanted, surroundings)] if wanted.addresses else [],
            "exit_node_refusal": _exit_node_refusal(surroundings if wanted.exit_node else Surroundings()),
        }


def _has_ipv6() -> bool:
    """Whether the kernel has it at all, be it in use or not."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def _exit_node_refusal(surroundings: Surroundings) -> dict[str, str]:
    code, message = exit_node_refusal(surroundings)
    return {"code": code, "message": message}


def _make(host: _Host, wanted: Wanted, todo: Difference) -> None:
    """Change the host, in an order in which no packet goes astray that did not before."""
    if wanted.addresses:
        if _has_ipv6():
            host.change("", "link-local addresses", RTM_NEWLINK, host.link_without_own_addresses())
        host.change("", "link", RTM_NEWLINK, host.link_up())
    for address in todo.add_addresses:
        message = host.stub_address(address) if address in wanted.stub_addresses else host.address(address)
        host.change("add address", address, RTM_NEWADDR, message)
    # A prefix that turns from a route into a throw, or back, the kernel takes only once.
    turning = {*todo.add_routes, *todo.add_throws}
    _remove_routes(host, todo, lambda prefix: prefix in turning)
    for prefix in todo.add_throws:
        host.change("add throw", prefix, RTM_NEWROUTE, host.throw(prefix))
    for prefix in todo.add_routes:
        host.change("add route", prefix, RTM_NEWROUTE, host.route(prefix))
    for family in todo.add_rules:
        host.change("add rule", f"IPv{family}", RTM_NEWRULE, host.rule(family))
    for family in todo.remove_rules:
        host.change("remove rule", f"IPv{family}", RTM_DELRULE, host.rule(family))
    _remove_routes(host, todo, lambda prefix: prefix not in turning)
    for address in todo.remove_addresses:
        host.change("remove address", address, RTM_DELADDR, host.address(address))


def _remove_routes(host: _Host, todo: Difference, which: Callable[[str], bool]) -> None:
    for prefix in filter(which, todo.remove_routes):
        host.change("remove route", prefix, RTM_DELROUTE, host.route(prefix))
    for prefix in filter(which, todo.remove_throws):
        host.change("remove throw", prefix, RTM_DELROUTE, host.throw(prefix))


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[_Host]:
    if PYROUTE2_IMPORT_ERROR is not None:
        raise OSError(errno.ENOPKG, "the Python library pyroute2 is not installed")
    with contextlib.closing(Netlink(socket.NETLINK_ROUTE)) as netlink:
        yield _Host(_Netlink(netlink), place)


class _Netlink:
    """A socket to the kernel's routing tables, for pyroute2's messages. Its methods raise OSError (rtnetlink(7))."""

    def __init__(self, socket_: Netlink) -> None:
        self._socket = socket_

    def dump(self, request: int, message: Any) -> list[Any]:
        """All objects of the message's kind and family."""
        return [_decoded(type(message), body) for body in self._socket.dump(request, _encoded(message))]

    def get(self, request: int, message: Any) -> Any:
        """The one object that is asked for."""
        return _decoded(type(message), self._socket.get(request, _encoded(message)))

    def change(self, request: int, flags: int, message: Any) -> None:
        self._socket.change(request, flags, _encoded(message))


def _encoded(message: Any) -> bytes:
    """Without its header."""
    message.encode()
    return bytes(message.data[_NLMSGHDR.size :])


def _decoded(kind: Any, body: memoryview) -> Any:
    message = kind(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


class _Host:
    """One netlink socket, and the place on the host that it works at."""

    def __init__(self, netlink: _Netlink, place: Place) -> None:
        self._netlink = netlink
        self._place = place
        self._index = socket.if_nametoindex(place.interface)
        self._loopback = socket.if_nametoindex("lo")
        self.changes: list[str] = []
        self.failed: dict[str, str] = {}

    def is_up(self) -> bool:
        """Whether the tunnel's link is."""
        return bool(self._netlink.get(RTM_GETLINK, _message(ifinfmsg, {"index": self._index}))["flags"] & _IFF_UP)

    def surroundings(self, exit_endpoint: Optional[str]) -> Surroundings:
        """What others have here, and by which links a packet of ours would go to this address."""
        ours = (self._index, self._loopback)
        links = tuple(_link(m) for m in self._netlink.dump(RTM_GETLINK, ifinfmsg()) if m["index"] not in ours)
        self._routes = [message for message in self._dump(RTM_GETROUTE, rtmsg) if _is_kept(message)]
        self._rules = list(self._dump(RTM_GETRULE, fibmsg))
        return Surroundings(
            links=links,
            addresses=tuple(self._others_addresses()),
            rules=tuple(_rule(message) for message in self._rules if not self._is_ours(message, "FRA")),
            routes=tuple(_route(message) for message in self._routes if not self._is_ours(message, "RTA")),
            underlay_links=self._links_to(exit_endpoint) if exit_endpoint else frozenset(),
            default_links=self._links_to(*_ANYWHERE),
            rp_filter=tuple((link.name, _rp_filter(link.name)) for link in links),
        )

    def present(self, surroundings: Surroundings) -> Present:
        """What is ours, beside what surroundings() found."""
        routes = [message for message in self._routes if self._is_ours(message, "RTA")]
        return Present(
            addresses=frozenset(self._own_addresses()),
            routes=frozenset(_prefix(message) for message in routes if message["type"] == _RTN_UNICAST),
            throws=frozenset(_prefix(message) for message in routes if message["type"] == _RTN_THROW),
            rules=frozenset(_version(m["family"]) for m in self._rules if self._is_ours(m, "FRA")),
            on_link=surroundings.on_link,
            lan=surroundings.lan,
            internal=surroundings.internal,
            tunnelled=surroundings.tunnelled,
            gateways=surroundings.gateways,
        )

    def _is_ours(self, message: Any, prefix: str) -> bool:
        protocol = message["proto"] if prefix == "RTA" else message.get_attr("FRA_PROTOCOL")
        return bool(protocol == PROTOCOL and message.get_attr(f"{prefix}_TABLE") == self._place.table)

    def _own_addresses(self) -> Iterator[str]:
        for message in self._dump(RTM_GETADDR, ifaddrmsg):
            # With a point-to-point peer, IFA_ADDRESS is the peer, and IFA_LOCAL ours; IPv6 has IFA_ADDRESS alone.
            if message["index"] == self._index and message["scope"] != _RT_SCOPE_LINK:
                address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                yield f"{address}/{message['prefixlen']}"

    def _others_addresses(self) -> Iterator[tuple[int, str]]:
        for message in self._dump(RTM_GETADDR, ifaddrmsg):
            index, length = message["index"], message["prefixlen"]
            if index not in (self._index, self._loopback) and length < _LENGTHS[message["family"]]:
                network = ipaddress.ip_network(f"{message.get_attr('IFA_ADDRESS')}/{length}", strict=False)
                yield index, str(network)

    def _links_to(self, *addresses: str) -> frozenset[int]:
        """By which links the kernel would send packets with our mark there."""
        found = set()
        for destination in addresses:
            fields = {"family": _family(destination), "dst_len": _LENGTHS[_family(destination)]}
            request = _message(rtmsg, fields, [("RTA_DST", destination), ("RTA_MARK", self._place.fwmark)])
            try:
                found.add(self._netlink.get(RTM_GETROUTE, request).get_attr("RTA_OIF"))
            except OSError:  # there is no way there
                continue
        return frozenset(found)

    def _dump(self, request: int, kind: Any) -> Iterator[Any]:
        # Asked for a family that it does not have, the kernel tells of all the others.
        for family in _LENGTHS if _has_ipv6() else (socket.AF_INET,):
            yield from self._netlink.dump(request, _message(kind, {"family": family}))

    def change(self, verb: str, what: str, request: int, message: Any) -> None:
        """Send one change and keep what came of it; without a verb it is not worth a line in the log."""
        flags = CREATE | EXCL if request in (RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE) else 0
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

    def stub_address(self, address: str) -> Any:
        """One that the kernel never takes as the source of packets that leave the host: IPv4 has a scope for this;
        IPv6 would rather take any other address than a deprecated one (RFC 6724, section 5, rule 3).
        """
        message = self.address(address)
        if message["family"] == socket.AF_INET:
            message["scope"] = _RT_SCOPE_HOST
        else:
            lifetimes = {"ifa_preferred": 0, "ifa_valid": _FOREVER, "cstamp": 0, "tstamp": 0}
            message["attrs"].append(("IFA_CACHEINFO", lifetimes))
        return message

    def link_without_own_addresses(self) -> Any:
        """As with the kernel's WireGuard, no link-local address, for there is nobody on the link to use it with."""
        mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]}
        return _message(ifinfmsg, {"index": self._index}, [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]})])

    def link_up(self) -> Any:
        """Up, and without multicast, which WireGuard has no peer for."""
        change = _IFF_UP | _IFF_MULTICAST
        return _message(ifinfmsg, {"index": self._index, "flags": _IFF_UP, "change": change})

    def route(self, prefix: str) -> Any:
        """Into the tunnel."""
        return self._in_our_table(prefix, _RTN_UNICAST, [("RTA_OIF", self._index)])

    def throw(self, prefix: str) -> Any:
        """On to the rules after ours."""
        return self._in_our_table(prefix, _RTN_THROW, [])

    def _in_our_table(self, prefix: str, kind: int, attributes: list[tuple[str, Any]]) -> Any:
        destination, length = prefix.split("/")
        return _message(
            rtmsg,
            {
                "family": _family(prefix),
                "dst_len": int(length),
                "table": _RT_TABLE_COMPAT,
                "proto": PROTOCOL,
                "scope": _RT_SCOPE_UNIVERSE,
                "type": kind,
            },
            [("RTA_DST", destination), ("RTA_TABLE", self._place.table), *attributes],
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


def _is_kept(message: Any) -> bool:
    """Not one that the kernel made up on the way, as a neighbour's redirect can make it do for any address."""
    return message["type"] in (_RTN_UNICAST, _RTN_THROW) and not message["flags"] & _RTM_F_CLONED


def _link(message: Any) -> Link:
    information = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(information.get_attr("IFLA_INFO_KIND") or "") if information else "",
        type=message["ifi_type"],
        master=message.get_attr("IFLA_MASTER") or 0,
    )


_SELECTORS = (
    "FRA_IIFNAME",
    "FRA_OIFNAME",
    "FRA_UID_RANGE",
    "FRA_IP_PROTO",
    "FRA_SPORT_RANGE",
    "FRA_DPORT_RANGE",
)


def _rule(message: Any) -> Rule:
    return Rule(
        family=_version(message["family"]),
        priority=message.get_attr("FRA_PRIORITY") or 0,
        table=message.get_attr("FRA_TABLE") or message["table"],
        fwmark=message.get_attr("FRA_FWMARK") or 0,
        fwmask=_or(message.get_attr("FRA_FWMASK"), 0xFFFFFFFF),
        inverted=bool(message["flags"] & _FIB_RULE_INVERT),
        selective=bool(message["src_len"] or message["dst_len"])
        or any(message.get_attr(selector) is not None for selector in _SELECTORS),
    )


def _route(message: Any) -> Route:
    hops = message.get_attr("RTA_MULTIPATH") or []
    links = [message.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)]
    gateways = [message.get_attr("RTA_GATEWAY"), *(hop.get_attr("RTA_GATEWAY") for hop in hops)]
    return Route(
        table=message.get_attr("RTA_TABLE") or message["table"],
        prefix=_prefix(message),
        links=tuple(link for link in links if link),
        gateways=tuple(gateway for gateway in gateways if gateway),
    )


def _prefix(message: Any) -> str:
    return f"{message.get_attr('RTA_DST') or _any(message['family'])}/{message['dst_len']}"


def _rp_filter(link: str) -> int:
    """The value in force (Documentation/networking/ip-sysctl.rst: the larger one counts); 0 without IPv4."""
    values = [0]
    for name in ("all", link):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/sys/net/ipv4/conf/{name}/rp_filter") as file:
            values.append(int(file.read()))
    return max(values)


def _message(
    kind: Any, fields: dict[str, int], attributes: tuple[tuple[str, Any], ...] | list[tuple[str, Any]] = ()
) -> Any:
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    return message


def _family(prefix: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in prefix else socket.AF_INET


def _version(family: int) -> int:
    return IPV4 if family == socket.AF_INET else IPV6


def _or(value: Optional[int], default: int) -> int:
    return default if value is None else value


def _any(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a destination, nothing is bound to it
