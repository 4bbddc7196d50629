# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control node's half of sennit.mesh.preferences: asks no host that has them, confirms over a new connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils import _arguments
from ansible_collections.sennit.mesh.plugins.module_utils._preferences import PREFERENCES, stated
from ansible_collections.sennit.mesh.plugins.plugin_utils._play_inventory import plain
from ansible_collections.sennit.mesh.plugins.plugin_utils._trial import TrialAction


class ActionModule(TrialAction):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = plain(self.validate_argument_spec(**_arguments.PREFERENCES)[1])
        variables = task_vars or {}
        values = stated(arguments)
        status = plain(variables.get(arguments["status_variable"]))
        live = _preferences(status)
        if live is not None and {**live, **values} == live:
            # What this play has read of the host a moment ago: no need to ask again.
            result.update(changed=False, preferences=live)
            return result
        module_arguments = {name: arguments[name] for name in (*PREFERENCES, "config") if arguments[name] is not None}
        news = {name: value for name, value in values.items() if live is None or live.get(name) != value}
        begun = self._begin("sennit.mesh.preferences", module_arguments, _named(news), arguments["trial"], variables)
        result.update(self._keep(begun, arguments["config"], variables) if arguments["confirm"] else begun)
        return result


def _preferences(status: Any) -> dict[str, Any] | None:
    """Those that the host's status says are in force."""
    agent = status.get("agent") if isinstance(status, Mapping) else None
    live = agent.get("preferences") if isinstance(agent, Mapping) else None
    return dict(live) if isinstance(live, Mapping) else None


def _named(values: Mapping[str, Any]) -> str:
    """The values, as a message names them."""
    words = [f"{name}={'none' if value is None else str(value).lower()}" for name, value in values.items()]
    return f"the preferences {', '.join(words)}"
