# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module asks the agent on its host, through the control socket that the agent's configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.api import ApiError, call
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import Config, ConfigError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# Seconds. Applying a map of thousands of peers takes the agent some of them.
TIMEOUT = 60.0


def configuration(module: AnsibleModule) -> Optional[Config]:
    """The agent's configuration, which the parameter `config` names. Fails the module where there is none.

    None: it is check mode, and the agent, its configuration with it, would be here by now.
    """
    try:
        return Config.load(module.params["config"])
    except ConfigError as error:
        if module.check_mode:
            return None
        module.fail_json(msg=f"the agent is not set up here: {error}")
        raise


def ask(
    module: AnsibleModule, method: str, params: Optional[Mapping[str, Any]] = None, what: str = "this"
) -> dict[str, Any]:
    """The agent's answer; empty in check mode on a host without an agent that runs. Fails the module on an error.

    what: the thing asked for, as it follows "the agent refused".
    """
    config = configuration(module)
    if config is None:
        return {}
    try:
        answer = call(config.socket_path, method, params, timeout=TIMEOUT)
    except ApiError as error:
        if error.code == "not-running" and module.check_mode:
            return {}
        refuse(module, error, what)
    return answer if isinstance(answer, dict) else {}


def refuse(module: AnsibleModule, error: ApiError, what: str) -> NoReturn:
    """Fail the module with what the agent, or the way to it, said."""
    if error.code == "not-running":
        message = f"the agent does not run: {error.message}"
    elif error.code in ("no-permission", "timeout", "bad-reply"):
        message = f"the agent does not answer: {error.message}"
    else:
        message = f"the agent refused {what} ({error.code}): {error.message}"
    module.fail_json(msg=message, reason=error.code)
    raise error
