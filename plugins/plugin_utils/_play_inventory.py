# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory of a running play, as plain values: what other plugins of the collection read of task_vars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.inventory import (
    GROUP,
    Host,
    Refusal,
    Report,
)
from ansible_collections.sennit.mesh.plugins.plugin_utils._agent_settings import SETTINGS
from jinja2.exceptions import UndefinedError
from jinja2.runtime import Undefined

# What the compiler looks at; all else in hostvars stays untouched, and untemplated.
VARIABLES = (
    "ansible_host",
    "sennit_accept_dns",
    "sennit_addresses",
    "sennit_advertise_routes",
    "sennit_allowed_ips",
    "sennit_approved_routes",
    "sennit_beacon_port",
    "sennit_dns",
    "sennit_domain",
    "sennit_endpoint",
    "sennit_exit_node",
    "sennit_ipv4_pool",
    "sennit_ipv6_pool",
    "sennit_listen_port",
    "sennit_network",
    "sennit_offer_exit_node",
    "sennit_persistent_keepalive",
    "sennit_public_key",
    "sennit_signing_key",
    "sennit_signing_key_file",
    *SETTINGS,
)


class PlayInventory:
    """The members of group sennit in one play: their variables, and what earlier tasks registered for them."""

    def __init__(
        self, task_vars: Mapping[str, Any], status_variable: str, agent_variable: str, beacon_variable: str
    ) -> None:
        self._hostvars = task_vars["hostvars"]
        self._groups = task_vars["groups"]
        self._status_variable = status_variable
        self._agent_variable = agent_variable
        failed = set(task_vars.get("ansible_play_hosts_all", ())) - set(task_vars.get("ansible_play_hosts", ()))
        self._in_play = set(task_vars.get("ansible_play_batch", ())) | failed
        self._groups_of: dict[str, list[str]] = {}
        for group, names in self._groups.items():
            for name in names:
                self._groups_of.setdefault(str.__str__(name), []).append(str.__str__(group))
        self.refusals: list[Refusal] = []
        self.statuses: dict[str, Mapping[str, Any]] = {}
        self.hosts: list[Host] = [self._host(str.__str__(name)) for name in self._groups.get(GROUP, ())]
        # Beacons that this play leaves out, but has asked.
        for result in plain((task_vars.get(beacon_variable) or {}).get("results") or ()):
            if _usable(result):
                self.statuses.setdefault(result["item"], result)

    def _host(self, name: str) -> Host:
        # Once, for it costs more than all that is read from it.
        hostvars = self._hostvars[name]
        status = _registered(hostvars, self._status_variable)
        if status is not None:
            self.statuses[name] = status
        return Host(
            name=name,
            groups=tuple(self._groups_of[name]),
            variables=dict(self._variables(name, hostvars)),
            report=_report(status, _registered(hostvars, self._agent_variable)),
            in_play=name in self._in_play,
        )

    def _variables(self, name: str, hostvars: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for variable in VARIABLES:
            try:
                value = _value(hostvars, variable)
                # Before ansible-core 2.19, hostvars hand out a template that cannot be resolved as it stands.
                if "{{" in str(value):
                    raise UndefinedError("it refers to something that is not defined")
                yield variable, value
            except (AnsibleError, UndefinedError) as error:
                self.refusals.append(Refusal(name, variable, None, f"cannot be templated: {error}"))


def _value(hostvars: Mapping[str, Any], variable: str) -> Any:
    return plain(hostvars[variable]) if variable in hostvars else None


def _registered(hostvars: Mapping[str, Any], variable: str) -> Mapping[str, Any] | None:
    """An earlier task's result, if the host gave one."""
    result = _value(hostvars, variable)
    return result if _usable(result) else None


def _report(status: Mapping[str, Any] | None, agent: Mapping[str, Any] | None) -> Report | None:
    """From what status_info, and perhaps the installation of the agent since, has told."""
    if status is None:
        return None
    running = status.get("agent") or {}
    return Report(
        public_key=(agent or {}).get("public_key") or status.get("public_key"),
        underlay=tuple(entry["prefix"] for entry in status.get("underlay") or ()),
        network=status.get("network"),
        addresses=tuple(entry["address"] for entry in status.get("underlay") or ()),
        accept_dns=(running.get("preferences") or {}).get("accept_dns"),
    )


def _usable(result: Any) -> bool:
    """Whether a task's result is what the host has answered."""
    return isinstance(result, Mapping) and not any(result.get(key) for key in ("unreachable", "skipped", "failed"))


def plain(value: Any) -> Any:
    """The value without what ansible-core wraps around it (tags, lazy containers, vaulted text).

    Raises UndefinedError for a value that has no value.
    """
    if isinstance(value, Undefined):
        raise UndefinedError("it refers to something that is not defined")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)
