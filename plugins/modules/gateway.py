#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway
short_description: Let the mesh into the networks behind a host, or out into the internet
description:
  - Makes a host that forwards carry the mesh's traffic into the given prefixes and, as an exit node, into the internet;
    into nothing else. It is masqueraded as the host's own address there, so that answers come back by connection
    tracking, and the devices behind the host need no route to the mesh.
  - The interface behind which a prefix lies is found from the host's routes.
  - With firewalld, this is policies between the mesh's zone and the others, alive after a reload, a restart and a
    reboot. Without, it is an nftables table of Sennit's own, which a unit loads at boot.
  - The MSS of TCP connections that are forwarded into the mesh or out of it is clamped to what fits through the
    narrower of the two ways. firewalld accepts the answer to a SYN before any of its own clamping rules, and before 1.0
    it has none, so that this is in the nftables table with firewalld, too.
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
    description:
      - Whether the host carries the traffic.
      - With V(absent), all of it goes, whichever firewall it was made for.
    type: str
    choices: [present, absent]
    default: present
  destinations:
    description: The prefixes behind the host.
    type: list
    elements: str
    default: []
  sources:
    description:
      - The prefixes that the mesh's traffic comes from. Required with O(state=present).
      - firewalld needs them to tell what to masquerade, because it cannot tell it by the interface.
    type: list
    elements: str
  masquerade:
    description:
      - Whether what goes to O(destinations) leaves with the host's own address. If not, the devices there see where it
        comes from, and need a route back to the mesh.
    type: bool
    default: true
  from_lan:
    description: Whether the devices in O(destinations) may start connections into the mesh.
    type: bool
    default: false
  exit_node:
    description:
      - Whether the host carries the mesh's traffic into the internet, always masqueraded.
      - The internet is not what the host is on-link with, nor private and link-local addresses (RFC 1918, RFC 6598,
        RFC 3927, RFC 4193, RFC 4291); of these, only O(destinations) can be reached.
    type: bool
    default: false
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

- name: Carry it both ways, with everyone's own address
  sennit.mesh.gateway:
    destinations: [192.168.50.0/24, "fd50:0:0:50::/64"]
    sources: [100.64.0.0/10, "fd7a:115c:a1e0::/48", 192.168.60.0/24]
    masquerade: false
    from_lan: true

- name: Carry the mesh's traffic into the internet
  sennit.mesh.gateway:
    sources: [100.64.0.0/10, "fd7a:115c:a1e0::/48"]
    exit_node: true
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
not_the_internet:
  description: What clients of the exit node do not reach through it, unless it is one of O(destinations).
  type: list
  elements: str
  returned: with O(exit_node=true)
  sample: [10.0.0.0/8, 198.51.100.0/27, "fc00::/7"]
