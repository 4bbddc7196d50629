# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The exit node that the inventory states for a node, ``sennit_exit_node``: it must be one that the node can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from .approvals import VARIABLE as APPROVED_ROUTES
from .approvals import Approvals
from .inventory import EXIT_NODE, GROUP_EXIT_NODES, NO_EXIT_NODE, Findings, read_text
from .members import Member
from .model import KIND_NODE


def refuse_exit_nodes(members: Sequence[Member], approvals: Approvals, findings: Findings) -> None:
    """Note each node whose exit node is no node, itself, does not offer to be one, or is not approved."""
    by_name = {member.name: member for member in members}
    for member in members:
        if member.kind != KIND_NODE:
            continue
        with findings.collecting():
            wanted = read_text(member.host, EXIT_NODE)
            reason = None if wanted in (None, NO_EXIT_NODE) else _unfit(member, wanted, by_name, approvals)
            if reason is not None:
                findings.refuse(member.name, EXIT_NODE, wanted, reason)


def _unfit(member: Member, wanted: str, by_name: Mapping[str, Member], approvals: Approvals) -> Optional[str]:
    exit_node = by_name.get(wanted)
    if exit_node is None:
        return "is no member of the network"
    if exit_node is member:
        return "is the host itself; a node cannot be its own exit node"
    if exit_node.kind != KIND_NODE:
        return "is a static peer, which cannot be an exit node"
    if not exit_node.offers_exit_node:
        return f"does not offer to be an exit node; that takes group {GROUP_EXIT_NODES}"
    if not approvals.exit_node(exit_node.host):
        return f"offers to be an exit node, but {APPROVED_ROUTES} does not approve it (0.0.0.0/0 and ::/0)"
    if exit_node.public_key is None and member.host.in_play and not exit_node.host.in_play:
        return "is not in the map yet, and this run leaves it out"
    return None
