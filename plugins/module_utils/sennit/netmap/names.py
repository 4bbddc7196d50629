# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node's resolver makes of the map: every name of the mesh, and which nameservers know the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .dns import CNAME, stub_addresses
from .model import Netmap


@dataclass(frozen=True)
class Rule:
    """Names that are `suffix` or end in it are asked of these nameservers."""

    suffix: str
    nameservers: tuple[str, ...]


@dataclass(frozen=True)
class DnsView:
    """All names are full ones in lower case, without the final dot.

    addresses: of every node and static peer, and of A and AAAA records. aliases: CNAME records. pools: prefixes whose
    PTR names are answered from `pointers`, by address, and from nothing else. rules: the split domains. search: the
    network's own domain first. stub: where the resolver answers. nameservers, override: see DnsSettings.
    """

    domain: str
    addresses: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    pools: tuple[str, ...]
    pointers: Mapping[str, str]
    rules: tuple[Rule, ...]
    search: tuple[str, ...]
    nameservers: tuple[str, ...]
    override: bool
    stub: tuple[str, ...]


def derive_names(netmap: Netmap) -> DnsView:
    """The same for every node of the network."""
    domain, dns = netmap.network.domain, netmap.dns
    addresses: dict[str, tuple[str, ...]] = {}
    pointers: dict[str, str] = {}
    for node in netmap.nodes:
        name = full_name(node.name, domain)
        addresses[name] = node.addresses
        pointers.update(dict.fromkeys(node.addresses, name))
    for record in dns.records:
        if record.type != CNAME:
            addresses[record.name] = (*addresses.get(record.name, ()), record.value)
    return DnsView(
        domain=domain,
        addresses=addresses,
        aliases={record.name: record.value for record in dns.records if record.type == CNAME},
        pools=netmap.network.pools,
        pointers=pointers,
        rules=tuple(Rule(suffix, nameservers) for suffix, nameservers in dns.split.items()),
        search=tuple(dict.fromkeys((domain, *dns.search))),
        nameservers=dns.nameservers,
        override=dns.override,
        stub=stub_addresses(netmap.network.pools),
    )


def full_name(node: str, domain: str) -> str:
    """The DNS name of a member of the mesh."""
    return f"{node.lower()}.{domain}"
