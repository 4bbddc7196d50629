# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NetworkManager, where it writes resolv.conf itself: its global DNS configuration (NetworkManager.conf(5)).

A file in its own directory for what does not survive a reboot: so every rewrite of NetworkManager's is ours, too, and a
crash leaves nothing for longer. What its connections have is not used meanwhile, so their search domains are added.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from typing import Any

from ... import files
from . import bus
from .base import Found, Place, ResolverError, Wanted, others
from .resolv_conf import parse, read

NAME = "NetworkManager"
SERVICE = "org.freedesktop.NetworkManager"
OWN_FILE = "/run/NetworkManager/resolv.conf"
DROP_IN = "/run/NetworkManager/conf.d/90-sennit.conf"

_PATH = "/org/freedesktop/NetworkManager"
# NMManagerReloadFlags: the configuration alone, not the whole of it.
_RELOAD_CONF = "1"
_HEADER = "# Written by the agent of a Sennit mesh, which removes it when it stops.\n"
_OWN_DNSMASQ = (("127.0.0.1",), ("127.0.1.1",))
# Those that leave resolv.conf to others, or to nobody.
_HANDS_OFF = ("unmanaged", "immutable", "resolvconf", "netconfig")


class NetworkManager:
    """One file of its configuration."""

    name = NAME

    def __init__(self, place: Place) -> None:
        self._path = place.path
        self._interface = place.interface

    def found(self, stub: Sequence[str]) -> Found:
        configurations = self._configurations()
        nameservers = [address for servers, _search in configurations for address in servers]
        search = [domain.lstrip("~").rstrip(".") for _servers, domains in configurations for domain in domains]
        return Found(others(nameservers, stub), tuple(dict.fromkeys(domain for domain in search if domain)))

    def apply(self, wanted: Wanted) -> list[str]:
        search = dict.fromkeys((*wanted.search, *self.found(wanted.stub).search))
        text = (
            f"{_HEADER}[global-dns]\nsearches={','.join(search)}\n\n"
            f"[global-dns-domain-*]\nservers={','.join(wanted.stub)}\n"
        )
        changed = read(DROP_IN) != text.encode()
        if changed:
            os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
            files.replace(DROP_IN, text.encode(), 0o644)
        if changed or not self._in_force(wanted):
            self._reload()
            if not self._in_force(wanted):
                raise ResolverError(f"{NAME} does not take the nameservers of {DROP_IN}")
        return ["it has the mesh's resolver"] if changed else []

    def undo(self) -> list[str]:
        try:
            os.unlink(DROP_IN)
        except FileNotFoundError:
            return []
        if bus.answers(SERVICE):
            self._reload()
        return []

    def watched(self) -> list[str]:
        return [self._path, OWN_FILE]

    def _in_force(self, wanted: Wanted) -> bool:
        nameservers = parse(read(self._path)).nameservers
        # With its own dnsmasq in between, that one alone is in the file.
        return nameservers[: len(wanted.stub)] == wanted.stub or nameservers in _OWN_DNSMASQ

    def _reload(self) -> None:
        bus.call(SERVICE, _PATH, SERVICE, "Reload", "u", _RELOAD_CONF)

    def _configurations(self) -> list[tuple[list[str], list[str]]]:
        """Nameservers and search domains of each connection and family, the most important connection first."""
        (connections,) = bus.get(SERVICE, _PATH, SERVICE, "ActiveConnections")
        ordered = []
        for connection in _strings(connections):
            default, devices, *configurations = bus.get(
                SERVICE, connection, f"{SERVICE}.Connection.Active", "Default", "Devices", "Ip4Config", "Ip6Config"
            )
            names = [bus.get(SERVICE, device, f"{SERVICE}.Device", "Interface")[0] for device in _strings(devices)]
            if self._interface not in names:
                ordered.append((default is not True, _strings(configurations)))
        return [
            _dns_of(path, kind)
            for _rank, paths in sorted(ordered)
            for path, kind in zip(paths, ("IP4Config", "IP6Config"))
            if path != "/"
        ]


def writes_resolv_conf() -> bool:
    """Whether it is running, and the one that writes the file."""
    if not bus.answers(SERVICE):
        return False
    try:
        mode, manager = bus.get(SERVICE, f"{_PATH}/DnsManager", f"{SERVICE}.DnsManager", "Mode", "RcManager")
    except ResolverError:  # a version that does not tell
        return True
    return mode not in ("none", "systemd-resolved") and manager not in _HANDS_OFF


def _dns_of(path: str, kind: str) -> tuple[list[str], list[str]]:
    interface = f"{SERVICE}.{kind}"
    domains, searches = bus.get(SERVICE, path, interface, "Domains", "Searches")
    (servers,) = bus.get(SERVICE, path, interface, "NameserverData" if kind == "IP4Config" else "Nameservers")
    try:
        addresses = [_text(server) if kind == "IP4Config" else _packed(server) for server in servers]
    except (TypeError, ValueError, KeyError) as error:
        raise ResolverError(f"{NAME}: no list of nameservers: {str(servers)[:60]}") from error
    return addresses, _strings([*_strings(domains), *_strings(searches)])


def _text(server: Any) -> str:
    return str(ipaddress.ip_address(str(server["address"]["data"])))


def _packed(octets: Any) -> str:
    return str(ipaddress.ip_address(bytes(octets)))


def _strings(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ResolverError(f"{NAME}: no list of names: {str(values)[:60]}")
    return values
