#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: forwarding
short_description: Let a host forward IPv4 and IPv6
description:
  - Sets the kernel's forwarding parameters now and for every boot, in a file of Sennit's own below C(/etc/sysctl.d).
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
      - V(absent) removes the file. The running kernel's values stay, because others may rely on them by now.
    type: str
    choices: [present, absent]
    default: present
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
import re
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, ip_json, read_text

PATH = "/etc/sysctl.d/60-sennit.conf"
HEADER = "# Written by Ansible (sennit.mesh.forwarding): this host forwards for a mesh.\n"
PROC = "/proc/sys/"
# In the order of sysctl.d(5): a file of the same name in an earlier directory hides the later one.
DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
LINE = re.compile(r"^\s*-?\s*([^#;=\s]+)\s*=\s*(.*?)\s*$")


def proc_path(key: str) -> str:
    """Where the kernel has the parameter. Dots part a key; a slash in it stands for a dot in a name (sysctl.d(5))."""
    return PROC + key.translate(str.maketrans("./", "/."))


def canonical(key: str) -> str:
    """A key as this module writes it; keys that begin with a slash-parted word are the other way round."""
    separator = re.search(r"[./]", key)
    return key.translate(str.maketrans("./", "/.")) if separator and separator.group() == "/" else key


def parse(text: str) -> dict[str, str]:
    """The settings of a sysctl.d file, the last one of a key."""
    matches = (LINE.match(line) for line in text.splitlines())
    return {canonical(match.group(1)): match.group(2) for match in matches if match}


class Forwarding:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.file = ManagedFile(module, PATH, 0o644)

    def present(self) -> dict[str, Any]:
        wanted = self._wanted()
        live = {key: self._read(key) for key in wanted}
        content = HEADER + "".join(f"{key} = {value}\n" for key, value in wanted.items())
        differences = []
        wrong = {key: value for key, value in wanted.items() if live[key] != value}
        if wrong:
            differences.append(
                {
                    "before_header": "running kernel",
                    "after_header": "running kernel",
                    "before": "".join(f"{key} = {live[key]}\n" for key in wrong),
                    "after": "".join(f"{key} = {value}\n" for key, value in wrong.items()),
                }
            )
        if not self.module.check_mode:
            self._apply(wrong, live)
        difference = self.file.present(content)
        if difference is not None:
            differences.append(difference)
        self._warn_of_overrides(wanted)
        return {"changed": bool(differences), "diff": differences, "sysctls": wanted}

    def absent(self) -> dict[str, Any]:
        difference = self.file.absent()
        return {"changed": difference is not None, "diff": [difference] if difference else []}

    def _wanted(self) -> dict[str, str]:
        wanted = {"net.ipv4.ip_forward": "1"}
        if not os.path.isdir(PROC + "net/ipv6/conf"):
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
                if not os.path.isdir(f"{PROC}net/ipv6/conf/{name}"):
                    self.module.fail_json(msg=f"accept_ra_interfaces: this host has no interface '{name}'")
            return sorted(given)
        routes = ip_json(self.module, "-6", "route", "show", "table", "main", "proto", "ra")
        found = {route["dev"] for route in routes if "dev" in route}
        # An interface of ours stays, also while its router happens to be silent.
        for key in parse(read_text(PATH) or ""):
            if key.endswith(".accept_ra"):
                found.add(key.split(".")[3].replace("/", "."))
        # 0: someone else listens to the advertisements, and the kernel must go on not to.
        return sorted(name for name in found if self._accept_ra(name) in ("1", "2"))

    def _accept_ra(self, interface: str) -> Optional[str]:
        text = read_text(f"{PROC}net/ipv6/conf/{interface}/accept_ra")
        return text.strip() if text is not None else None

    def _read(self, key: str) -> str:
        text = read_text(proc_path(key))
        if text is None:
            self.module.fail_json(msg=f"this host's kernel has no parameter {key} ({proc_path(key)})")
        return text.strip()

    def _apply(self, wrong: dict[str, str], live: dict[str, str]) -> None:
        """All or nothing: a parameter that the kernel refuses takes back those set before it."""
        done: list[str] = []
        for key, value in wrong.items():
            try:
                self._write(key, value)
            except OSError as error:
                for earlier in reversed(done):
                    self._write(earlier, live[earlier])
                self.module.fail_json(
                    msg=f"the kernel refused {key} = {value}: {error.strerror} ({proc_path(key)}; it is {live[key]})."
                    " In a container, the container's own configuration has to set it. Nothing was changed."
                )
            done.append(key)

    def _write(self, key: str, value: str) -> None:
        with open(proc_path(key), "w", encoding="ascii") as file:
            file.write(value)

    def _warn_of_overrides(self, wanted: dict[str, str]) -> None:
        """Another file that is read after ours undoes it at the next boot."""
        files: dict[str, str] = {}
        for directory in DIRECTORIES:
            if os.path.isdir(directory):
                for name in os.listdir(directory):
                    files.setdefault(name, os.path.join(directory, name))
        for name in sorted(files):
            if name <= os.path.basename(PATH) or not name.endswith(".conf"):
                continue
            for key, value in parse(read_text(files[name]) or "").items():
                if wanted.get(key, value) != value:
                    self.module.warn(f"{files[name]} sets {key} = {value} after {PATH}: it wins at the next boot")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "accept_ra_interfaces": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    forwarding = Forwarding(module)
    module.exit_json(**(forwarding.present() if module.params["state"] == "present" else forwarding.absent()))


if __name__ == "__main__":
    main()
