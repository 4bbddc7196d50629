# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others have on this host that the agent lives with: their links, routes and rules. Pure functions.

Nothing of it is ever changed. A prefix that another VPN's tunnel routes stays with that tunnel. Two things are refused:
to share a routing table, and to be a second VPN that takes everything, for then each would carry the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from .routes import Place, Wanted, overlapping

# linux/if_arp.h: NONE (tun, wireguard, xfrm), TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE
_SIT = 776
_TUNNEL_TYPES = frozenset({65534, 768, 769, _SIT, 778, 823})
# What may be a port of a bridge that leads nowhere outside the host: a container's or a virtual machine's end.
_VIRTUAL_PORTS = frozenset({"veth", "tun", "dummy"})

_MAIN = 254
_TAILSCALE_TABLE = 52
# A pair of these two covers everything, as OpenVPN's redirect-gateway def1 has it.
_HALF = 1
_STRICT = 1

# Why an exit node is refused on this host: codes of the control API.
EXIT_NODE_OTHER_VPN = "exit-node-other-vpn"
EXIT_NODE_RP_FILTER = "exit-node-rp-filter"


@dataclasses.dataclass(frozen=True)
class Link:
    """A device: ``kind`` as the kernel's drivers name it ("" for hardware), ``type`` an ARPHRD_ number."""

    index: int
    name: str
    kind: str = ""
    type: int = 1
    master: int = 0

    @property
    def is_tunnel(self) -> bool:
        # Mobile modems are of type NONE too, but of no kind.
        return bool(self.kind) and self.type in _TUNNEL_TYPES


@dataclasses.dataclass(frozen=True)
class Rule:
    """A policy rule that is not ours."""

    family: int
    priority: int
    table: int
    fwmark: int = 0
    fwmask: int = 0xFFFFFFFF
    inverted: bool = False
    selective: bool = False
    """Whether it is for some addresses, links, users or protocols only."""

    def __str__(self) -> str:
        mark = f" {'not ' if self.inverted else ''}fwmark {self.fwmark:#x}" if self.fwmark else ""
        if mark and self.fwmask != 0xFFFFFFFF:
            mark += f"/{self.fwmask:#x}"
        return f"{self.priority}:{mark} table {self.table}"

    def catches(self, mark: int) -> bool:
        """Whether it picks out packets with this mark."""
        return bool(self.fwmark) and not self.inverted and not (self.fwmark ^ mark) & self.fwmask


