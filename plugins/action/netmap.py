# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control node's half of sennit.mesh.netmap: compile the inventory, sign the map, hand it to each host."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible_collections.sennit.mesh.plugins.module_utils import _arguments
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap import prefixes, signing
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.compile import (
    DEFAULT_NETWORK,
    Compiled,
    compile_netmap,
)
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.describe import describe
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.inventory import (
    GROUP,
    GROUP_BEACONS,
    CompileError,
    Refusal,
    read_agreed,
)
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.model import Netmap, NetmapError
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.static_config import static_peer_configs
from ansible_collections.sennit.mesh.plugins.plugin_utils import _agent_settings
from ansible_collections.sennit.mesh.plugins.plugin_utils import _signing_key as signing_key
from ansible_collections.sennit.mesh.plugins.plugin_utils._play_inventory import PlayInventory, plain
from ansible_collections.sennit.mesh.plugins.plugin_utils._trial import TrialAction

DEFAULT_SIGNING_KEY_FILE = "~/.config/sennit/%s.signing-key"


@dataclass(frozen=True)
class Newest:
    """The newest valid map that hosts reported. disputed: there are two with its version."""

    netmap: Netmap | None
    disputed: bool
    warnings: Sequence[str]


class ActionModule(TrialAction):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = plain(self.validate_argument_spec(**_arguments.NETMAP)[1])
        variables = task_vars or {}
        if arguments["state"] == "delivered":
            result.update(self._deliver(arguments, variables))
            return result
        _require_libraries()
        try:
            result.update(self._compile(arguments, variables))
        except CompileError as error:
            reasons = [
                {"host": each.host, "variable": each.variable, "value": each.value, "reason": each.reason}
                for each in error.refusals
            ]
            message = f"The inventory makes no network; nothing was changed.\n{error}"
            result.update(failed=True, msg=message, refusals=reasons)
        return result

    # --- on the control node

    def _compile(self, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        inventory = PlayInventory(task_vars, *(arguments[f"{what}_variable"] for what in ("status", "agent", "beacon")))
        if not inventory.hosts:
            raise CompileError([Refusal("inventory", "group", GROUP, "has no hosts")])
        key = self._signing_key(inventory)
        newest = _newest(inventory.statuses, key.verify_key)
        validating = arguments["state"] == "validated"
        compiled = _compile_all(inventory, newest, key, require_keys=not (validating or self._task.check_mode))
        # Only now: an inventory that is refused leaves nothing behind, not even a key.
        made = not key.stored
        if not self._task.check_mode:
            stored = key.store()
            if stored.seed != key.seed:
                raise AnsibleActionFail(f"another run made {key.path} at the same time; run this one again")
            key = stored
        warnings = [*newest.warnings, *compiled.warnings]
        if key.exposed():
            warnings.append(f"{key.path} holds the signing key and others may read it: chmod 600")
        result = {
            "changed": made,
            "verify_key": key.verify_key,
            "pools": list(compiled.netmap.network.pools),
            "warnings": warnings,
            "pending": sorted(compiled.pending),
            "addresses": {node.name: list(node.addresses) for node in compiled.netmap.nodes}
            | {name: list(addresses) for name, addresses in compiled.pending.items()},
            "routes": {name: list(routes) for name, routes in compiled.routes.items()},
            "exit_nodes": list(compiled.exit_nodes),
            "left_to_beacons": _left_to_beacons(inventory, newest.netmap),
        }
        if validating:
            return result
        changed = compiled.netmap != newest.netmap
        signed = signing.sign(compiled.netmap.to_bytes(), key.seed)
        result.update(
            changed=changed,
            netmap=base64.b64encode(signed).decode("ascii"),
            version=compiled.netmap.version,
            static_peer_configs=static_peer_configs(compiled.netmap),
        )
        if changed and self._task.diff:
            result["diff"] = {
                "before_header": "netmap",
                "after_header": "netmap",
                "before": describe(newest.netmap),
                "after": describe(compiled.netmap, compiled.pending),
            }
        return result

    def _signing_key(self, inventory: PlayInventory) -> signing_key.SigningKey:
        """The network's key, if it is the one that the hosts know."""
        first = inventory.hosts[0].name
        refusals = []
        settings = {}
        for variable in ("sennit_signing_key", "sennit_signing_key_file", "sennit_network"):
            try:
                settings[variable] = read_agreed(inventory.hosts, variable, secret=variable == "sennit_signing_key")
            except Refusal as refusal:
                refusals.append(refusal)
        if refusals:
            raise CompileError([*inventory.refusals, *refusals])
        network = settings["sennit_network"] or DEFAULT_NETWORK
        path = settings["sennit_signing_key_file"] or DEFAULT_SIGNING_KEY_FILE % os.path.basename(network)
        try:
            if settings["sennit_signing_key"] is not None:
                key = signing_key.from_text("sennit_signing_key", settings["sennit_signing_key"])
            else:
                key = signing_key.from_file("sennit_signing_key_file", self._loader.path_dwim(path))
        except signing_key.SigningKeyError as error:
            raise CompileError([Refusal(first, error.variable, error.value, error.reason)]) from None
        _refuse_other_pins(key, inventory.statuses)
        return key

    # --- on each host

    def _deliver(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        status = plain(task_vars.get(arguments["status_variable"]))
        if _has_it(status, arguments["netmap"]):
            # What this play has read of the host a moment ago is this map, in force: no need to ask again.
            return {"changed": False, "version": status["agent"]["netmap"]["version"]}
        module_arguments = {name: arguments[name] for name in ("state", "netmap", "config")}
        what = _named(arguments["netmap"])
        result = self._begin("sennit.mesh.netmap", module_arguments, what, arguments["trial"], task_vars)
        # A map can be megabytes of base64, which help nobody who reads -vvv.
        result.get("invocation", {}).get("module_args", {}).pop("netmap", None)
        return self._keep(result, arguments["config"], task_vars) if arguments["confirm"] else result


def _require_libraries() -> None:
    if prefixes.NETADDR_IMPORT_ERROR is not None:
        raise AnsibleActionFail(missing_required_lib("netaddr", reason="on the control node"))
    if not signing.HAS_NACL:
        raise AnsibleActionFail(missing_required_lib("PyNaCl", reason="on the control node"))


def _compile_all(inventory: PlayInventory, newest: Newest, key: signing_key.SigningKey, require_keys: bool) -> Compiled:
    refusals = list(inventory.refusals)
    for host in inventory.hosts:
        if host.in_play:
            refusals.extend(_agent_settings.refusals(host))
    try:
        compiled = compile_netmap(
            inventory.hosts, newest.netmap, key.verify_key, require_keys=require_keys, superseding=newest.disputed
        )
    except CompileError as error:
        raise CompileError([*refusals, *error.refusals]) from None
    if refusals:
        raise CompileError(refusals)
    return compiled


def _newest(statuses: Mapping[str, Mapping[str, Any]], verify_key: str) -> Newest:
    """The newest of the maps that hosts keep. Those that this key did not sign count for nothing."""
    first_seen: dict[str, str] = {}
    for name, status in statuses.items():
        if status.get("netmap"):
            first_seen.setdefault(status["netmap"], name)
    warnings = []
    valid: list[Netmap] = []
    for encoded, name in first_seen.items():
        try:
            signed = base64.b64decode(encoded, validate=True)
            valid.append(Netmap.parse(signing.verify(signed, verify_key)))
        except (NetmapError, binascii.Error) as error:
            warnings.append(f"the netmap on {name} is not used: {error}")
    version = max((netmap.version for netmap in valid), default=0)
    candidates = sorted((netmap for netmap in valid if netmap.version == version), key=Netmap.to_bytes)
    if len(candidates) > 1:
        warnings.append(f"there are {len(candidates)} netmaps of version {version} about; the next one supersedes them")
    return Newest(candidates[-1] if candidates else None, len(candidates) > 1, warnings)


def _left_to_beacons(inventory: PlayInventory, newest: Netmap | None) -> list[str]:
    """The hosts of the play that did not answer, and need not: their map names a beacon that did."""
    before = {node.name: node for node in newest.nodes} if newest else {}
    served = any(
        host.name in before and before[host.name].beacon is not None and GROUP_BEACONS in host.groups
        for host in inventory.hosts
        if host.in_play and host.report is not None
    )
    return [
        host.name for host in inventory.hosts if host.in_play and host.report is None and host.name in before and served
    ]


def _refuse_other_pins(key: signing_key.SigningKey, statuses: Mapping[str, Mapping[str, Any]]) -> None:
    pinned: dict[str, list[str]] = {}
    for name, status in statuses.items():
        if status.get("signing_key") not in (None, "", key.verify_key):
            pinned.setdefault(status["signing_key"], []).append(name)
    refusals = []
    for verify_key, names in pinned.items():
        what = "is not the signing key of" if key.stored else "does not exist, so is not the signing key of"
        reason = f"{what} the network that this host is in (verify key {verify_key})"
        if key.stored:
            reason += f"; its verify key is {key.verify_key}"
        refusals.extend(Refusal(name, key.variable, key.path, reason) for name in names)
    if refusals:
        raise CompileError(refusals)


def _named(netmap: str) -> str:
    """A signed map in base64, as a message names it. What is none is refused on the host, with the reason."""
    try:
        return f"netmap version {Netmap.parse(base64.b64decode(netmap).partition(bytes([10]))[2]).version}"
    except (NetmapError, binascii.Error):
        return "a netmap"


def _has_it(status: Any, netmap: str) -> bool:
    """Whether a host's status says that its agent follows this very map, and keeps it."""
    if not isinstance(status, Mapping) or status.get("netmap") != netmap or not status.get("agent"):
        return False
    in_force = status["agent"].get("netmap") or {}
    return bool(in_force.get("sha256") == hashlib.sha256(base64.b64decode(netmap)).hexdigest())
