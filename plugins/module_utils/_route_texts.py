# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static routes as text: what a user writes, and what systemd-networkd, NetworkManager and ifupdown keep of them.

Pure functions on strings, so that each format's writer and reader can be tested against each other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Union

IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

HEADER = "# Written by Ansible (sennit.mesh.static_route).\n"


class Route(NamedTuple):
    """A prefix and the address that leads there."""

    prefix: IPNetwork
    gateway: IPAddress

    def __str__(self) -> str:
        return f"{self.prefix} via {self.gateway}"


def order(routes: Iterable[Route]) -> list[Route]:
    """The routes each once, IPv4 first."""
    return sorted(set(routes), key=lambda route: (route.prefix.version, route.prefix, int(route.gateway)))


def parse_route(prefix: str, gateway: str) -> Route:
    """A route from two texts. Raises ValueError for what is none."""
    route = Route(ipaddress.ip_network(prefix), ipaddress.ip_address(gateway))
    if route.prefix.version != route.gateway.version:
        raise ValueError(f"{prefix} and {gateway} are of different families")
    return route


def check_prefix(prefix: IPNetwork, gateway: IPAddress, on_link: Iterable[IPNetwork]) -> None:
    """Raise ValueError, with the reason, for a prefix that would take the host off its own LAN or off the gateway."""
    if gateway in prefix:
        raise ValueError(f"holds its own gateway {gateway}")
    for own in on_link:
        if own.version == prefix.version and own.overlaps(prefix):
            raise ValueError(f"shares addresses with {own}, which this host is on itself")


# --- systemd-networkd: a drop-in for a .network file, see systemd.network(5)


def networkd_dropin(routes: Iterable[Route]) -> str:
    """The [Route] sections. GatewayOnLink because an address by DHCP may come later than the route."""
    sections = (
        f"\n[Route]\nDestination={route.prefix}\nGateway={route.gateway}\nGatewayOnLink=yes\n"
        for route in order(routes)
    )
    return HEADER + "".join(sections)


def parse_networkd_dropin(text: str) -> list[Route]:
    """The routes of such a drop-in."""
    found = []
    for section in text.split("[Route]\n")[1:]:
        values = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
        found.append(parse_route(values["Destination"], values["Gateway"]))
    return found


class NetworkdLink(NamedTuple):
    """What systemd-networkd says of an interface."""

    network_file: str
    state: str


def parse_networkctl(text: str) -> dict[str, NetworkdLink]:
    """``networkctl status --all``, in the form that it has since systemd 239: the interfaces that networkd manages."""
    found: dict[str, NetworkdLink] = {}
    for block in re.split(r"^(?=\S+ \d+: )", text, flags=re.MULTILINE):
        heading = re.match(r"\S+ \d+: (\S+)", block)
        file = re.search(r"^\s*Network File: (/\S+)", block, re.MULTILINE)
        state = re.search(r"^\s*State: \S+ \((\S+)\)", block, re.MULTILINE)
        if heading and file and state and state.group(1) != "unmanaged":
            found[heading.group(1)] = NetworkdLink(file.group(1), state.group(1))
    return found


# --- ifupdown: a script in /etc/network/if-up.d, see interfaces(5)

_IFUPDOWN_LINE = re.compile(r'^\[ "\$IFACE" != (\S+) \] \|\| ip route replace (\S+) via (\S+) ')


def ifupdown_script(routes: Mapping[str, Iterable[Route]]) -> str:
    """The script with the routes of each interface.

    ifup runs it once for each family, in the order of the file; "onlink" because the gateway's family may be the
    second.
    """
    lines = [
        f'[ "$IFACE" != {interface} ] || ip route replace {route} dev {interface} proto static onlink\n'
        for interface in sorted(routes)
        for route in order(routes[interface])
    ]
    # ifup gives up on an interface whose scripts fail.
    return "#!/bin/sh\n" + HEADER + "".join(lines) + "exit 0\n"


def parse_ifupdown_script(text: str) -> dict[str, list[Route]]:
    """The routes of such a script, by interface."""
    found: dict[str, list[Route]] = {}
    for line in text.splitlines():
        match = _IFUPDOWN_LINE.match(line)
        if match:
            found.setdefault(match.group(1), []).append(parse_route(match.group(2), match.group(3)))
    return found


# --- NetworkManager: a profile's properties, see nm-settings-nmcli(5)


def parse_nmcli_routes(text: str) -> list[Route]:
    """``nmcli --get-values ipv4.routes,ipv6.routes connection show``; what has no gateway is left out.

    One property a line, its routes parted by commas; each is "PREFIX [GATEWAY] [METRIC] [ATTRIBUTE=VALUE...]".
    """
    found = []
    for entry in text.replace("\\:", ":").replace("\n", ",").split(","):
        words = entry.split()
        if len(words) < 2:
            continue
        try:
            found.append(parse_route(words[0], words[1]))
        except ValueError:
            continue  # a metric, where a gateway would be
    return found


def parse_nmcli_lines(text: str) -> list[list[str]]:
    """What ``nmcli --terse`` prints: fields parted by colons, those within a field escaped."""
    return [
        [re.sub(r"\\(.)", r"\1", field) for field in re.split(r"(?<!\\):", line)] for line in text.splitlines() if line
    ]