@dataclasses.dataclass(frozen=True)
class Route:
    """A unicast route that is not ours, by its table, its prefix and the links it leaves by."""

    table: int
    prefix: str
    links: tuple[int, ...] = ()
    gateways: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        return int(self.prefix.rpartition("/")[2])


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """The links but ours and the loopback's, with the prefixes of their addresses by link; rules and routes."""

    links: tuple[Link, ...] = ()
    addresses: tuple[tuple[int, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    underlay_links: frozenset[int] = frozenset()
    """By which the kernel would send our marked packets to the exit node, as far as its endpoint is known."""
    default_links: frozenset[int] = frozenset()
    """By which it sends what is for nowhere in particular, were it not for us."""
    rp_filter: tuple[tuple[str, int], ...] = ()
    """By link name, the value in force for IPv4: the larger of the link's own and that for all."""

    @property
    def on_link(self) -> tuple[str, ...]:
        """Every prefix that the host has an address in."""
        return tuple(sorted({prefix for _link, prefix in self.addresses}))

    @property
    def lan(self) -> tuple[str, ...]:
        """The prefixes of the host's own LANs, also those that it has no address in."""
        return self._direct({link.index for link in self.links if not link.is_tunnel and not self.is_internal(link)})

    @property
    def internal(self) -> tuple[str, ...]:
        """The prefixes of networks within the host: of containers and virtual machines."""
        return self._direct({link.index for link in self.links if self.is_internal(link)})

    @property
    def tunnelled(self) -> tuple[str, ...]:
        """The prefixes that other tunnels lead to, but for everything at once."""
        return tuple(sorted({prefix for link in self.links if link.is_tunnel for prefix in self.routed_by(link)}))

    @property
    def gateways(self) -> tuple[str, ...]:
        return tuple(sorted({gateway for route in self.routes for gateway in route.gateways}))

    def routed_by(self, link: Link) -> tuple[str, ...]:
        """The prefixes that this link leads to, but for everything at once."""
        routed = {route.prefix for route in self.routes if route.length > _HALF and link.index in route.links}
        return tuple(sorted(routed | set(self._direct({link.index}))))

    def takes_everything(self, link: Link) -> bool:
        return any(route.length <= _HALF and link.index in route.links for route in self.routes)

    def is_internal(self, link: Link) -> bool:
        """A bridge whose every port ends within the host, and that no default route leaves by."""
        if link.kind != "bridge":
            return False
        if any(port.kind not in _VIRTUAL_PORTS for port in self.links if port.master == link.index):
            return False
        return not self.takes_everything(link)

    def _direct(self, links: set[int]) -> tuple[str, ...]:
        addressed = {prefix for link, prefix in self.addresses if link in links}
        routed = {
            route.prefix
            for route in self.routes
            if route.table == _MAIN and route.length > _HALF and not route.gateways and links & {*route.links}
        }
        return tuple(sorted(addressed | routed))


def table_refusal(place: Place, surroundings: Surroundings) -> str:
    """Why the table cannot be ours, or ""."""
    others = [route.prefix for route in surroundings.routes if route.table == place.table]
    if not others:
        return ""
    return f"routing table {place.table} is in use already ({_few(others)}); give the agent another: sennit_table"


def exit_node_refusal(surroundings: Surroundings) -> tuple[str, str]:
    """Why no exit node can be used on this host, as code and message; two empty strings when one can."""
    for link in surroundings.links:
        # IPv6 may well come to a host by a tunnel over IPv4, which an exit node beyond that tunnel alone cannot bear.
        everything = link.index in surroundings.default_links and link.type != _SIT
        if link.is_tunnel and (everything or link.index in surroundings.underlay_links):
            message = (
                f"another VPN on this host, {link.name} ({link.kind}), takes everything, this mesh's own packets too; "
                "with an exit node each of the two would carry the other. Take one of them out of use"
            )
            return EXIT_NODE_OTHER_VPN, message
    addressed = {index for index, _prefix in surroundings.addresses}
    lans = {
        link.name
        for link in surroundings.links
        if link.index in addressed and not link.is_tunnel and not surroundings.is_internal(link)
    }
    strict = sorted(name for name, value in surroundings.rp_filter if value == _STRICT and name in lans)
    if strict:
        settings = ", ".join(f"net.ipv4.conf.{name}.rp_filter=2" for name in strict)
        message = (
            "the kernel's strict reverse path filter would drop what comes from the exit node, as it judges by the "
            f"routes of unmarked packets; make it loose: {settings}"
        )
        return EXIT_NODE_RP_FILTER, message
    return "", ""


def notices(place: Place, wanted: Wanted, surroundings: Surroundings) -> tuple[str, ...]:
    """What there is of others that whoever looks for a fault should know of, a line each."""
    return (
        *_other_vpns(surroundings),
        *_shared_pools(wanted, surroundings),
        *_shared_numbers(place, surroundings),
        *_earlier_rules(place, surroundings),
    )


def _other_vpns(surroundings: Surroundings) -> Iterator[str]:
    for link in surroundings.links:
        if not link.is_tunnel:
            continue
        routed = surroundings.routed_by(link)
        if surroundings.takes_everything(link):
            yield f"another VPN is here: {link.name} ({link.kind}) takes everything that the mesh does not"
        elif routed:
            yield f"another VPN is here: {link.name} ({link.kind}) keeps its routes ({_few(routed)})"
    if any(rule.table == _TAILSCALE_TABLE for rule in surroundings.rules):
        yield f"tailscale is here: it keeps table {_TAILSCALE_TABLE} and the rules that lead there"


def _shared_pools(wanted: Wanted, surroundings: Surroundings) -> Iterator[str]:
    for link in surroundings.links:
        within = overlapping((p for p in surroundings.routed_by(link) if not p.endswith("/0")), wanted.pools)
        if within:
            yield (
                f"{link.name} uses addresses of the mesh's pool ({_few(sorted(within))}): those of the mesh's nodes "
                "lead into the mesh, the others stay with it; another sennit_ipv4_pool or sennit_ipv6_pool avoids this"
            )


def _shared_numbers(place: Place, surroundings: Surroundings) -> Iterator[str]:
    for rule in surroundings.rules:
        name = f"another's IPv{rule.family} rule '{rule}'"
        if rule.priority == place.rule_priority:
            yield f"{name} has the priority of ours; sennit_rule_priority gives us another"
        if rule.table == place.table:
            yield f"{name} leads into our table; sennit_table gives us another"
        if rule.catches(place.fwmark):
            yield f"{name} takes the packets that bear our mark {place.fwmark:#x}; sennit_fwmark gives us another"


def _earlier_rules(place: Place, surroundings: Surroundings) -> Iterator[str]:
    everything = {route.table for route in surroundings.routes if route.length <= _HALF} - {_MAIN}
    for rule in surroundings.rules:
        everybody = not rule.selective and (rule.inverted or not rule.fwmark)
        if everybody and rule.table in everything and rule.priority < place.rule_priority:
            yield (
                f"another's IPv{rule.family} rule '{rule}' comes before ours and takes everything, what is for the "
                f"mesh too; it belongs after priority {place.rule_priority}"
            )


def _few(prefixes: Iterable[str], most: int = 3) -> str:
    ordered = list(prefixes)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
