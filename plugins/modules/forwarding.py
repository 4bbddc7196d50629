#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: forwarding
short_description: Let a host forward IPv4 and IPv6
description:
  - Sets the kernel's forwarding parameters now and for every boot, in a file of Sennit's own below C(/etc/sysctl.d),
    which also says what they were before.
  - A host that forwards IPv6 no longer listens to router advertisements, and loses its own default route when it has
    one by them. On every interface where the kernel takes a route by router advertisement, C(accept_ra) is therefore
    set to V(2). Where systemd-networkd or NetworkManager handle the advertisements, the kernel does not, and nothing is
    set.
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
      - V(present) lets the host forward.
      - V(absent) removes the file, and puts back what the parameters were before.
    type: str
    choices: [present, absent]
    default: present
  restore:
    description:
      - With O(state=absent), whether the running kernel's parameters that this module has changed are put back to what
        they were. A parameter that somebody has changed since is left alone, and one that another file of C(sysctl.d)
        sets gets its value from there.
      - V(false) is for a host where something else has come to rely on forwarding meanwhile, without setting it itself.
    type: bool
    default: true
  accept_ra_interfaces:
    description: The interfaces to set C(accept_ra) to V(2) on, instead of those found.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Let the host forward
  sennit.mesh.forwarding:

- name: The same, with the uplink named
  sennit.mesh.forwarding:
    accept_ra_interfaces: [eth0]

- name: Let the host be as it was before
  sennit.mesh.forwarding:
    state: absent
"""

RETURN = r"""
sysctls:
  description: The parameters that the module manages on this host, with their values.
  type: dict
  returned: with O(state=present)
  sample:
    net.ipv4.ip_forward: "1"
    net.ipv6.conf.all.forwarding: "1"
    net.ipv6.conf.eth0.accept_ra: "2"
"""

import os
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _sysctl as sysctl
from ansible_collections.sennit.mesh.plugins.module_utils._host import as_root, ip_json

PATH = "/etc/sysctl.d/60-sennit.conf"
HEADER = "# Written by Ansible (sennit.mesh.forwarding): this host forwards for a mesh.\n"


class Forwarding:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.file = sysctl.SysctlFile(module, PATH, HEADER)

    def represent(self) -> dict[str, Any]:
        return {"changed": bool(self.file.differences), "diff": self.file.differences}

    def present(self) -> dict[str, Any]:
        wanted = self._wanted()
        self.file.present(wanted)
        return {**self.represent(), "sysctls": wanted}

    def absent(self) -> dict[str, Any]:
        self.file.absent(self.module.params["restore"])
        return self.represent()

    def _wanted(self) -> dict[str, str]:
        wanted = {"net.ipv4.ip_forward": "1"}
        if not os.path.isdir(sysctl.PROC + "net/ipv6/conf"):
            self.module.warn("this host's kernel has no IPv6, so only IPv4 is forwarded")
            return wanted
        # Before forwarding: the moment it is on, the kernel drops what it has learnt where accept_ra is 1.
        interfaces = self._router_advertised()
        accept = {f"net.ipv6.conf.{name.replace('.', '/')}.accept_ra": "2" for name in interfaces}
        return {**accept, **wanted, "net.ipv6.conf.all.forwarding": "1"}

    def _router_advertised(self) -> list[str]:
        given: Optional[list[str]] = self.module.params["accept_ra_interfaces"]
        if given is not None:
            for name in given:
                if not os.path.isdir(f"{sysctl.PROC}net/ipv6/conf/{name}"):
                    self.module.fail_json(msg=f"accept_ra_interfaces: this host has no interface '{name}'")
            return sorted(given)
        routes = ip_json(self.module, "-6", "route", "show", "table", "main", "proto", "ra")
        found = {route["dev"] for route in routes if "dev" in route}
        # An interface of ours stays, also while its router happens to be silent.
        for key in self.file.settings():
            if key.endswith(".accept_ra"):
                found.add(key.split(".")[3].replace("/", "."))
        # 0: someone else listens to the advertisements, and the kernel must go on not to.
        return sorted(name for name in found if self._accept_ra(name) in ("1", "2"))

    def _accept_ra(self, interface: str) -> Optional[str]:
        return sysctl.read(f"net.ipv6.conf.{interface.replace('.', '/')}.accept_ra")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "restore": {"type": "bool", "default": True},
            "accept_ra_interfaces": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    forwarding = Forwarding(module)
    with as_root(module):
        module.exit_json(**(forwarding.present() if module.params["state"] == "present" else forwarding.absent()))


if __name__ == "__main__":
    main()