"""

import ipaddress
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._carried import Carried, not_the_internet
from ansible_collections.sennit.mesh.plugins.module_utils._firewalld import Firewalld, StoppedFirewalld
from ansible_collections.sennit.mesh.plugins.module_utils._host import (
    IPNetwork,
    as_root,
    firewalld_state,
    on_link_interfaces,
    routes,
)
from ansible_collections.sennit.mesh.plugins.module_utils._nftables import Nftables, clamp_rules, gateway_rules
from ansible_collections.sennit.mesh.plugins.module_utils._policies import NAMES, policies

# firewalld as the module finds it, where it should be running.
STOPPED = {"starting": "enabled, but stopped", "off": "disabled or masked", "absent": "not installed"}


class Gateway:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.backend = self._backend()
        self.differences: list[dict[str, str]] = []

    def represent(self) -> dict[str, Any]:
        return {"changed": bool(self.differences), "diff": self.differences, "backend": self.backend}

    def present(self) -> dict[str, Any]:
        parameters = self.module.params
        placed = [(prefix, self._interface(prefix)) for prefix in self._prefixes("destinations")]
        carries = Carried(
            interface=parameters["interface"],
            sources=self._prefixes("sources"),
            destinations=placed,
            masquerade=parameters["masquerade"],
            from_lan=parameters["from_lan"],
            exit_node=parameters["exit_node"],
            not_the_internet=not_the_internet(self._on_link()) if parameters["exit_node"] else [],
        )
        nftables = Nftables(self.module)
        if self.backend == "firewalld":
            firewalld = self._firewalld()
            # Only the clamping: what the whole table had from before firewalld came would forward beside it.
            nftables.present(clamp_rules(carries.interface))
            wanted = policies(carries, parameters["zone"])
            for name in NAMES:
                if name in wanted:
                    firewalld.present("policy", name, wanted[name])
                else:
                    firewalld.absent("policy", name)
            firewalld.apply()
            self.differences += firewalld.differences
        else:
            nftables.present(gateway_rules(carries))
        self.differences += nftables.differences
        result = self.represent()
        result["destinations"] = [{"prefix": str(prefix), "interface": interface} for prefix, interface in placed]
        if carries.exit_node:
            result["not_the_internet"] = [str(prefix) for prefix in carries.not_the_internet]
        return result

    def absent(self) -> dict[str, Any]:
        # A firewalld that is stopped would come back with what it has.
        firewalld = (Firewalld if self.backend == "firewalld" else StoppedFirewalld)(self.module)
        for name in NAMES:
            firewalld.absent("policy", name)
        firewalld.apply()
        self.differences += firewalld.differences
        nftables = Nftables(self.module)
        nftables.absent()
        self.differences += nftables.differences
        return self.represent()

    def _backend(self) -> str:
        wanted, state = self.module.params["backend"], firewalld_state(self.module)
        if self.module.params["state"] == "absent":
            # Whatever it was once.
            return "firewalld" if state == "running" else "nftables"
        if wanted == "auto" and state == "starting":
            self.module.fail_json(
                msg="firewalld is enabled but does not run on this host: start it, or disable it to use nftables"
            )
        if wanted == "firewalld" and state != "running":
            self.module.fail_json(msg=f"backend: firewalld: firewalld does not run on this host ({STOPPED[state]})")
        if wanted == "auto":
            return "firewalld" if state == "running" else "nftables"
        return wanted

    def _firewalld(self) -> Firewalld:
        """firewalld, if it is one that can do it."""
        firewalld = Firewalld(self.module)
        zone = self.module.params["zone"]
        if zone not in firewalld.names("zone") and not self.module.check_mode:
            self.module.fail_json(
                msg=f"zone: firewalld on this host has no zone '{zone}'; sennit.mesh.firewall makes it"
            )
        return firewalld

    def _prefixes(self, option: str) -> list[IPNetwork]:
        return [self._prefix(option, text) for text in self.module.params[option]]

    def _prefix(self, option: str, text: str) -> IPNetwork:
        try:
            return ipaddress.ip_network(text)
        except ValueError as error:
            self.module.fail_json(msg=f"{option}: {text}: {error}")

    def _on_link(self) -> list[IPNetwork]:
        """What is reached without a gateway, other than the mesh."""
        interface = self.module.params["interface"]
        found = [address.network for _name, address in on_link_interfaces(self.module, exclude=[interface])]
        for network, route in routes(self.module):
            hops = route.get("nexthops", [route])
            via_gateway = any("gateway" in hop or "via" in hop for hop in hops)
            if network is not None and not via_gateway and route.get("dev") != interface:
                found.append(network)
        return found

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
            "destinations": {"type": "list", "elements": "str", "default": []},
            "sources": {"type": "list", "elements": "str"},
            "masquerade": {"type": "bool", "default": True},
            "from_lan": {"type": "bool", "default": False},
            "exit_node": {"type": "bool", "default": False},
            "destination_interface": {"type": "str"},
            "interface": {"type": "str", "default": "sennit0"},
            "zone": {"type": "str", "default": "sennit"},
            "backend": {"type": "str", "choices": ["auto", "firewalld", "nftables"], "default": "auto"},
        },
        required_if=[("state", "present", ["sources"])],
        supports_check_mode=True,
    )
    gateway = Gateway(module)
    with as_root(module):
        module.exit_json(**(gateway.present() if module.params["state"] == "present" else gateway.absent()))


if __name__ == "__main__":
    main()
