#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Tell what Sennit is on a host
description:
  - Tells whether the agent is installed, which version, key and netmap it has, what its service does, and what the host
    offers it (its own networks, missing libraries, the firewall).
  - Reads only.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Changes nothing.
  idempotent:
    support: full
options:
  interface:
    description: The mesh interface, which is left out of RV(underlay).
    type: str
    default: sennit0
  libraries:
    description:
      - Further Python libraries, by their import name, to look for besides those that the agent needs
        (RV(missing_libraries)).
    type: list
    elements: str
    default: []
  measure_rtt:
    description:
      - To which peers the round-trip time is measured, by one ICMP echo through the mesh. It is C(rtt) of each of the
        peers in RV(agent), in seconds, and null where none is measured.
      - V(sessions) measures it to those with which there is a session, and takes up to one second. V(nodes) begins
        sessions with all nodes first, and takes some seconds more if one of them does not answer.
    type: str
    choices: [none, sessions, nodes]
    default: none
seealso:
  - module: sennit.mesh.agent
"""

EXAMPLES = r"""
- name: See what is on the host
  sennit.mesh.status_info:
  register: sennit_status

- name: Show each peer and when it was last heard
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.latest_handshake }}"
  loop: "{{ sennit_status.agent.peers }}"
  when: sennit_status.agent is not none

- name: See how fast the peers answer
  sennit.mesh.status_info:
    measure_rtt: sessions
  register: sennit_status
"""

RETURN = r"""
installed:
  description: Whether the agent's code is on the host.
  type: bool
  returned: always
version:
  description: The installed code's version.
  type: str
  returned: always, null when not installed
  sample: 0.1.0
public_key:
  description: The node's WireGuard public key, in base64.
  type: str
  returned: always, null when there is no key yet
network:
  description: The network that the host belongs to.
  type: str
  returned: always, null when not configured
  sample: demo
signing_key:
  description: The Ed25519 public key that the host has pinned, in base64.
  type: str
  returned: always, null when not configured
netmap:
  description: The signed netmap that the host keeps, in base64.
  type: str
  returned: always, null when there is none
underlay:
  description: The host's own addresses with their on-link prefix, without loopback, link-local ones and the mesh.
  type: list
  elements: dict
  returned: always
  contains:
    interface:
      description: Where the address is.
      type: str
      sample: eth0
    address:
      description: The address.
      type: str
      sample: 198.51.100.10
    prefix:
      description: The prefix that is on-link by it.
      type: str
      sample: 198.51.100.0/27
connection_address:
  description: The host's own address that this very connection has come to.
  type: str
  returned: always, null when it is no SSH connection
  sample: 198.51.100.10
missing_libraries:
  description:
    - Python libraries that the agent needs, or O(libraries), that the host's own Python has not, by their import name.
  type: list
  elements: str
  returned: always
  sample: [nacl]
os_family:
  description: The distribution's family, as package names go.
  type: str
  returned: always
  sample: debian
service:
  description: The agent's service.
  type: dict
  returned: always
  contains:
    enabled:
      description: Whether it starts at boot.
      type: bool
    active:
      description: Whether it runs now.
      type: bool
    outdated:
      description: Whether it runs with code, configuration or a unit older than those on the host.
      type: bool
firewall:
  description: The host's firewall.
  type: dict
  returned: always
  contains:
    firewalld:
      description: V(running), V(starting) (enabled but not running), V(off) (disabled or masked) or V(absent).
      type: str
    version:
      description: The running firewalld's version; null if it does not run, or cannot be asked.
      type: str
    nftables:
      description: Whether the command C(nft) is there.
      type: bool
forwarding:
  description: Whether the host forwards, and may be told to.
  type: dict
  returned: always
  contains:
    enabled:
      description: Whether the kernel forwards IPv4 and IPv6 (if it has IPv6).
      type: bool
    settable:
      description: Whether the kernel's parameters can be written; in a container, they often cannot.
      type: bool
agent:
  description: What the running agent says of itself, as C(sennit status --json --no-rtt).
  type: dict
  returned: always, null when no agent answers
