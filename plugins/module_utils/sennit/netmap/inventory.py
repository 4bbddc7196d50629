# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory as the compiler sees it: hosts, their variables as written, and what the hosts themselves reported.

The readers here take one variable as it may stand in an inventory: ``""`` is unset (a survey sends it for an empty
field), a number may be a string, a list may be a string with commas. They raise Refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

GROUP = "sennit"
GROUP_NODES = "sennit_nodes"
GROUP_SUBNET_ROUTERS = "sennit_subnet_routers"
GROUP_EXIT_NODES = "sennit_exit_nodes"
GROUP_BEACONS = "sennit_beacons"
GROUP_STATIC_PEERS = "sennit_static_peers"
GROUP_LAN_DEVICES = "sennit_lan_devices"

EXIT_NODE = "sennit_exit_node"
# Its value that states that there is none, where an empty one states nothing.
NO_EXIT_NODE = "none"

# The groups whose hosts run the agent.
NODE_GROUPS = (GROUP_NODES, GROUP_SUBNET_ROUTERS, GROUP_EXIT_NODES, GROUP_BEACONS)


@dataclass(frozen=True)
class Report:
    """What a host said of itself in this run.

    public_key: base64, None while the host has no agent. underlay: its on-link prefixes, and addresses: its own ones,
    the mesh's left out. network: the name of the network that it is in already. accept_dns: its preference, None while
    no agent tells it.
    """

    public_key: Optional[str] = None
    underlay: tuple[str, ...] = ()
    network: Optional[str] = None
    addresses: tuple[str, ...] = ()
    accept_dns: Optional[bool] = None


@dataclass(frozen=True)
class Host:
    """One member of the inventory group. groups: all that it is in, also those that are none of the collection's.

    in_play: this run was to reach it; without `report` it did not answer.
    """

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any] = field(default_factory=dict)
    report: Optional[Report] = None
    in_play: bool = True


class Refusal(Exception):  # noqa: N818 - it is a finding first; CompileError carries all of them
    """One thing in the inventory that cannot be: the host and the variable it stands at, its value, and the reason."""

    def __init__(self, host: str, variable: str, value: object, reason: str) -> None:
        self.host = host
        self.variable = variable
        self.value = value
        self.reason = reason
        shown = "" if value is None else f" = {_shown(value)}"
        super().__init__(f"{host}: {variable}{shown} {reason}")


class CompileError(Exception):
    """An inventory that makes no network: every reason at once, so that one run shows all there is to mend."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("\n".join(str(refusal) for refusal in refusals))


@dataclass
class Findings:
    """What a compilation found wrong (`refusals`) or worth a word (`warnings`) so far."""

    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, host: str, variable: str, value: object, reason: object) -> None:
        self.refusals.append(Refusal(host, variable, value, str(reason)))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a Refusal raised within, and go on after the block."""
        try:
            yield
        except Refusal as refusal:
            self.refusals.append(refusal)


def is_set(value: Any) -> bool:
    """Whether a variable says anything: not None, not blank, not an empty list or dictionary."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value not in ([], {})


def read_text(host: Host, variable: str) -> Optional[str]:
    """The variable as text; None when unset."""
    value = host.variables.get(variable)
    if not is_set(value):
        return None
    if not isinstance(value, str):
        raise Refusal(host.name, variable, value, "is not a string")
    return value.strip()


def read_list(host: Host, variable: str) -> list[str]:
    """The variable as a list of texts, in order and each once; empty when unset."""
    return list(dict.fromkeys(as_list(host.name, variable, host.variables.get(variable))))


def as_list(host: str, variable: str, value: Any) -> list[str]:
    """A value of this variable as a list of texts, in order; empty when unset."""
    if not is_set(value):
        return []
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) or item is None for item in items):
        raise Refusal(host, variable, value, "is not a list of strings")
    return [item.strip() for item in items if is_set(item)]


def read_integer(host: Host, variable: str, default: int, low: int, high: int) -> int:
    """The variable as a number from low to high; the default when unset."""
    value = host.variables.get(variable)
    if not is_set(value):
        return default
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(host.name, variable, value, f"is not a number from {low} to {high}")
    return value


def read_boolean(host: Host, variable: str, default: bool) -> bool:
    """The variable as Ansible takes a boolean, in words too; the default when unset."""
    return as_boolean(host.name, variable, host.variables.get(variable), default)


def as_boolean(host: str, variable: str, value: Any, default: bool) -> bool:
    """A value of this variable as a boolean; the default when unset."""
    if not is_set(value):
        return default
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, (bool, int, str)):
        for boolean, words in _BOOLEANS.items():
            if word in words:
                return boolean
    raise Refusal(host, variable, value, "is neither true nor false")


_BOOLEANS: Mapping[bool, tuple[object, ...]] = {
    True: (True, "true", "yes", "on", "y", "t", "1"),
    False: (False, "false", "no", "off", "n", "f", "0"),
}


def read_agreed(hosts: Sequence[Host], variable: str, secret: bool = False) -> Optional[str]:
    """A variable of the whole network: text, the same at every host, None when unset.

    Raises Refusal naming two hosts that disagree; a secret's value is not in it.
    """
    first = read_text(hosts[0], variable)
    for host in hosts[1:]:
        value = read_text(host, variable)
        if value != first:
            theirs = "another value" if secret else "unset" if first is None else _shown(first)
            raise Refusal(
                host.name,
                variable,
                None if secret else value or "",
                f"is not what {hosts[0].name} has ({theirs}); it is one for the whole network, set it at group {GROUP}",
            )
    return first


def agreed_value(hosts: Sequence[Host], variable: str) -> Any:
    """A variable of the whole network, of any type, the same at every host; None when unset. Raises Refusal."""
    first = hosts[0].variables.get(variable)
    for host in hosts[1:]:
        value = host.variables.get(variable)
        if value != first and (is_set(value) or is_set(first)):
            reason = f"is not what {hosts[0].name} has; it is one for the whole network, set it at group {GROUP}"
            raise Refusal(host.name, variable, value if is_set(value) else "", reason)
    return first if is_set(first) else None


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return repr(text) if not text.isprintable() or text != text.strip() or not text else text
