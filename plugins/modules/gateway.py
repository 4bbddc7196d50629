#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway
short_description: Let the mesh into the networks behind a host
description:
  - Makes a host that forwards carry traffic from the mesh into the given prefixes, and into nothing else, masqueraded
    as the host's own address there. Answers come back by connection tracking, so the devices behind the host need no
    route to the mesh.
  - The interface behind which a prefix lies is found from the host's routes.
  - With firewalld, this is two policies on what comes out of the mesh's zone, alive after a reload, a restart and a
    reboot. Without, it is an nftables table of Sennit's own, which a unit loads at boot.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: Whether the host carries the traffic.
    type: str
    choices: [present, absent]
    default: present
  destinations:
    description: The prefixes behind the host. Required with O(state=present).
    type: list
    elements: str
  sources:
    description:
      - The prefixes that the mesh's addresses are from. Required with O(state=present).
      - firewalld needs them to tell what to masquerade, because it cannot tell it by the interface.
    type: list
    elements: str
  destination_interface:
    description: The interface behind which all O(destinations) are, instead of the one found for each.
    type: str
  interface:
    description: The mesh interface.
    type: str
    default: sennit0
  zone:
    description: The firewalld zone of the mesh interface, as M(sennit.mesh.firewall) makes it.
    type: str
    default: sennit
  backend:
    description:
      - V(auto) is firewalld where it runs, and nftables where it is disabled, masked or not installed. Where it is
        enabled but does not run, the module fails, for with the next boot the host would be another.
    type: str
    choices: [auto, firewalld, nftables]
    default: auto
seealso:
  - module: sennit.mesh.forwarding
  - module: sennit.mesh.firewall
"""

EXAMPLES = r"""
- name: Carry the mesh's traffic into the office
  sennit.mesh.gateway:
    destinations: [192.168.50.0/24, "fd50:0:0:50::/64"]
    sources: [100.64.0.0/10, "fd7a:115c:a1e0::/48"]
"""

RETURN = r"""
backend:
  description: V(firewalld) or V(nftables).
  type: str
  returned: always
destinations:
  description: Where each prefix lies.
  type: list
  elements: dict
  returned: with O(state=present)
  contains:
    prefix:
      description: The prefix.
      type: str
      sample: 192.168.50.0/24
    interface:
      description: The interface behind which it is.
      type: str
      sample: eth1
