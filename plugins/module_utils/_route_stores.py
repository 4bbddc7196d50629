# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host keeps static routes for good: a store for each of systemd-networkd, NetworkManager and ifupdown.

A store holds the routes that Sennit has put there, and only those are changed or removed. systemd-networkd and ifupdown
have files of Sennit's own. A profile of NetworkManager is somebody else's, so which of its routes are Sennit's is
written down beside it.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, read_text
from ansible_collections.sennit.mesh.plugins.module_utils._route_texts import (
    Route,
    ifupdown_script,
    networkd_dropin,
    order,
    parse_ifupdown_script,
    parse_networkctl,
    parse_networkd_dropin,
    parse_nmcli_lines,
    parse_nmcli_routes,
    parse_route,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

NETWORKD_DROP_INS = "/etc/systemd/network"
NETWORKD_DROP_IN = "60-sennit.conf"
IFUPDOWN_SCRIPT = "/etc/network/if-up.d/sennit-static-routes"
NETWORK_MANAGER_RECORD = "/etc/sennit/network-manager-routes.json"

# The first whose reload sees a drop-in that has changed.
NETWORKD_RELOADS_DROP_INS = 248


class NetworkdStore:
    """A drop-in for the .network file that configures the interface."""

    manager = "systemd-networkd"

    def __init__(self, module: AnsibleModule, network_file: str) -> None:
        self.module = module
        self.place = os.path.join(NETWORKD_DROP_INS, os.path.basename(network_file) + ".d", NETWORKD_DROP_IN)
        self._file = ManagedFile(module, self.place, 0o644)

    def routes(self) -> list[Route]:
        return parse_networkd_dropin(read_text(self.place) or "")

    def make(self, routes: Iterable[Route]) -> Optional[dict[str, str]]:
        """Keep just these; gives the difference, or None if it was so."""
        wanted = order(routes)
        return self._file.present(networkd_dropin(wanted)) if wanted else self._file.absent(directory=True)

    def tell(self) -> bool:
        """Have the manager read what it keeps; returns whether it makes the kernel agree by itself.

        networkd has to know: it flushes an interface that loses its carrier, and brings back only what it knows.
        """
        version = re.search(r"^systemd (\d+)", _run(self.module, "networkctl", "--version"))
        if version and int(version.group(1)) >= NETWORKD_RELOADS_DROP_INS:
            _run(self.module, "networkctl", "reload")
        else:
            _run(self.module, "systemctl", "try-restart", "systemd-networkd.service")
        return True


class NetworkManagerStore:
    """The routes of a connection profile. The running device is left as it is: reapplying a profile would take away
    whatever others have added to the device meanwhile."""

    manager = "NetworkManager"

    def __init__(self, module: AnsibleModule, profile: str) -> None:
        self.module = module
        self.place = profile
        self._record = ManagedFile(module, NETWORK_MANAGER_RECORD, 0o644)

    def routes(self) -> list[Route]:
        profile = self._profile() or []
        return [route for route in _recorded().get(self.place, []) if route in profile]

    def make(self, routes: Iterable[Route]) -> Optional[dict[str, str]]:
        wanted, record, profile = set(routes), _recorded(), self._profile()
        ours = set(record.get(self.place, []))
        added = wanted - set(profile or [])
        removed = (ours - wanted) & set(profile or [])
        if not self.module.check_mode:
            if profile is not None and (added or removed):
                arguments = [
                    argument
                    for sign, changed in (("-", removed), ("+", added))
                    for route in order(changed)
                    for argument in (f"{sign}ipv{route.prefix.version}.routes", f"{route.prefix} {route.gateway}")
                ]
                _run(self.module, "nmcli", "connection", "modify", "uuid", self.place, *arguments)
            self._write({**record, self.place: order((ours & wanted) | added)})
        if not added and not removed:
            return None
        before = order(profile or [])
        return {
            "before_header": f"NetworkManager profile {self.place}",
            "after_header": f"NetworkManager profile {self.place}",
            "before": "".join(f"{route}\n" for route in before),
            "after": "".join(f"{route}\n" for route in order((set(before) | added) - removed)),
        }

    def tell(self) -> bool:
        """There is nobody to tell: NetworkManager knows its profiles, and the running device is left as it is."""
        return False

    def _profile(self) -> Optional[list[Route]]:
        """All routes of the profile, whoever put them there; None if there is no such profile any more."""
        command = ["nmcli", "--get-values", "ipv4.routes,ipv6.routes", "connection", "show", "uuid", self.place]
        found = _try(self.module, *command)
        return None if found is None else parse_nmcli_routes(found)

    def _write(self, record: dict[str, list[Route]]) -> None:
        kept = {
            uuid: [[str(route.prefix), str(route.gateway)] for route in routes]
            for uuid, routes in sorted(record.items())
            if routes
        }
        if kept:
            self._record.present(json.dumps(kept, indent=2) + "\n")
        else:
            self._record.absent(directory=True)


class IfupdownStore:
    """A script of Sennit's own, which ifup runs when the interface has come up."""

    manager = "ifupdown"

    def __init__(self, module: AnsibleModule, interface: str) -> None:
        self.module = module
        self.interface = interface
        self.place = f"{IFUPDOWN_SCRIPT}:{interface}"
        self._file = ManagedFile(module, IFUPDOWN_SCRIPT, 0o755)

    def routes(self) -> list[Route]:
        return self._all().get(self.interface, [])

    def make(self, routes: Iterable[Route]) -> Optional[dict[str, str]]:
        wanted = {name: kept for name, kept in {**self._all(), self.interface: order(routes)}.items() if kept}
        return self._file.present(ifupdown_script(wanted)) if wanted else self._file.absent()

    def tell(self) -> bool:
        """There is nobody to tell: ifup reads the script when it runs it."""
        return False

    @staticmethod
    def _all() -> dict[str, list[Route]]:
        return parse_ifupdown_script(read_text(IFUPDOWN_SCRIPT) or "")


def store_of(module: AnsibleModule, interface: str) -> Any:
    """The store of what manages the interface, as it is now; fails the module if that is nothing known."""
    links = parse_networkctl(_try(module, "networkctl", "--no-pager", "--lines=0", "status", "--all") or "")
    if interface in links:
        file = links[interface].network_file
        others = sorted(name for name, link in links.items() if link.network_file == file and name != interface)
        if others:
            module.fail_json(
                msg=f"interface: {interface}: its file {file} configures {', '.join(others)} as well, and a route in it"
                f" would be theirs, too. Give {interface} a .network file of its own"
            )
        return NetworkdStore(module, file)
    active = _try(module, "nmcli", "--terse", "--fields", "UUID,DEVICE,FILENAME", "connection", "show", "--active")
    for uuid, device, file in parse_nmcli_lines(active or ""):
        if device == interface and not _is_external(module, interface):
            if file.startswith("/run/"):
                module.warn(
                    f"{interface} has the NetworkManager profile {file}, which something else writes at boot;"
                    " NetworkManager keeps the changed profile below /etc, and that one wins from now on"
                )
            return NetworkManagerStore(module, uuid)
    if _try(module, "ifquery", "--state", interface) or _try(module, "ifquery", interface) is not None:
        return IfupdownStore(module, interface)
    module.fail_json(
        msg=f"interface: {interface}: none of systemd-networkd, NetworkManager and ifupdown manages it on this host, so"
        " a route would be lost with the next boot"
    )


def stores_in_use(module: AnsibleModule) -> list[Any]:
    """All stores on this host that hold something of Sennit's."""
    pattern = os.path.join(NETWORKD_DROP_INS, "*.network.d", NETWORKD_DROP_IN)
    files = [os.path.dirname(path)[: -len(".d")] for path in sorted(glob.glob(pattern))]
    interfaces = sorted(parse_ifupdown_script(read_text(IFUPDOWN_SCRIPT) or ""))
    return [
        *(NetworkdStore(module, file) for file in files),
        *(NetworkManagerStore(module, uuid) for uuid in sorted(_recorded())),
        *(IfupdownStore(module, interface) for interface in interfaces),
    ]


def _is_external(module: AnsibleModule, interface: str) -> bool:
    """Whether NetworkManager only looks on while something else configures the interface."""
    state = _try(module, "nmcli", "--get-values", "GENERAL.STATE", "device", "show", interface) or ""
    return "externally" in state


def _recorded() -> dict[str, list[Route]]:
    """The routes that are Sennit's, by the UUID of the profile."""
    record = json.loads(read_text(NETWORK_MANAGER_RECORD) or "{}")
    return {uuid: [parse_route(*texts) for texts in routes] for uuid, routes in record.items()}


def _command(module: AnsibleModule, command: tuple[str, ...]) -> Optional[list[str]]:
    program = module.get_bin_path(command[0], opt_dirs=["/usr/sbin", "/sbin"])
    return None if program is None else [program, *command[1:]]


def _try(module: AnsibleModule, *command: str) -> Optional[str]:
    """What the command prints; None if it is not there or fails, for instance because its daemon does not run."""
    full = _command(module, command)
    if full is None:
        return None
    code, out, _err = module.run_command(full, environ_update={"LC_ALL": "C"})
    return out if code == 0 else None


def _run(module: AnsibleModule, *command: str) -> str:
    full = _command(module, command)
    if full is None:
        module.fail_json(msg=f"this host has no command '{command[0]}'")
    code, out, err = module.run_command(full, environ_update={"LC_ALL": "C"})
    if code != 0:
        module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip() or out.strip()}", rc=code)
    return str(out)
