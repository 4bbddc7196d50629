# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A netmap as text for people: what `--diff` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from .dns import DnsSettings
from .model import Netmap, Node, encode_key


def describe(netmap: Optional[Netmap], pending: Optional[Mapping[str, tuple[str, ...]]] = None) -> str:
    """The map in YAML, a line a fact, so that a line of a diff says what changes; empty when there is no map.

    pending: members that will be in it once they have a key, and their addresses.
    """
    if netmap is None:
        return ""
    lines = [
        f"network: {netmap.network.name}",
        f"domain: {netmap.network.domain}",
        f"pools: {_listed(netmap.network.pools)}",
        f"version: {netmap.version}",
        *_dns(netmap.dns),
        "nodes:",
    ]
    sections = {node.name: _section(node) for node in netmap.nodes}
    for name, addresses in (pending or {}).items():
        sections[name] = ["    public_key: not made yet", f"    addresses: {_listed(addresses)}"]
    for name in sorted(sections):
        lines.append(f"  {name}:")
        lines.extend(sections[name])
    left = sorted(set(netmap.allocations) - set(sections))
    if left:
        lines.append("left:  # their addresses stay theirs")
        lines.extend(f"  {name}: {_listed(netmap.allocations[name])}" for name in left)
    return "\n".join(lines) + "\n"


def _dns(dns: DnsSettings) -> list[str]:
    lines = [f"  nameservers: {_listed(dns.nameservers)}"] if dns.nameservers else []
    if dns.override:
        lines.append("  override: true")
    if dns.split:
        lines.append("  split:")
        lines.extend(f"    {suffix}: {_listed(dns.split[suffix])}" for suffix in sorted(dns.split))
    if dns.search:
        lines.append(f"  search: {_listed(dns.search)}")
    if dns.records:
        lines.append("  records:")
        lines.extend(f"    - {record.name} {record.type} {record.value}" for record in dns.records)
    return ["dns:", *lines] if lines else []


def _section(node: Node) -> list[str]:
    facts: dict[str, object] = {
        "kind": node.kind,
        "public_key": encode_key(node.public_key),
        "addresses": _listed(node.addresses),
        "endpoint": node.endpoint,
        "routes": node.routes and _listed(node.routes),
        "unapproved_routes": node.unapproved_routes and _listed(node.unapproved_routes),
        "exit_node": node.exit_node,
        "beacon": node.beacon,
        "persistent_keepalive": node.persistent_keepalive,
    }
    return [f"    {name}: {value}" for name, value in facts.items() if value]


def _listed(items: tuple[str, ...]) -> str:
    return f"[{', '.join(items)}]"