"""

import ipaddress
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._firewalld import Firewalld
from ansible_collections.sennit.mesh.plugins.module_utils._host import IPNetwork, firewalld_state, routes
from ansible_collections.sennit.mesh.plugins.module_utils._nftables import Nftables

ACCEPT_POLICY = "sennit-to-lan"
MASQUERADE_POLICY = "sennit-nat"


def accept_rules(destinations: list[IPNetwork]) -> list[str]:
    """Rich rules as firewalld itself writes them, so that they can be compared."""
    return [f'rule family="ipv{d.version}" destination address="{d}" accept' for d in destinations]


def masquerade_rules(sources: list[IPNetwork], destinations: list[IPNetwork]) -> list[str]:
    """For the policy from any zone: masquerade what comes from the mesh's addresses.

    The first rule of each pair stops who only pretends to have such an address: what really comes out of the mesh has
    been accepted by the other policy before. (firewalld before 1.0 forwards whatever it masquerades.)
    """
    found = []
    for source in sources:
        for destination in destinations:
            if source.version == destination.version:
                match = f'family="ipv{source.version}" source address="{source}" destination address="{destination}"'
                found.append(f'rule priority="-1" {match} drop')
                found.append(f"rule {match} masquerade")
    return found


class Gateway:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.backend = module.params["backend"]
        if self.backend == "auto":
            self.backend = self._detect()

    def present(self) -> dict[str, Any]:
        destinations = [self._prefix("destinations", text) for text in self.module.params["destinations"]]
        sources = [self._prefix("sources", text) for text in self.module.params["sources"]]
        placed = [(prefix, self._interface(prefix)) for prefix in destinations]
        differences = (
            self._firewalld_present(destinations, sources)
            if self.backend == "firewalld"
            else self._nftables_present([(str(prefix), interface) for prefix, interface in placed])
        )
        return {
            "changed": bool(differences),
            "diff": differences,
            "backend": self.backend,
            "destinations": [{"prefix": str(prefix), "interface": interface} for prefix, interface in placed],
        }

    def absent(self) -> dict[str, Any]:
        differences: list[dict[str, str]] = []
        if self.backend == "firewalld":
            differences += self._firewalld_absent()
        nftables = Nftables(self.module)
        nftables.absent()
        differences += nftables.differences
        return {"changed": bool(differences), "diff": differences, "backend": self.backend}

    def _detect(self) -> str:
        state = firewalld_state(self.module)
        if state == "starting":
            self.module.fail_json(
                msg="firewalld is enabled but does not run on this host: start it, or disable it to use nftables"
            )
        return "firewalld" if state == "running" else "nftables"

    def _firewalld_present(self, prefixes: list[IPNetwork], sources: list[IPNetwork]) -> list[dict[str, str]]:
        firewalld = Firewalld(self.module)
        zone = self.module.params["zone"]
        if zone not in firewalld.names("zone") and not self.module.check_mode:
            self.module.fail_json(
                msg=f"zone: firewalld on this host has no zone '{zone}'; sennit.mesh.firewall makes it"
            )
        # Into any zone: firewalld does not apply a policy to interfaces that were put into no zone, the default one or
        # not. Where the traffic may go is in the rules.
        firewalld.present(
            "policy",
            ACCEPT_POLICY,
            {
                "description": "Sennit: from the mesh into the networks that this host advertises.",
                "ingress_zones": [zone],
                "egress_zones": ["ANY"],
                "priority": -20,
                "target": "CONTINUE",
                "rich_rules": accept_rules(prefixes),
            },
        )
        # firewalld before 2.0 refuses to masquerade from a zone that has interfaces, so this one is from any zone.
        firewalld.present(
            "policy",
            MASQUERADE_POLICY,
            {
                "description": "Sennit: what comes from the mesh leaves with this host's address.",
                "ingress_zones": ["ANY"],
                "egress_zones": ["ANY"],
                "priority": -10,
                "target": "CONTINUE",
                "rich_rules": masquerade_rules(sources, prefixes),
            },
        )
        firewalld.apply()
        # What nftables had from before firewalld came would forward beside it.
        nftables = Nftables(self.module)
        nftables.absent()
        return firewalld.differences + nftables.differences

    def _firewalld_absent(self) -> list[dict[str, str]]:
        firewalld = Firewalld(self.module)
        firewalld.absent("policy", ACCEPT_POLICY)
        firewalld.absent("policy", MASQUERADE_POLICY)
        firewalld.apply()
        return firewalld.differences

    def _nftables_present(self, placed: list[tuple[str, str]]) -> list[dict[str, str]]:
        nftables = Nftables(self.module)
        nftables.present(self.module.params["interface"], placed)
        return nftables.differences

    def _prefix(self, option: str, text: str) -> IPNetwork:
        try:
            return ipaddress.ip_network(text)
        except ValueError as error:
            self.module.fail_json(msg=f"{option}: {text}: {error}")

    def _interface(self, prefix: IPNetwork) -> str:
        """The interface of the longest route that covers the prefix; a default route covers nothing."""
        given = self.module.params["destination_interface"]
        if given:
            if not os.path.isdir(f"/sys/class/net/{given}"):
                self.module.fail_json(msg=f"destination_interface: this host has no interface '{given}'")
            return given
        covering = [
            (network.prefixlen, route["dev"])
            for network, route in routes(self.module)
            if network is not None
            and network.version == prefix.version
            and "dev" in route
            and route["dev"] != self.module.params["interface"]
            and prefix.subnet_of(network)  # type: ignore[arg-type]
        ]
        if not covering:
            self.module.fail_json(
                msg=f"destinations: {prefix}: this host has no route to it but its default route, so it cannot be"
                " behind this host (destination_interface overrides this)"
            )
        return max(covering)[1]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "destinations": {"type": "list", "elements": "str"},
            "sources": {"type": "list", "elements": "str"},
            "destination_interface": {"type": "str"},
            "interface": {"type": "str", "default": "sennit0"},
            "zone": {"type": "str", "default": "sennit"},
            "backend": {"type": "str", "choices": ["auto", "firewalld", "nftables"], "default": "auto"},
        },
        required_if=[("state", "present", ["destinations", "sources"])],
        supports_check_mode=True,
    )
    gateway = Gateway(module)
    module.exit_json(**(gateway.present() if module.params["state"] == "present" else gateway.absent()))


if __name__ == "__main__":
    main()
