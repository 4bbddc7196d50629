# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway carries as firewalld's policies, in the words of its D-Bus interface. Pure.

Rich rules are written as firewalld itself writes them, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils._carried import EVERYTHING, Carried, collapse, without
from ansible_collections.sennit.mesh.plugins.module_utils._host import IPNetwork

WITHIN = "sennit-within"
TO_LAN = "sennit-to-lan"
FROM_LAN = "sennit-from-lan"
MASQUERADE = "sennit-nat"
NAMES = (WITHIN, TO_LAN, FROM_LAN, MASQUERADE)


def policies(carries: Carried, zone: str) -> dict[str, dict[str, Any]]:
    """The policies' settings by their names; those of NAMES that are not among them must not be there.

    zone: the mesh interface's.
    """
    found = {
        # firewalld since 1.0 lets a zone's interfaces speak to one another: a host that forwards would pass what comes
        # out of the mesh back into it.
        WITHIN: {**_policy("nothing from the mesh back into it.", [zone], [zone], -30, []), "target": "REJECT"},
        # Into any zone: firewalld does not apply a policy to interfaces that were put into no zone, the default one or
        # not. Where the traffic may go is in the rules.
        TO_LAN: _policy("from the mesh to where this host carries it.", [zone], ["ANY"], -20, to_lan_rules(carries)),
    }
    if carries.from_lan and carries.destinations:
        rules = [f'rule family="ipv{p.version}" source address="{p}" accept' for p in carries.prefixes]
        found[FROM_LAN] = _policy("from the LANs into the mesh.", ["ANY"], [zone], -20, rules)
    masquerade = masquerade_rules(carries)
    if masquerade:
        # firewalld before 2.0 refuses to masquerade from a zone that has interfaces, so this one is from any zone.
        description = "what comes from the mesh leaves with this host's address."
        found[MASQUERADE] = _policy(description, ["ANY"], ["ANY"], -10, masquerade)
    return found


def to_lan_rules(carries: Carried) -> list[str]:
    """In this order: what is behind the host is allowed, what is not the internet refused, the internet allowed."""
    rules = [f'rule priority="-2" {_destination(prefix)} accept' for prefix in carries.prefixes]
    if carries.exit_node:
        rules += [f'rule priority="-1" {_destination(prefix)} reject' for prefix in carries.not_the_internet]
        rules += [f'rule priority="1" {_destination(prefix)} accept' for prefix in EVERYTHING]
    return rules


def masquerade_rules(carries: Carried) -> list[str]:
    """For the policy from any zone: masquerade what comes from the mesh's addresses.

    Before that, whoever only pretends to have such an address is stopped: what really comes out of the mesh has been
    accepted by the other policy. (firewalld before 1.0 forwards whatever it masquerades.)
    """
    reached: Sequence[IPNetwork] = EVERYTHING if carries.exit_node else carries.prefixes
    masqueraded = collapse(reached) if carries.masquerade else without(reached, carries.prefixes)
    drop, masquerade = [], []
    for source in collapse(carries.sources):
        match = f'family="ipv{source.version}" source address="{source}"'
        for prefixes, rules, rule in (
            (collapse(reached), drop, f'rule priority="-1" {match}%s drop'),
            (masqueraded, masquerade, f"rule {match}%s masquerade"),
        ):
            for prefix in prefixes:
                if prefix.version == source.version:
                    rules.append(rule % (f' destination address="{prefix}"' if prefix.prefixlen else ""))
    return drop + masquerade if masquerade else []


def _destination(prefix: IPNetwork) -> str:
    """Everything is no address for firewalld."""
    family = f'family="ipv{prefix.version}"'
    return f'{family} destination address="{prefix}"' if prefix.prefixlen else family


def _policy(description: str, ingress: list[str], egress: list[str], priority: int, rules: list[str]) -> dict[str, Any]:
    return {
        "description": f"Sennit: {description}",
        "ingress_zones": ingress,
        "egress_zones": egress,
        "priority": priority,
        "target": "CONTINUE",
        "rich_rules": rules,
    }
