# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parameters of sennit.mesh.preferences, for the module and for its action plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFERENCES = {
    "accept_routes": {"type": "bool"},
    "exit_node": {"type": "str"},
    "exit_node_allow_lan_access": {"type": "bool"},
    "exit_node_fail_open": {"type": "bool"},
    "snat_subnet_routes": {"type": "bool"},
    "accept_dns": {"type": "bool"},
}


def stated(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The preferences that these parameters state, as the agent tells its own; those not given are left out."""
    values = {name: parameters[name] for name in PREFERENCES if parameters[name] is not None}
    if values.get("exit_node") in ("", "none"):
        values["exit_node"] = None
    return values