"""

import base64
import importlib.util
import os
import re
import sys
import time
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _agent_files as agent_files
from ansible_collections.sennit.mesh.plugins.module_utils._firewalld import running_version
from ansible_collections.sennit.mesh.plugins.module_utils._host import (
    as_root,
    firewalld_state,
    on_link_interfaces,
    read_text,
)
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.diagnostics.rtt import measure, wake

FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
LIBRARIES = ("nacl", "cryptography", "pyroute2", "dns", "tabulate")

# Prints the names, of those given, that the Python running it cannot import.
_PROBE = "import importlib.util, sys; print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n) is None])"


class StatusInfo:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def represent(self) -> dict[str, Any]:
        status = agent_files.agent_status()
        service = agent_files.service_state(self.module)
        config = agent_files.installed_config()
        version = agent_files.installed_version()
        firewalld = firewalld_state(self.module)
        return {
            "installed": version is not None,
            "version": version,
            "public_key": agent_files.public_key(self.module, status, service["outdated"]),
            "network": config.get("network"),
            "signing_key": config.get("signing_key"),
            "netmap": self._netmap(),
            "underlay": self._underlay(),
            "connection_address": self._connection_address(),
            "missing_libraries": self._missing_libraries(),
            "os_family": self._os_family(),
            "service": service,
            "firewall": {
                "firewalld": firewalld,
                "version": running_version() if firewalld == "running" else None,
                "nftables": self.module.get_bin_path("nft", opt_dirs=["/usr/sbin", "/sbin"]) is not None,
            },
            "forwarding": self._forwarding(),
            "agent": self._measured(status) if status else None,
        }

    def _measured(self, status: dict[str, Any]) -> dict[str, Any]:
        whom = self.module.params["measure_rtt"]
        try:
            if whom == "nodes":
                wake(status, time.time())
                status = agent_files.agent_status() or status
            if whom != "none":
                status = measure(status, time.time())
        except OSError as error:
            self.module.warn(f"round-trip times are not measured: {error.strerror}")
        return status

    def _netmap(self) -> Optional[str]:
        try:
            with open(agent_files.NETMAP, "rb") as file:
                return base64.b64encode(file.read()).decode()
        except FileNotFoundError:
            return None

    def _underlay(self) -> list[dict[str, str]]:
        return [
            {"interface": name, "address": str(address.ip), "prefix": str(address.network)}
            for name, address in on_link_interfaces(self.module, exclude=[self.module.params["interface"]])
        ]

    def _connection_address(self) -> Optional[str]:
        """From the environment of the session's processes; sudo clears our own."""
        process = os.getpid()
        while process > 1:
            with open(f"/proc/{process}/environ", "rb") as file:
                match = re.search(rb"(?:^|\0)SSH_CONNECTION=\S+ \d+ ([^\s%]+)\S* \d+", file.read())
            if match:
                return match.group(1).decode("ascii", "replace")
            with open(f"/proc/{process}/stat", "rb") as file:
                # The second field is a name in parentheses, which may hold anything.
                process = int(file.read().rpartition(b")")[2].split()[1])
        return None

    def _forwarding(self) -> dict[str, bool]:
        there = [path for path in FORWARDING if os.path.exists(path)]
        return {
            "enabled": all((read_text(path) or "").strip() == "1" for path in there),
            "settable": all(os.access(path, os.W_OK) for path in there),
        }

    def _missing_libraries(self) -> list[str]:
        libraries = [*LIBRARIES, *self.module.params["libraries"]]
        # In a virtual environment, the libraries are others.
        if sys.prefix == sys.base_prefix and os.path.realpath(sys.executable) == os.path.realpath(agent_files.PYTHON):
            return [name for name in libraries if importlib.util.find_spec(name) is None]
        code, out, err = self.module.run_command([agent_files.PYTHON, "-I", "-c", _PROBE, *libraries])
        if code != 0:
            self.module.fail_json(msg=f"the agent needs {agent_files.PYTHON} on the host: {err.strip()}")
        return out.split()

    def _os_family(self) -> str:
        """ID of os-release(5), or the first of ID_LIKE that is a family."""
        lines = (read_text("/etc/os-release") or read_text("/usr/lib/os-release") or "").splitlines()
        release = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
        names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
        families = {"debian": "debian", "ubuntu": "debian", "rhel": "rhel", "fedora": "rhel", "centos": "rhel"}
        return next((families[name] for name in names if name in families), names[0])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "default": "sennit0"},
            "libraries": {"type": "list", "elements": "str", "default": []},
            "measure_rtt": {"type": "str", "choices": ["none", "sessions", "nodes"], "default": "none"},
        },
        supports_check_mode=True,
    )
    with as_root(module):
        module.exit_json(changed=False, **StatusInfo(module).represent())


if __name__ == "__main__":
    main()
