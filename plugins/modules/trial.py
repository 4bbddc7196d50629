#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: trial
short_description: Keep what was changed on trial, if the host can still be reached
description:
  - M(sennit.mesh.netmap) and M(sennit.mesh.preferences) change a host on trial. The agent goes back by itself to what
    was before, unless the trial is confirmed in time.
  - With their O(sennit.mesh.preferences#module:confirm) they confirm it themselves, over a new connection to that host.
    This module does it for a whole play, in two steps, so that either all hosts keep the change or none does.
  - With O(state=reached) a new connection is made, and the task fails if that is not possible. Run it on all hosts with
    C(any_errors_fatal), so that the second step, O(state=confirmed), comes only if every host could be reached.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
  - sennit.mesh.attributes.action
attributes:
  check_mode:
    support: full
    details: In check mode nothing is put on trial.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(reached) resets the connection and looks, over a new one, whether the trial still runs. It changes nothing.
      - V(confirmed) makes what is on trial the host's for good.
    type: str
    choices: [reached, confirmed]
    required: true
  trial:
    description:
      - What the task that began the trial returned as C(trial). Nothing (the default) on a host on which that task
        changed nothing.
    type: dict
    default: {}
    suboptions:
      id:
        description: The trial.
        type: str
      deadline:
        description: After how many seconds the host goes back.
        type: float
      what:
        description: What is on trial, for messages.
        type: str
  config:
    description: The agent's configuration on the host, which says where its socket is.
    type: str
    default: /etc/sennit/agent.json
notes:
  - What O(state=confirmed) keeps was reported as a change by the task that began it; this one reports none.
seealso:
  - module: sennit.mesh.netmap
  - module: sennit.mesh.preferences
"""

EXAMPLES = r"""
- name: Deliver the netmap
  sennit.mesh.netmap:
    state: delivered
    netmap: "{{ sennit_netmap.netmap }}"
    confirm: false
  register: sennit_delivery
  any_errors_fatal: true

- name: Reach every host anew
  sennit.mesh.trial:
    state: reached
    trial: "{{ sennit_delivery.trial | default({}) }}"
  any_errors_fatal: true

- name: Keep the netmap
  sennit.mesh.trial:
    state: confirmed
    trial: "{{ sennit_delivery.trial | default({}) }}"
  any_errors_fatal: true
"""

RETURN = r"""
reason:
  description: Why the trial was not confirmed, as a short fixed word.
  type: str
  returned: on failure
  sample: no-such-trial
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._arguments import CONFIG
from ansible_collections.sennit.mesh.plugins.module_utils._control import ask


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["reached", "confirmed"], "required": True},
            "trial": {
                "type": "dict",
                "default": {},
                "options": {"id": {"type": "str"}, "deadline": {"type": "float"}, "what": {"type": "str"}},
            },
            **CONFIG,
        },
        supports_check_mode=True,
    )
    identity = module.params["trial"].get("id")
    if identity is not None and module.params["state"] == "reached":
        known = ask(module, "status").get("trial") or {}
        if (known.get("id"), known.get("state")) != (identity, "running"):
            module.fail_json(msg="the trial is over: it was not confirmed in time", reason="no-such-trial")
    elif identity is not None and not module.check_mode:
        ask(module, "trial.confirm", {"id": identity})
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
