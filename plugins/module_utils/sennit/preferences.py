# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host decides for itself: frozen values, and the one parser of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from .netmap.model import EXIT_NODE_APPROVED, Node, check_name

MAX_PREFERENCES_BYTES = 64 * 1024

# Why a preference is refused: PreferencesError.reason, and the error code of the control API.
BAD_PREFERENCE = "bad-preference"
EXIT_NODE_UNKNOWN = "exit-node-unknown"
EXIT_NODE_SELF = "exit-node-self"
EXIT_NODE_NOT_OFFERED = "exit-node-not-offered"
EXIT_NODE_NOT_APPROVED = "exit-node-not-approved"


class PreferencesError(Exception):
    """A preference that is refused: ``key`` and ``value`` say which, ``reason`` is one of the constants above."""

    def __init__(self, key: str, value: Any, message: str, reason: str = BAD_PREFERENCE) -> None:
        super().__init__(f"{key}: {json.dumps(value)} {message}" if key else message)
        self.key = key
        self.value = value
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Preferences:
    """One host's preferences.

    exit_node: the name of the node that all traffic beyond the mesh goes through, or None. exit_node_allow_lan_access:
    the host's own LAN stays reachable meanwhile. exit_node_fail_open: what the exit node cannot carry leaves by the
    LAN, instead of being stopped. accept_dns: the host's programs find names as the network has it.
    snat_subnet_routes is kept for those who ask.
    """

    accept_routes: bool = True
    exit_node: Optional[str] = None
    exit_node_allow_lan_access: bool = False
    exit_node_fail_open: bool = False
    snat_subnet_routes: bool = True
    accept_dns: bool = True

    @classmethod
    def from_json(cls, text: bytes) -> Preferences:
        """The preferences that a file holds; what it does not name has its default. Raises PreferencesError."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PreferencesError("", None, f"not JSON: {error}") from None
        return cls().changed(values)

    def to_json(self) -> bytes:
        return json.dumps(self.to_mapping(), sort_keys=True, indent=2).encode() + b"\n"

    def to_mapping(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def changed(self, values: Any) -> Preferences:
        """These with some values changed; "" for the exit node is none. Raises PreferencesError."""
        if not isinstance(values, Mapping):
            raise PreferencesError("", None, "not an object of preferences")
        return dataclasses.replace(self, **{key: _checked(key, value) for key, value in values.items()})

    def not_default(self) -> dict[str, Any]:
        defaults = DEFAULTS.to_mapping()
        return {key: value for key, value in self.to_mapping().items() if value != defaults[key]}


DEFAULTS = Preferences()


def check_exit_node(name: str, nodes: Iterable[Node], own: str) -> None:
    """Whether a node of the current map can be the exit node of node ``own``. Raises PreferencesError."""
    node = next((node for node in nodes if node.name == name), None)
    if node is None:
        raise PreferencesError("exit_node", name, "is no node of the current netmap", EXIT_NODE_UNKNOWN)
    if node.name == own:
        raise PreferencesError("exit_node", name, "is this host itself", EXIT_NODE_SELF)
    if node.exit_node is None:
        raise PreferencesError("exit_node", name, "does not offer to be an exit node", EXIT_NODE_NOT_OFFERED)
    if node.exit_node != EXIT_NODE_APPROVED:
        message = "offers to be an exit node, but the network has not approved it"
        raise PreferencesError("exit_node", name, message, EXIT_NODE_NOT_APPROVED)


def _checked(key: Any, value: Any) -> Any:
    if key == "exit_node":
        return _node_name(value)
    if not isinstance(getattr(DEFAULTS, str(key), None), bool):
        known = ", ".join(field.name for field in dataclasses.fields(Preferences))
        raise PreferencesError(str(key), value, f"is for no preference; there are {known}")
    if not isinstance(value, bool):
        raise PreferencesError(key, value, "is neither true nor false")
    return value


def _node_name(value: Any) -> Optional[str]:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise PreferencesError("exit_node", value, "is no node's name")
    try:
        return check_name(value)
    except ValueError as error:
        raise PreferencesError("exit_node", value, str(error)) from None
