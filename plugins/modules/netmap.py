#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netmap
short_description: Compile the inventory into a signed network map, and deliver it
description:
  - The network map (netmap) is one signed file that describes a whole Sennit network. Every node derives its peers and
    routes from it.
  - With O(state=validated) and O(state=compiled) everything happens on the control node, once for all hosts. With
    O(state=delivered) each host's agent gets the map, verifies it and follows it.
  - The members are the hosts of the inventory group C(sennit), by way of its children C(sennit_nodes),
    C(sennit_subnet_routers) and C(sennit_static_peers). Their C(sennit_*) variables are read from the inventory, and
    from extra variables; variables that a play or a role sets are not seen.
  - The only state is the newest valid netmap among those that hosts report. Addresses given out once, and public keys
    of hosts that this run does not reach, are taken from it. So a run with C(--limit) loses nobody.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
  - sennit.mesh.attributes.action
attributes:
  check_mode:
    support: full
    details:
      - A signing key that does not exist yet is made for the one task and not written, so the IPv6 prefix shown is not
        the one that will be.
      - Hosts whose agent is not installed yet are RV(pending).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(validated) checks the inventory before anything is changed on any host, and makes the signing key. Nodes that
        have no agent, and so no key, are good.
      - V(compiled) makes and signs the map. Every node that this run reaches must have its key by now, except in check
        mode.
      - V(delivered) hands RV(netmap) to the host's agent, on trial. The agent keeps it when the host can be reached
        over a new connection with it, and otherwise goes back to what it had.
    type: str
    choices: [validated, compiled, delivered]
    required: true
  netmap:
    description: The signed map in base64, as RV(netmap) returns it. Required with O(state=delivered).
    type: str
  status_variable:
    description:
      - The variable in which M(sennit.mesh.status_info) was registered on each host of the play.
      - A host of the play without it counts as not reached.
    type: str
    default: sennit_status
  agent_variable:
    description:
      - The variable in which M(sennit.mesh.agent) was registered, if it ran since. Its public key comes before that of
        O(status_variable).
    type: str
    default: sennit_agent
  beacon_variable:
    description:
      - The variable in which M(sennit.mesh.status_info) was registered, in a loop over beacons that the play leaves
        out. Their netmaps count as those of its hosts do.
    type: str
    default: sennit_beacon_status
    version_added: 0.2.0
  trial:
    description:
      - With O(state=delivered), after how many seconds the host goes back if the map is not confirmed. In a play of
        more hosts than forks it is as much longer as the others take. V(0) delivers the map at once and for good.
    type: int
    default: 60
  confirm:
    description:
      - Whether the task confirms the trial itself, over a new connection. If not, RV(trial) is for
        M(sennit.mesh.trial), with which a play keeps the map on all hosts or on none.
    type: bool
    default: true
  config:
    description: The agent's configuration on the host, which says where its socket and its map are.
    type: str
    default: /etc/sennit/agent.json
requirements:
  - netaddr and PyNaCl on the control node
notes:
  - The signing key is C(sennit_signing_key) (base64 of 32 bytes, from Ansible Vault), or else it is in the file
    C(sennit_signing_key_file) on the control node (C(~/.config/sennit/NETWORK.signing-key) by default), which is made
    on first use with mode 0600. The key is in no result.
  - An inventory that makes no network is refused with every reason at once, each with the host, the variable and the
    value, before anything is changed.
  - The DNS settings of the network, C(sennit_dns), are part of the map. A nameserver that is a node which accepts the
    network's DNS is refused, since it would ask itself. What the inventory does not state in C(sennit_accept_dns) is
    what the host's agent reports in O(status_variable), or else true.
seealso:
  - module: sennit.mesh.status_info
  - module: sennit.mesh.agent
  - module: sennit.mesh.trial
"""

EXAMPLES = r"""
- name: Read what is on the hosts
  sennit.mesh.status_info:
  register: sennit_status

- name: Refuse a bad inventory before anything changes
  sennit.mesh.netmap:
    state: validated
  run_once: true
  register: sennit_plan

# Here the agent is installed, with sennit_plan.verify_key pinned, and registered as sennit_agent.

- name: Compile and sign the netmap
  sennit.mesh.netmap:
    state: compiled
  run_once: true
  register: sennit_netmap

- name: Deliver the netmap
  sennit.mesh.netmap:
    state: delivered
    netmap: "{{ sennit_netmap.netmap }}"

- name: Keep the phone's configuration
  ansible.builtin.copy:
    content: "{{ sennit_netmap.static_peer_configs.phone }}"
    dest: phone.conf
    mode: "0600"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
netmap:
  description: The signed map, in base64.
  type: str
  returned: O(state=compiled)
version:
  description: The map's version. It grows by one when anything in the map differs from the newest map on the hosts.
  type: int
  returned: O(state=compiled) and O(state=delivered)
  sample: 7
