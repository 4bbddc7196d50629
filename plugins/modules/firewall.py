#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Let the mesh through a host's firewalld
description:
  - Puts the mesh interface into a zone of its own, in which only the given services are open, and opens the agent's UDP
    port, and that of a beacon's relay, in the zones that face the underlay, as a firewalld service named C(sennit).
  - Does everything permanently and in the running firewall. A new zone or service becomes live by a reload of
    firewalld, which keeps established connections.
  - On a host on which firewalld does not run there is nothing to open, and the module changes nothing.
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
      - V(absent) removes the zone and the service.
    type: str
    choices: [present, absent]
    default: present
  interface:
    description: The mesh interface.
    type: str
    default: sennit0
  listen_port:
    description: The agent's UDP port.
    type: int
    default: 51820
  relay_port:
    description:
      - The UDP port of a beacon's relay, which is opened beside the agent's. V(0) is for a host that has none.
    type: int
    default: 0
    version_added: 0.2.0
  zone:
    description: The zone for the mesh interface.
    type: str
    default: sennit
  services:
    description: The firewalld services that the mesh may reach on this host. Ping is answered in any case.
    type: list
    elements: str
    default: [ssh]
  ports:
    description:
      - The ports that the mesh may reach on this host beside those of O(services), each as C(port/protocol).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  underlay_zones:
    description:
      - The zones in which the UDP port is opened, instead of those found. Found are the default zone and the zones of
        the interfaces that have a route with a gateway.
    type: list
    elements: str
seealso:
  - module: sennit.mesh.gateway
"""

EXAMPLES = r"""
- name: Let the mesh in, and SSH and HTTPS from the mesh
  sennit.mesh.firewall:
    services: [ssh, https]

- name: Let the mesh in on a beacon
  sennit.mesh.firewall:
    ports: [21472/tcp]
    relay_port: 21473
"""

RETURN = r"""
backend:
  description: V(firewalld), or V(none) when it does not run.
  type: str
  returned: always
underlay_zones:
  description: The zones in which the UDP port is open.
  type: list
  elements: str
  returned: with firewalld and O(state=present)
  sample: [public]
"""

from typing import Any, Union

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._firewalld import Firewalld, StoppedFirewalld
from ansible_collections.sennit.mesh.plugins.module_utils._host import firewalld_state, gateway_interfaces

SERVICE = "sennit"
PROTOCOLS = ("tcp", "udp", "sctp", "dccp")


class Firewall:
    def __init__(self, module: AnsibleModule, firewalld: Union[Firewalld, StoppedFirewalld]) -> None:
        self.module = module
        self.firewalld = firewalld

    def represent(self) -> dict[str, Any]:
        differences = self.firewalld.differences
        return {"changed": bool(differences), "diff": differences}

    def present(self) -> dict[str, Any]:
        parameters = self.module.params
        underlay = parameters["underlay_zones"]
        if underlay is None:
            underlay = self._underlay_zones()
        self._check_names(underlay, parameters["services"])
        ports = [self._port(port) for port in parameters["ports"]]
        udp_ports = [parameters["listen_port"], *([parameters["relay_port"]] if parameters["relay_port"] else [])]
        self.firewalld.present(
            "service",
            SERVICE,
            {
                "short": "Sennit",
                "description": "The encrypted packets of the mesh (WireGuard).",
                "ports": [(str(port), "udp") for port in udp_ports],
            },
        )
        self.firewalld.present(
            "zone",
            parameters["zone"],
            {
                "short": "Sennit",
                "description": "What comes out of the mesh.",
                "target": "default",
                "interfaces": [parameters["interface"]],
                "services": parameters["services"],
                "ports": ports,
            },
        )
        for zone in self.firewalld.names("zone"):
            if zone != parameters["zone"]:
                self.firewalld.service_in_zone(zone, SERVICE, zone in underlay)
        self.firewalld.apply()
        return {**self.represent(), "backend": "firewalld", "underlay_zones": underlay}

    def absent(self) -> dict[str, Any]:
        for zone in self.firewalld.names("zone"):
            self.firewalld.service_in_zone(zone, SERVICE, False)
        self.firewalld.absent("zone", self.module.params["zone"])
        self.firewalld.absent("service", SERVICE)
        self.firewalld.apply()
        return self.represent()

    def _underlay_zones(self) -> list[str]:
        gateways = gateway_interfaces(self.module) - {self.module.params["interface"]}
        return sorted({self.firewalld.default_zone(), *(self.firewalld.zone_of(name) for name in gateways)})

    def _port(self, text: str) -> tuple[str, str]:
        number, _slash, protocol = text.partition("/")
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536 and protocol in PROTOCOLS):
            self.module.fail_json(msg=f"ports: '{text}' is no port and protocol, as 21472/tcp is")
        return number, protocol

    def _check_names(self, zones: list[str], services: list[str]) -> None:
        for option, kind, names in (("underlay_zones", "zone", zones), ("services", "service", services)):
            unknown = sorted(set(names) - set(self.firewalld.names(kind)) - {SERVICE})
            if unknown:
                self.module.fail_json(msg=f"{option}: firewalld on this host has no {kind} '{unknown[0]}'")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "interface": {"type": "str", "default": "sennit0"},
            "listen_port": {"type": "int", "default": 51820},
            "relay_port": {"type": "int", "default": 0},
            "zone": {"type": "str", "default": "sennit"},
            "services": {"type": "list", "elements": "str", "default": ["ssh"]},
            "ports": {"type": "list", "elements": "str", "default": []},
            "underlay_zones": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    state = firewalld_state(module)
    if module.params["state"] == "absent":
        firewalld = Firewalld(module) if state == "running" else StoppedFirewalld(module)
        module.exit_json(**Firewall(module, firewalld).absent(), backend="firewalld" if state == "running" else "none")
    if state == "starting":
        module.warn(
            "firewalld is enabled but does not run on this host; once it runs, it stops the mesh until the next play"
        )
    if state != "running":
        module.exit_json(changed=False, backend="none")
    module.exit_json(**Firewall(module, Firewalld(module)).present())


if __name__ == "__main__":
    main()
