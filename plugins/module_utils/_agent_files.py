# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the agent lives on a host, and what can be told from there about the service and its key."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.sennit.mesh.plugins.module_utils._host import read_text, unit_properties
from ansible_collections.sennit.mesh.plugins.module_utils.sennit import api

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

LIBRARY = "/usr/lib/sennit"
# A symbolic link to the tree in use, so that a new tree takes the old one's place at once.
PACKAGE = LIBRARY + "/sennit"
LAUNCHER_FILE = "/usr/local/bin/sennit"
UNIT = "sennit.service"
UNIT_FILE = "/etc/systemd/system/" + UNIT
# What enables it.
WANTS = "/etc/systemd/system/multi-user.target.wants/" + UNIT
CONFIG_DIRECTORY = "/etc/sennit"
CONFIG = CONFIG_DIRECTORY + "/agent.json"
STATE_DIRECTORY = "/var/lib/sennit"
RUNTIME_DIRECTORY = "/run/sennit"
PRIVATE_KEY = STATE_DIRECTORY + "/private.key"
NETMAP = STATE_DIRECTORY + "/netmap"
RESOLVER_RECORD = STATE_DIRECTORY + "/resolver.json"
# The distribution's own Python has the distribution's libraries; Ansible may have chosen another for its modules.
PYTHON = "/usr/bin/python3"

LAUNCHER = f"""\
#!{PYTHON} -I
# -I: nothing from the environment, the working directory or the user's own packages.
import sys

sys.path.insert(0, "{LIBRARY}")
from sennit.launcher import main

sys.exit(main())
"""

_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)

# Runs under PYTHON, isolated (-I), with the installed package; prints the public key in base64.
_ENSURE_KEY = """
import base64, sys
sys.path.insert(0, sys.argv[1])
from sennit.key import PrivateKeyError, ensure_private_key
try:
    print(base64.b64encode(ensure_private_key(sys.argv[2])).decode())
except PrivateKeyError as error:
    sys.exit(str(error))
"""


def installed_version() -> Optional[str]:
    """The version of the installed package, or None."""
    return version_of(read_text(PACKAGE + "/__init__.py") or "")


def version_of(text: str) -> Optional[str]:
    """The version that the package's __init__.py states, or None."""
    match = _VERSION.search(text)
    return match.group(1) if match else None


def installed_config() -> dict[str, Any]:
    """agent.json as it stands; empty when there is none or when it is no JSON object (then it gets replaced)."""
    try:
        values = json.loads(read_text(CONFIG) or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def agent_status() -> Optional[dict[str, Any]]:
    """What the running agent says of itself, or None when no agent answers."""
    try:
        return api.call(method="status", timeout=10.0)
    except api.ApiError:
        return None


def ensure_key(module: AnsibleModule) -> str:
    """The public key in base64; the private key is made when there is none. Fails the module on error."""
    code, out, err = module.run_command([PYTHON, "-I", "-c", _ENSURE_KEY, LIBRARY, PRIVATE_KEY])
    if code != 0:
        module.fail_json(msg=f"the host's WireGuard key cannot be used: {(err.strip().splitlines() or ['?'])[-1]}")
    return out.strip()


def public_key(module: AnsibleModule, status: Optional[dict[str, Any]], outdated: bool) -> Optional[str]:
    """The node's public key, without making one: from the running agent, else from the key's file."""
    if status is not None and not outdated:
        return status["public_key"]
    if os.path.exists(PRIVATE_KEY) and installed_version() is not None:
        return ensure_key(module)
    return None


def service_state(module: AnsibleModule) -> dict[str, bool]:
    """The unit as systemd has it: enabled, active, and outdated when what it started from has changed since."""
    state = unit_properties(
        module, UNIT, ["ActiveState", "UnitFileState", "NeedDaemonReload", "ExecMainStartTimestampMonotonic"]
    )
    active = state.get("ActiveState") in ("active", "activating", "reloading")
    outdated = state.get("NeedDaemonReload") == "yes"
    if active and not outdated:
        started = int(state.get("ExecMainStartTimestampMonotonic", "0")) / 1e6
        outdated = started < _newest_change()
    return {"enabled": state.get("UnitFileState") == "enabled", "active": active, "outdated": active and outdated}


def _newest_change() -> float:
    """When the code, the configuration or the key last changed, in seconds of the monotonic clock."""
    offset = time.time() - time.monotonic()
    changes = [os.lstat(path).st_ctime - offset for path in (PACKAGE, CONFIG, PRIVATE_KEY) if os.path.lexists(path)]
    return max(changes, default=0.0)