verify_key:
  description: The public half of the signing key, in base64. Hosts pin it.
  type: str
  returned: O(state=validated) and O(state=compiled)
pools:
  description: The prefixes that the mesh's addresses are from.
  type: list
  elements: str
  returned: O(state=validated) and O(state=compiled)
  sample: [100.64.0.0/10, "fd4e:9b1c:22d0::/48"]
addresses:
  description: The mesh addresses of each member by name, IPv4 first.
  type: dict
  returned: O(state=validated) and O(state=compiled)
  sample: {"alpha": ["100.64.0.1", "fd4e:9b1c:22d0::1"]}
routes:
  description: The approved routes of each member by name, also of those that are not in the map yet.
  type: dict
  returned: O(state=validated) and O(state=compiled)
  sample: {"alpha": [], "office": ["192.168.50.0/24"]}
exit_nodes:
  description: The members that offer to be exit nodes and are approved.
  type: list
  elements: str
  returned: O(state=validated) and O(state=compiled)
left_to_beacons:
  description:
    - Hosts of the play that did not answer and need not, since the newest netmap names a beacon that did, and that will
      hand them the next one.
  type: list
  elements: str
  returned: O(state=validated) and O(state=compiled)
pending:
  description: Members that have no key yet, and so are not in the map.
  type: list
  elements: str
  returned: O(state=validated) and O(state=compiled)
static_peer_configs:
  description: For each static peer by name, its configuration for C(wg-quick), without the private key.
  type: dict
  returned: O(state=compiled)
refusals:
  description: What is wrong with the inventory.
  type: list
  elements: dict
  returned: when the inventory makes no network
  contains:
    host:
      description: The host.
      type: str
    variable:
      description: The variable, or what of the host it is about.
      type: str
    value:
      description: The value; null if it is secret or missing.
      type: raw
    reason:
      description: What is wrong with it, and who else claims it.
      type: str
trial:
  description: The trial that has begun, for M(sennit.mesh.trial).
  type: dict
  returned: O(state=delivered), when there is one that is not confirmed yet
reason:
  description: Why the agent refused the map, as a short fixed word.
  type: str
  returned: when the agent refused the map
  sample: older
"""

import base64
import binascii
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _arguments
from ansible_collections.sennit.mesh.plugins.module_utils._control import ask, configuration
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import Config
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.describe import describe
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.model import Netmap, NetmapError


class Delivery:
    """Handing one map to the agent on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.signed = self._decode(module.params["netmap"])
        try:
            self.netmap = Netmap.parse(_payload(self.signed))
        except NetmapError as error:
            module.fail_json(msg=f"what is to be delivered is no netmap: {error}", reason=error.reason)

    def delivered(self) -> dict[str, Any]:
        config = configuration(self.module)
        kept = self._kept(config) if config is not None else None
        running = self._running_version()
        result: dict[str, Any] = {
            "changed": kept != self.signed or running != self.netmap.version,
            "version": self.netmap.version,
        }
        if result["changed"] and self.module._diff:
            result["diff"] = {"before": _text(kept), "after": describe(self.netmap)}
        if result["changed"] and not self.module.check_mode:
            result.update(self._apply())
        return result

    def _decode(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            self.module.fail_json(msg="netmap is not base64")
            raise

    def _kept(self, config: Config) -> Optional[bytes]:
        try:
            with open(config.netmap_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.module.fail_json(msg=f"{config.netmap_path} cannot be read: {error.strerror}")
            raise

    def _running_version(self) -> Optional[int]:
        """The version of the map that the agent follows; None when it follows none."""
        version = ask(self.module, "status").get("netmap", {}).get("version")
        return version if isinstance(version, int) else None

    def _apply(self) -> dict[str, Any]:
        parameters: dict[str, Any] = {"netmap": base64.b64encode(self.signed).decode("ascii")}
        if self.module.params["trial"]:
            parameters["trial"] = self.module.params["trial"]
        answer = ask(self.module, "netmap.apply", parameters, f"netmap version {self.netmap.version}")
        return {"trial": answer["trial"]} if answer.get("trial") else {}


def _payload(signed: bytes) -> bytes:
    # Only to show it and to know its version: the agent, not this module, is who verifies the signature.
    return signed.partition(b"\n")[2]


def _text(kept: Optional[bytes]) -> str:
    if kept is None:
        return ""
    try:
        return describe(Netmap.parse(_payload(kept)))
    except NetmapError as error:
        return f"(not a netmap: {error})\n"


def main() -> None:
    module = AnsibleModule(**_arguments.NETMAP, supports_check_mode=True)
    if module.params["state"] != "delivered":
        module.fail_json(msg="this state is compiled on the control node, by the action plugin sennit.mesh.netmap")
    module.exit_json(**Delivery(module).delivered())


if __name__ == "__main__":
    main()
