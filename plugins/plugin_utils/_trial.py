# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes on trial, from the control node: begun over the connection there is, kept only over a new one.

What a change cuts is often the very connection that it came by. So the agent goes back by itself to what was before,
unless somebody who has reached the host anew says that it may stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# Seconds. What a play may need to get round to the next few hosts, as many as there are forks.
SECONDS_A_ROUND = 5

# A dead connection is known to be dead after 20 s. Without this, SSH waits for the answer of a host that has cut itself
# off until that is back, and longer.
SSH_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"


class TrialAction(ActionBase):
    """An action whose module begins, or ends, a trial on the host."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def _begin(
        self, module: str, arguments: dict[str, Any], what: str, seconds: int, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Run a module that changes something for so many seconds (0: for good).

        In the result, `trial` is there if one runs now: what `_keep` and sennit.mesh.trial need to know of it.
        """
        lasting = 0 if seconds == 0 or self._task.check_mode else seconds + _round_trips(task_vars)
        if lasting:
            self._reset(SSH_ALIVE)
        try:
            result = self._execute_module(module, module_args={**arguments, "trial": lasting}, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            if not lasting:
                raise
            return self._lost(
                f"the connection was lost when {what} came into force on trial", lasting, error, task_vars
            )
        if result.get("failed") and "msg" in result:
            result["msg"] = f"{task_vars['inventory_hostname']}: {result['msg']}"
        trial = result.pop("trial", None)
        if trial:
            result["trial"] = {"id": trial["id"], "deadline": trial["deadline"], "what": what}
        return result

    def _keep(self, result: dict[str, Any], config: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Confirm over a new connection what `_begin` has begun; gives the result of both."""
        trial = result.pop("trial", None)
        if trial is None or result.get("failed"):
            return result
        ended = self._end("confirmed", trial, config, True, task_vars)
        return {**result, **ended, "changed": True} if ended.get("failed") else result

    def _end(
        self, state: str, trial: Mapping[str, Any], config: str, anew: bool, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Run sennit.mesh.trial on the host, if `anew` over a new connection."""
        arguments = {"state": state, "trial": dict(trial), "config": config}
        what = trial.get("what") or "a change"
        try:
            if anew:
                self._reset(SSH_ALIVE)
            result = self._execute_module("sennit.mesh.trial", module_args=arguments, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            if trial:
                problem = f"cannot be reached any more since {what} came into force on trial"
                return self._lost(problem, trial["deadline"], error, task_vars)
            problem = "cannot be reached any more since a change came into force on trial on other hosts of this play"
            return self._lost(problem, None, error, task_vars)
        if result.get("failed") and "msg" in result:
            result["msg"] = f"{task_vars['inventory_hostname']}: {what}: {result['msg']}"
        return result

    def _reset(self, ssh_arguments: str) -> None:
        """Let the next command make a new connection."""
        if self._connection.transport in ("ssh", "ansible.builtin.ssh"):
            # SSH takes the first value of an option that it is given, so an administrator's own is not touched.
            present = self._connection.get_option("ssh_extra_args") or ""
            if ssh_arguments not in present:
                self._connection.set_option("ssh_extra_args", f"{present} {ssh_arguments}".strip())
        # One that cannot be ended is dead already; whether a new one can be made shows at once.
        with contextlib.suppress(AnsibleError):
            self._connection.reset()

    def _lost(
        self, problem: str, seconds: float | None, error: AnsibleConnectionFailure, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        # What is left on the host cannot be removed now.
        self._connection._shell.tmpdir = None
        back = "" if seconds is None else f" Within {seconds:.0f} s it goes back by itself to what it had."
        host = task_vars["inventory_hostname"]
        rest = "What is on trial on the other hosts of the play is not confirmed either, and goes back there too."
        return {"failed": True, "changed": False, "msg": f"{host}: {problem}.{back} {rest} ({error})"}


def _round_trips(task_vars: Mapping[str, Any]) -> int:
    """The seconds until a play has been at all hosts once more, beyond those that it serves at the same time."""
    hosts, forks = len(task_vars.get("ansible_play_batch") or ()), int(task_vars.get("ansible_forks") or 1)
    return SECONDS_A_ROUND * (max(hosts - 1, 0) // max(forks, 1))
