# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules take whose action plugins take the same: the one checks on the host, the other on the control node."""

from __future__ import annotations

from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils import _preferences
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import DEFAULT_PATH

CONFIG: dict[str, Any] = {"config": {"type": "str", "default": DEFAULT_PATH}}
# Of what changes an agent on trial.
_CHANGE: dict[str, Any] = {
    "trial": {"type": "int", "default": 60},
    "confirm": {"type": "bool", "default": True},
    "status_variable": {"type": "str", "default": "sennit_status"},
    **CONFIG,
}

# For AnsibleModule() and for validate_argument_spec().
NETMAP: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["validated", "compiled", "delivered"], "required": True},
        "netmap": {"type": "str"},
        "agent_variable": {"type": "str", "default": "sennit_agent"},
        "beacon_variable": {"type": "str", "default": "sennit_beacon_status"},
        **_CHANGE,
    },
    "required_if": [("state", "delivered", ["netmap"])],
}
PREFERENCES: dict[str, Any] = {"argument_spec": {**_preferences.PREFERENCES, **_CHANGE}}
