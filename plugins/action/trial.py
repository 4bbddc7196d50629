# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control node's half of sennit.mesh.trial: makes a new connection before it asks whether the host is there."""

from __future__ import annotations

from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils._arguments import CONFIG
from ansible_collections.sennit.mesh.plugins.plugin_utils._play_inventory import plain
from ansible_collections.sennit.mesh.plugins.plugin_utils._trial import TrialAction

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["reached", "confirmed"], "required": True},
    "trial": {"type": "dict", "default": {}},
    **CONFIG,
}


class ActionModule(TrialAction):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = plain(self.validate_argument_spec(ARGUMENT_SPEC)[1])
        state, trial = arguments["state"], arguments["trial"]
        if state == "confirmed" and not trial:
            # Nothing runs on this host.
            result["changed"] = False
            return result
        result.update(self._end(state, trial, arguments["config"], state == "reached", task_vars or {}))
        return result
