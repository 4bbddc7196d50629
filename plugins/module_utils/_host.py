# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several modules ask of a host: its links and routes, a systemd unit's state, a file's content."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
IPInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


@contextlib.contextmanager
def as_root(module: AnsibleModule) -> Iterator[None]:
    """Fail the module, with the file's name, where the block is refused what only root may do."""
    try:
        yield
    except PermissionError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}: this needs root on the host (become)")


def ip_json(module: AnsibleModule, *arguments: str) -> list[dict[str, Any]]:
    """What ``ip -json ARGUMENTS`` prints; fails the module if iproute2 cannot tell."""
    command = [module.get_bin_path("ip", required=True, opt_dirs=["/usr/sbin", "/sbin"]), "-json", *arguments]
    code, out, err = module.run_command(command)
    if code != 0:
        module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip()}", rc=code)
    return [entry for entry in json.loads(out or "[]") if entry]


def on_link_interfaces(module: AnsibleModule, exclude: Iterable[str]) -> list[tuple[str, IPInterface]]:
    """The host's own addresses with their prefix length, by interface; without loopback and link-local ones."""
    left_out = {"lo", *exclude}
    found = []
    for link in ip_json(module, "address", "show"):
        name = link.get("ifname", "")
        if name in left_out:
            continue
        for address in link.get("addr_info", []):
            if address.get("scope") == "global" and "local" in address:
                text = f"{address['local']}/{address['prefixlen']}"
                found.append((name, ipaddress.ip_interface(text)))
    return found


def routes(module: AnsibleModule) -> list[tuple[Optional[IPNetwork], dict[str, Any]]]:
    """The main table's unicast routes as (prefix, route); the prefix of a default route is None."""
    found: list[tuple[Optional[IPNetwork], dict[str, Any]]] = []
    for family in ("-4", "-6"):
        for route in ip_json(module, family, "route", "show", "table", "main"):
            if route.get("type", "unicast") != "unicast":
                continue
            prefix = None if route["dst"] == "default" else ipaddress.ip_network(route["dst"])
            found.append((prefix, route))
    return found


def gateway_interfaces(module: AnsibleModule) -> set[str]:
    """The interfaces that have a route over a gateway: those that face the rest of the world."""
    hops = [hop for _prefix, route in routes(module) for hop in (route, *route.get("nexthops", []))]
    return {hop["dev"] for hop in hops if "dev" in hop and ("gateway" in hop or "via" in hop)}


def unit_properties(module: AnsibleModule, unit: str, names: Iterable[str]) -> dict[str, str]:
    """Properties of a systemd unit, as ``systemctl show`` writes them; empty on a host without systemd."""
    systemctl = module.get_bin_path("systemctl")
    if systemctl is None:
        return {}
    code, out, err = module.run_command([systemctl, "show", unit, "--property=" + ",".join(names)])
    if code != 0:
        module.fail_json(msg=f"'systemctl show {unit}' failed: {err.strip()}", rc=code)
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def firewalld_state(module: AnsibleModule) -> str:
    """firewalld is "running", "starting" (enabled, not running: comes with the next boot), "off" or "absent"."""
    unit = unit_properties(module, "firewalld.service", ["LoadState", "ActiveState", "UnitFileState"])
    if unit.get("ActiveState") in ("active", "reloading"):
        return "running"
    if unit.get("LoadState", "not-found") == "not-found":
        return "absent"
    return "starting" if unit.get("UnitFileState") == "enabled" else "off"


def read_text(path: str) -> Optional[str]:
    """A file's text, or None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def file_mode(path: str) -> Optional[int]:
    """A file's permission bits, or None if there is none."""
    try:
        return os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        return None


def remove_if_empty(directory: str) -> None:
    """Remove a directory, unless there is something in it."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


class ManagedFile:
    """One whole file that a module owns: compared by content and mode, replaced at once."""

    def __init__(self, module: AnsibleModule, path: str, mode: int) -> None:
        self.module = module
        self.path = path
        self.mode = mode

    def present(self, content: str) -> Optional[dict[str, str]]:
        """Make the file so; gives the difference, or None if it was so already."""
        before, before_mode = read_text(self.path), file_mode(self.path)
        if before == content and before_mode == self.mode:
            return None
        if not self.module.check_mode:
            self._write(content)
        difference = self._difference(before, content)
        if before == content:
            difference["before"] = f"mode {before_mode:04o}\n"
            difference["after"] = f"mode {self.mode:04o}\n"
        return difference

    def absent(self, directory: bool = False) -> Optional[dict[str, str]]:
        """Remove the file; gives the difference, or None if there was none.

        With directory, the directory goes as well, once it is empty: for one that only Sennit makes.
        """
        before = read_text(self.path)
        if not self.module.check_mode:
            if before is not None:
                os.unlink(self.path)
            if directory:
                remove_if_empty(os.path.dirname(self.path))
        return None if before is None else self._difference(before, "")

    def _difference(self, before: Optional[str], after: str) -> dict[str, str]:
        return {"before_header": self.path, "after_header": self.path, "before": before or "", "after": after}

    def _write(self, content: str) -> None:
        directory = os.path.dirname(self.path)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".ansible-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        self.module.atomic_move(temporary, self.path)
        self.module.set_mode_if_different(self.path, self.mode, False)
