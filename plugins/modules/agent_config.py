#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_config
short_description: Configure the Sennit agent
description:
  - Writes C(/etc/sennit/agent.json), which tells the agent its network, the key that its netmap must be signed with,
    and the numbers that it takes on the host. Everything else comes with the netmap.
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
    description: Whether the configuration is there.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: The network's name. Required with O(state=present).
    type: str
  signing_key:
    description:
      - The Ed25519 public key, in base64, that every netmap must be signed with; the host pins it. Required with
        O(state=present).
    type: str
  interface:
    description: The mesh interface's name.
    type: str
    default: sennit0
  listen_port:
    description: The UDP port; V(0) lets the kernel choose.
    type: int
    default: 51820
  mtu:
    description:
      - The mesh interface's MTU in bytes.
      - >-
        V(1280) is the least that IPv6 runs on, and fits into every underlay, directly and by a relay, without
        fragments. Where all paths carry 1500 bytes, V(1420) makes the most of them.
    type: int
    default: 1280
  fwmark:
    description: The mark of the agent's own packets, which keeps them out of the tunnel.
    type: int
    default: 21472
  table:
    description: The agent's routing table.
    type: int
    default: 21472
  rule_priority:
    description: The priority of the agent's first routing rule.
    type: int
    default: 5200
  datapath:
    description:
      - Where the packets of the mesh are encrypted. V(kernel) is the kernel's own WireGuard, V(userspace) the agent's,
        which works on every kernel. V(auto) takes the kernel's where there is one.
      - A change takes effect when the agent is restarted. The host keeps its addresses.
    type: str
    choices: [auto, kernel, userspace]
    default: auto
    version_added: 0.2.0
  netmap_url:
    description:
      - An HTTP or HTTPS URL at which the newest signed netmap is, for instance in an object store. The agent looks
        there every five minutes. If empty, it does not.
    type: str
    default: ""
    version_added: 0.2.0
  relay_port:
    description:
      - The UDP port of the relay, if the host is a beacon. V(0) makes it a beacon that does not relay.
    type: int
    default: 21473
    version_added: 0.2.0
  relay_rate:
    description: How much the relay forwards of each node, in bit/s.
    type: int
    default: 100000000
    version_added: 0.2.0
seealso:
  - module: sennit.mesh.agent
"""

EXAMPLES = r"""
- name: Configure the agent
  sennit.mesh.agent_config:
    network: demo
    signing_key: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=

- name: Configure the agent of a host whose kernel must have WireGuard
  sennit.mesh.agent_config:
    network: demo
    signing_key: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    datapath: kernel
"""

RETURN = r"""
config:
  description: The configuration as written.
  type: dict
  returned: with O(state=present)
  sample: {network: demo, listen_port: 51820}
"""

import dataclasses
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._agent_files import CONFIG
from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, as_root
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import Config, ConfigError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "network": {"type": "str"},
            # The public half.
            "signing_key": {"type": "str", "no_log": False},
            "interface": {"type": "str", "default": "sennit0"},
            "listen_port": {"type": "int", "default": 51820},
            "mtu": {"type": "int", "default": 1280},
            "fwmark": {"type": "int", "default": 21472},
            "table": {"type": "int", "default": 21472},
            "rule_priority": {"type": "int", "default": 5200},
            "datapath": {"type": "str", "choices": ["auto", "kernel", "userspace"], "default": "auto"},
            "netmap_url": {"type": "str", "default": ""},
            "relay_port": {"type": "int", "default": 21473},
            "relay_rate": {"type": "int", "default": 100_000_000},
        },
        required_if=[("state", "present", ["network", "signing_key"])],
        supports_check_mode=True,
    )
    # The netmap's path and the socket tell who is where on the host: not for everyone to read.
    file = ManagedFile(module, CONFIG, 0o600)
    values = dict(module.params)
    if values.pop("state") == "absent":
        with as_root(module):
            difference = file.absent(directory=True)
        module.exit_json(changed=difference is not None, diff=difference or {})
    try:
        config = dataclasses.asdict(Config.from_mapping(values, CONFIG))
    except ConfigError as error:
        module.fail_json(msg=str(error))
    with as_root(module):
        difference = file.present(json.dumps(config, indent=2) + "\n")
    module.exit_json(changed=difference is not None, diff=difference or {}, config=config)


if __name__ == "__main__":
    main()
