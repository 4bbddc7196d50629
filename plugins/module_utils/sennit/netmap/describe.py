# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A netmap as text for people: what `--diff` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from .model import Netmap, encode_key


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
        "nodes:",
    ]
    sections: dict[str, list[str]] = {node.name: [] for node in netmap.nodes}
    for node in netmap.nodes:
        section = sections[node.name]
        section.append(f"    kind: {node.kind}")
        section.append(f"    public_key: {encode_key(node.public_key)}")
        section.append(f"    addresses: {_listed(node.addresses)}")
        if node.endpoint is not None:
            section.append(f"    endpoint: {node.endpoint}")
        if node.routes:
            section.append(f"    routes: {_listed(node.routes)}")
        if node.unapproved_routes:
            section.append(f"    unapproved_routes: {_listed(node.unapproved_routes)}")
        if node.exit_node is not None:
            section.append(f"    exit_node: {node.exit_node}")
        if node.persistent_keepalive:
            section.append(f"    persistent_keepalive: {node.persistent_keepalive}")
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


def _listed(items: tuple[str, ...]) -> str:
    return f"[{', '.join(items)}]"
