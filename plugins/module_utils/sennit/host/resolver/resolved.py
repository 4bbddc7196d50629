# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd-resolved: the stub is the nameserver of the tunnel's link, for the mesh's domains alone or for all.

What a link has ends with it, or with resolved's own restart; so the live state is compared at each look. Names of no
rule stay with the servers of the other links, and never come to us (org.freedesktop.resolve1(5)).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from . import bus
from .base import Found, Place, ResolverError, Wanted, others

NAME = "systemd-resolved"
SERVICE = "org.freedesktop.resolve1"
STUB_ADDRESSES = ("127.0.0.53", "127.0.0.54")
STUB_FILES = (
    "/run/systemd/resolve/stub-resolv.conf",
    "/usr/lib/systemd/resolv.conf",
    "/lib/systemd/resolv.conf",
)
# It writes this one whenever its servers change, and when it starts.
STATE_FILE = "/run/systemd/resolve/resolv.conf"

_PATH = "/org/freedesktop/resolve1"
_MANAGER = "org.freedesktop.resolve1.Manager"
_LINK = "org.freedesktop.resolve1.Link"

# Nothing of these makes sense on a link where only the stub answers, and only to us.
_OFF = (
    ("LLMNR", "SetLinkLLMNR"),
    ("MulticastDNS", "SetLinkMulticastDNS"),
    ("DNSOverTLS", "SetLinkDNSOverTLS"),
    ("DNSSEC", "SetLinkDNSSEC"),
)


class Resolved:
    """The settings of one link."""

    name = NAME

    def __init__(self, place: Place) -> None:
        self._interface = place.interface

    def found(self, stub: Sequence[str]) -> Found:
        (servers,) = bus.get(SERVICE, _PATH, _MANAGER, "DNS")
        return Found(others(_addresses(servers), stub))

    def apply(self, wanted: Wanted) -> list[str]:
        index = self._index()
        (path,) = bus.call(SERVICE, _PATH, _MANAGER, "GetLink", "i", str(index))
        names = ["DNS", "Domains", "DefaultRoute", *(name for name, _method in _OFF)]
        servers, domains, default_route, *off = bus.get(SERVICE, str(path), _LINK, *names)
        changes = []
        if _addresses(servers) != list(wanted.stub):
            arguments = [word for address in wanted.stub for word in _octets(address)]
            self._set("SetLinkDNS", "ia(iay)", index, len(wanted.stub), *arguments)
            changes.append(f"its servers are {', '.join(wanted.stub)}")
        domains_wanted = _domains(wanted)
        if domains != [list(domain) for domain in domains_wanted]:
            arguments = [word for name, routed in domains_wanted for word in (name, str(routed).lower())]
            self._set("SetLinkDomains", "ia(sb)", index, len(domains_wanted), *arguments)
            changes.append(f"its domains are {_few(domains_wanted)}")
        if default_route != wanted.everything:
            self._set("SetLinkDefaultRoute", "ib", index, str(wanted.everything).lower())
            changes.append("it is asked for all names" if wanted.everything else "it is asked for no others")
        for (_name, method), value in zip(_OFF, off):
            if value != "no":
                self._set(method, "is", index, "no")
        return changes

    def undo(self) -> list[str]:
        try:
            index = self._index()
        except ResolverError:  # the link has gone, and with it what it had
            return []
        if bus.answers(SERVICE):
            self._set("RevertLink", "i", index)
            self.flush()
        return []

    def flush(self) -> None:
        """Forget all answers that came before."""
        bus.call(SERVICE, _PATH, _MANAGER, "FlushCaches")

    def watched(self) -> list[str]:
        return [STATE_FILE, STUB_FILES[0]]

    def _index(self) -> int:
        try:
            return socket.if_nametoindex(self._interface)
        except OSError as error:
            raise ResolverError(f"there is no interface {self._interface}") from error

    def _set(self, method: str, signature: str, index: int, *values: Any) -> None:
        try:
            bus.call(SERVICE, _PATH, _MANAGER, method, signature, str(index), *map(str, values))
        except ResolverError as error:
            raise ResolverError(f"{NAME}: {method}: {error}") from error


def _domains(wanted: Wanted) -> list[tuple[str, bool]]:
    """Each with whether it is for routing only; "." is the root."""
    searched = [(domain, False) for domain in wanted.search]
    routed = [(domain, True) for domain in (*wanted.routed, *((".",) if wanted.everything else ()))]
    return [*searched, *(domain for domain in routed if domain[0] not in wanted.search)]


def _few(domains: list[tuple[str, bool]], most: int = 4) -> str:
    text = ", ".join(f"~{name}" if routed else name for name, routed in domains[:most])
    return text + (f" and {len(domains) - most} more" if len(domains) > most else "")


def _addresses(servers: Any) -> list[str]:
    """Of structs that end in a family and the octets. Raises ResolverError."""
    try:
        return [str(ipaddress.ip_address(bytes(server[-1]))) for server in servers]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ResolverError(f"{NAME}: no list of servers: {str(servers)[:60]}") from error


def _octets(address: str) -> list[str]:
    """As busctl takes a struct of a family and a byte array."""
    packed = ipaddress.ip_address(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return [str(int(family)), str(len(packed)), *map(str, packed)]
