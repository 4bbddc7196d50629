#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preferences
short_description: Set what a node decides for itself
description:
  - A node's preferences say what it makes of the network map, for instance whether it takes the routes to subnets and
    through which exit node it goes.
  - The same is done on the host by C(sennit set). A preference that is not given here stays as it is.
  - A change is put on trial. It is kept when the host can be reached over a new connection with it, and otherwise the
    agent goes back to what was before.
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
      - Without an agent, the preferences of a new one are what is compared with. Whether the exit node can be one is
        not asked.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  accept_routes:
    description: Whether the node takes the routes to the networks behind subnet routers.
    type: bool
  exit_node:
    description:
      - The node through which all traffic goes that is not the mesh's. It must be in the host's network map, offer to
        be an exit node and be approved. V(none) or an empty string for none.
    type: str
  exit_node_allow_lan_access:
    description: Whether the host's own LAN stays reachable while it uses an exit node.
    type: bool
  exit_node_fail_open:
    description:
      - Whether traffic leaves by the host's own LAN when the exit node cannot carry it. Otherwise it stops.
    type: bool
  snat_subnet_routes:
    description: Whether a subnet router gives its own LAN address to what it carries into its LAN.
    type: bool
  accept_dns:
    description: Whether the host resolves names through the agent. Otherwise its resolver is left as it is.
    type: bool
  trial:
    description:
      - After how many seconds the host goes back if the change is not confirmed. In a play of more hosts than forks it
        is as much longer as the others take. V(0) makes the change at once and for good.
    type: int
    default: 60
  confirm:
    description:
      - Whether the task confirms the trial itself, over a new connection. If not, RV(trial) is for
        M(sennit.mesh.trial).
    type: bool
    default: true
  status_variable:
    description:
      - The variable in which M(sennit.mesh.status_info) was registered, if it was. A host that has these preferences
        according to it is not asked.
    type: str
    default: sennit_status
  config:
    description: The agent's configuration on the host, which says where its socket is.
    type: str
    default: /etc/sennit/agent.json
seealso:
  - module: sennit.mesh.netmap
  - module: sennit.mesh.trial
"""

EXAMPLES = r"""
- name: Go out through the office
  sennit.mesh.preferences:
    exit_node: office
    exit_node_allow_lan_access: true

- name: Go out directly again
  sennit.mesh.preferences:
    exit_node: none
"""

RETURN = r"""
preferences:
  description: All of the host's preferences, as they are now; in check mode, as they would be.
  type: dict
  returned: success
  sample:
    accept_routes: true
    exit_node: office
    exit_node_allow_lan_access: true
    exit_node_fail_open: false
    snat_subnet_routes: true
    accept_dns: true
trial:
  description: The trial that has begun, for M(sennit.mesh.trial).
  type: dict
  returned: when there is one that is not confirmed yet
reason:
  description: Why the agent refused, as a short fixed word.
  type: str
  returned: when the agent refused the preferences
  sample: exit-node-not-approved
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _arguments
from ansible_collections.sennit.mesh.plugins.module_utils._control import ask
from ansible_collections.sennit.mesh.plugins.module_utils._preferences import stated
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.preferences import Preferences, PreferencesError


def main() -> None:
    module = AnsibleModule(**_arguments.PREFERENCES, supports_check_mode=True)
    values = stated(module.params)
    try:
        live = Preferences().changed(ask(module, "preferences.get").get("preferences", {}))
        wanted = live.changed(values)
    except PreferencesError as error:
        module.fail_json(msg=str(error), reason=error.reason)
        raise
    result: dict[str, Any] = {"changed": wanted != live, "preferences": wanted.to_mapping()}
    if wanted != live:
        if module._diff:
            result["diff"] = {"before": _text(live), "after": _text(wanted)}
        if not module.check_mode:
            result.update(_set(module, values))
    module.exit_json(**result)


def _set(module: AnsibleModule, values: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"preferences": values}
    if module.params["trial"]:
        parameters["trial"] = module.params["trial"]
    answer = ask(module, "preferences.set", parameters, "the preferences")
    return {"trial": answer["trial"]} if answer.get("trial") else {}


def _text(preferences: Preferences) -> str:
    words = {True: "true", False: "false", None: "none"}
    return "".join(f"{name}: {words.get(value, value)}\n" for name, value in preferences.to_mapping().items())


if __name__ == "__main__":
    main()
