# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewalld over D-Bus: zones, services and policies, permanent and at runtime.

An object is described by the part of its settings that we care about, as firewalld's D-Bus interface names them
(firewalld.dbus(5)): lists are compared as sets, other settings of the same object are left as they are. A permanent
object that firewalld does not run yet becomes live by a reload, which is all that firewalld offers; a mere difference
is applied to the running firewall without one.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional
from xml.etree import ElementTree

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, file_mode, read_text

try:
    import dbus
except ImportError:
    DBUS_ERROR: Optional[str] = traceback.format_exc()
else:
    DBUS_ERROR = None

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

NAME = "org.fedoraproject.FirewallD1"
PATH = "/org/fedoraproject/FirewallD1"
# The first with policies.
OLDEST = (0, 9)
BUILT_IN_ZONES = "/usr/lib/firewalld/zones"
# A reload of a large rule set takes its time.
TIMEOUT_SECONDS = 120

_SIGNATURES = {
    "services": "s",
    "ports": "(ss)",
    "interfaces": "s",
    "rich_rules": "s",
    "ingress_zones": "s",
    "egress_zones": "s",
}
# What each kind of object is called in the interfaces: how to list, find, add and read it, permanently and at runtime.
_KINDS = {
    "zone": {
        "names": "getZoneNames",
        "find": "getZoneByName",
        "add": "addZone2",
        "read": "getSettings2",
        "write": "update2",
        "running": "getZones",
        "read_running": "getZoneSettings2",
        "write_running": "setZoneSettings2",
    },
    "policy": {
        "names": "getPolicyNames",
        "find": "getPolicyByName",
        "add": "addPolicy",
        "read": "getSettings",
        "write": "update",
        "running": "getPolicies",
        "read_running": "getPolicySettings",
        "write_running": "setPolicySettings",
    },
    "service": {
        "names": "getServiceNames",
        "find": "getServiceByName",
        "add": "addService2",
        "read": "getSettings2",
        "write": "update2",
        "running": "listServices",
        "read_running": "getServiceSettings2",
    },
}
# The permanent settings that have no runtime counterpart.
_ONLY_PERMANENT = ("version", "short", "description", "target")
# What can be changed without a reload.
_LIVE_SETTINGS: dict[str, set[str]] = {
    "zone": {"services", "ports", "interfaces"},
    "policy": {"rich_rules"},
    "service": set(),
}


def plain(value: Any) -> Any:
    """A D-Bus value as Python's own; sequences of a setting sorted, for they are sets."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return sorted(plain(item) for item in value)
    if isinstance(value, str):
        return str(value)
    # bool is an int in Python, and dbus.Boolean is one, too.
    if type(value).__name__ in ("Boolean", "bool"):
        return bool(value)
    return int(value)


def differing(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted settings that are not so; a setting left out by firewalld is empty."""
    return {key: value for key, value in wanted.items() if plain(value) != plain(current.get(key, type(value)()))}


def show(name: str, settings: Mapping[str, Any]) -> str:
    """Settings as text for --diff, one item a line."""
    lines = []
    for key in sorted(settings):
        value = plain(settings[key])
        for item in value if isinstance(value, list) else [value]:
            text = "/".join(item) if isinstance(item, tuple) else item
            lines.append(f"{name}: {key}: {text}\n")
    return "".join(lines)


def same_settings(path: str, other: str) -> bool:
    """Whether two of firewalld's files say the same: the order and the layout of their elements say nothing."""
    contents = []
    for name in (path, other):
        # Files of the host's own firewalld, which reads them with Python's parser, too.
        root = ElementTree.parse(name).getroot()  # noqa: S314
        children = sorted(
            ElementTree.canonicalize(ElementTree.tostring(child, encoding="unicode"), strip_text=True) for child in root
        )
        contents.append((root.tag, root.attrib, children))
    return contents[0] == contents[1]


def _remove_backup(file: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file + ".old")


def running_version() -> Optional[str]:
    """The running firewalld's version; None if there is none that can be asked."""
    if DBUS_ERROR is not None:
        return None
    try:
        properties = dbus.SystemBus().get_object(NAME, PATH, introspect=False)
        version = properties.get_dbus_method("Get", "org.freedesktop.DBus.Properties")(NAME, "version", timeout=5)
    except dbus.DBusException:
        return None
    return str(version)


class Firewalld:
    """The running firewalld. ``differences`` collects what changed (in check mode: would change)."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.differences: list[dict[str, str]] = []
        if DBUS_ERROR is not None:
            module.fail_json(
                msg=missing_required_lib("dbus-python", reason="to talk to firewalld"), exception=DBUS_ERROR
            )
        try:
            self._bus = dbus.SystemBus()
        except dbus.DBusException as error:
            module.fail_json(msg=f"the system's D-Bus cannot be reached: {error.get_dbus_message()}")
        self.version = self._version()
        self._reload_due = False
        # Calls that make the running firewall agree, unless a reload does.
        self._updates: list[tuple[Any, ...]] = []

    def _version(self) -> str:
        text = str(self._call(PATH, "org.freedesktop.DBus.Properties", "Get", NAME, "version"))
        numbers = tuple(int(number) for number in re.findall(r"\d+", text)[:2])
        if numbers < OLDEST:
            self.module.fail_json(
                msg=f"firewalld {text} on this host has no policies; 0.9 or newer is needed. Update firewalld, or"
                " disable it and use nftables"
            )
        return text

    def zone_of(self, interface: str) -> str:
        """The zone that the interface is in; one that was put into none is in the default zone."""
        found = str(self._call(PATH, NAME + ".zone", "getZoneOfInterface", interface))
        return found or self.default_zone()

    def default_zone(self) -> str:
        return str(self._call(PATH, NAME, "getDefaultZone"))

    def names(self, kind: str) -> list[str]:
        """The permanent objects of a kind."""
        return [str(name) for name in self._config(_KINDS[kind]["names"])]

    def present(self, kind: str, name: str, wanted: Mapping[str, Any]) -> None:
        """Have the object with these settings: permanently at once, live after apply()."""
        permanent = self._permanent(kind, name)
        running = self._running(kind, name)
        wrong = dict(wanted) if permanent is None else differing(wanted, permanent)
        if wrong:
            self._note(kind, name, "permanent", permanent or {}, wrong)
            if not self.module.check_mode:
                self._write(kind, name, permanent, wrong)
        live = {key: value for key, value in wanted.items() if key not in _ONLY_PERMANENT}
        wrong_live = live if running is None else differing(live, running)
        if wrong_live and not wrong:
            self._note(kind, name, "running", running or {}, wrong_live)
        if running is None or set(wrong_live) - _LIVE_SETTINGS[kind] or "target" in wrong:
            self._reload_due = self._reload_due or bool(wrong or wrong_live)
        elif wrong_live:
            update = (_KINDS[kind]["write_running"], name, self._dictionary(wrong_live))
            self._updates.append((PATH, f"{NAME}.{kind}", *update))

    def service_in_zone(self, zone: str, service: str, wanted: bool) -> None:
        """Have one service open in a zone, or not; everything else of the zone is left as it is."""
        permanent = bool(self._on("zone", zone, "queryService", service))
        running = (
            service in self._running_names("service")
            and zone in self._running_names("zone")
            and bool(self._call(PATH, NAME + ".zone", "queryService", zone, service))
        )
        if permanent == wanted == running:
            return
        before, after = ({}, {"services": [service]}) if wanted else ({"services": [service]}, {})
        self._note("zone", zone, "permanent" if permanent != wanted else "running", before, after)
        if permanent != wanted and not self.module.check_mode:
            self._on("zone", zone, "addService" if wanted else "removeService", service)
            if not wanted:
                self._forget_change(zone)
        if running and not wanted:
            # At once: a reload that is due otherwise would take it for something that is at runtime only.
            if not self.module.check_mode:
                self._call(PATH, NAME + ".zone", "removeService", zone, service)
        elif wanted and not running:
            self._updates.append((PATH, NAME + ".zone", "addService", zone, service, 0))

    def absent(self, kind: str, name: str) -> None:
        """Have no such object; gone from the running firewall after apply()."""
        permanent = self._permanent(kind, name)
        running = self._running(kind, name)
        if permanent is None and running is None:
            return
        self._reload_due = True
        if permanent is None:
            self._note(kind, name, "running", running or {}, {})
            return
        self._note(kind, name, "permanent", permanent, {})
        if not self.module.check_mode:
            file = self._file(kind, name)
            self._on(kind, name, "remove")
            _remove_backup(file)

    def apply(self) -> None:
        """Make the running firewall agree with what is permanent by now."""
        if self._reload_due:
            lost = self._runtime_only()
            if lost:
                self.module.warn(
                    "firewalld has to be reloaded, which drops what was set at runtime only; such settings are in: "
                    + ", ".join(lost)
                )
            if not self.module.check_mode:
                self._call(PATH, NAME, "reload")
        elif not self.module.check_mode:
            for update in self._updates:
                self._call(*update)
        self._reload_due = False
        self._updates = []

    def _runtime_only(self) -> list[str]:
        """The zones that have more at runtime than permanently (interfaces apart: a reload keeps those)."""
        found = []
        for name in set(self._running_names("zone")) & set(self.names("zone")):
            permanent = plain(self._permanent("zone", name) or {})
            for key, value in plain(self._running("zone", name) or {}).items():
                if key == "interfaces" or not isinstance(value, list):
                    continue
                if set(value) - set(permanent.get(key, [])):
                    found.append(name)
                    break
        return sorted(found)

    def _note(self, kind: str, name: str, where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        shown = {key: before[key] for key in after if key in before} if after else before
        title, label = f"firewalld {where}", f"{kind} {name}"
        self.differences.append(
            {
                "before_header": title,
                "after_header": title,
                "before": show(label, shown),
                "after": show(label, after),
            }
        )

    def _permanent(self, kind: str, name: str) -> Optional[dict[str, Any]]:
        if name not in self.names(kind):
            return None
        return dict(self._on(kind, name, _KINDS[kind]["read"]))

    def _write(self, kind: str, name: str, permanent: Optional[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
        typed = self._dictionary(settings)
        if permanent is None:
            self._config(_KINDS[kind]["add"], name, typed)
        else:
            # What is not given would be reset.
            self._on(kind, name, _KINDS[kind]["write"], dbus.Dictionary({**permanent, **typed}, signature="sv"))

    def _file(self, kind: str, name: str) -> str:
        """Where firewalld has a permanent object."""
        path = self._config(_KINDS[kind]["find"], name)
        directory, filename = (
            self._call(path, "org.freedesktop.DBus.Properties", "Get", f"{NAME}.config.{kind}", property_name)
            for property_name in ("path", "filename")
        )
        return os.path.join(str(directory), str(filename))

    def _forget_change(self, name: str) -> None:
        """Leave no trace of a change of a zone that was taken back.

        firewalld copies one of its own zones to /etc at the first change of it, and keeps a backup at each.
        """
        file = self._file("zone", name)
        built_in = os.path.join(BUILT_IN_ZONES, os.path.basename(file))
        if file != built_in and os.path.exists(built_in) and same_settings(file, built_in):
            self._on("zone", name, "loadDefaults")
        _remove_backup(file)

    def _running(self, kind: str, name: str) -> Optional[dict[str, Any]]:
        if name not in self._running_names(kind):
            return None
        return dict(self._call(PATH, self._interface(kind), _KINDS[kind]["read_running"], name))

    def _running_names(self, kind: str) -> list[str]:
        return [str(name) for name in self._call(PATH, self._interface(kind), _KINDS[kind]["running"])]

    def _interface(self, kind: str) -> str:
        return NAME if kind == "service" else f"{NAME}.{kind}"

    def _dictionary(self, settings: Mapping[str, Any]) -> Any:
        typed = {}
        for key, value in settings.items():
            signature = _SIGNATURES.get(key)
            typed[key] = value if signature is None else dbus.Array(value, signature=signature)
        return dbus.Dictionary(typed, signature="sv")

    def _config(self, method: str, *arguments: Any) -> Any:
        return self._call(PATH + "/config", NAME + ".config", method, *arguments)

    def _on(self, kind: str, name: str, method: str, *arguments: Any) -> Any:
        path = self._config(_KINDS[kind]["find"], name)
        return self._call(path, f"{NAME}.config.{kind}", method, *arguments)

    def _call(self, path: str, interface: str, method: str, *arguments: Any) -> Any:
        # No introspection: it would double the number of messages.
        target = self._bus.get_object(NAME, path, introspect=False)
        try:
            return target.get_dbus_method(method, interface)(*arguments, timeout=TIMEOUT_SECONDS)
        except dbus.DBusException as error:
            shown = ", ".join(str(plain(item)) for item in arguments)
            self.module.fail_json(msg=f"firewalld refused {method}({shown}): {error.get_dbus_message()}")


class StoppedFirewalld:
    """The files of a firewalld that does not run; only to have something absent, in the words of Firewalld."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.differences: list[dict[str, str]] = []

    def names(self, kind: str) -> list[str]:
        directory = os.path.dirname(self._path(kind, ""))
        found = os.listdir(directory) if os.path.isdir(directory) else []
        return sorted(name[: -len(".xml")] for name in found if name.endswith(".xml"))

    def service_in_zone(self, zone: str, service: str, _wanted: bool) -> None:
        path = self._path("zone", zone)
        before = read_text(path) or ""
        # As firewalld writes it.
        after = re.sub(rf'^\s*<service name="{re.escape(service)}"/>\n', "", before, flags=re.MULTILINE)
        if after == before:
            return
        self._keep(ManagedFile(self.module, path, file_mode(path) or 0o644).present(after))
        built_in = os.path.join(BUILT_IN_ZONES, os.path.basename(path))
        if not self.module.check_mode:
            if os.path.exists(built_in) and same_settings(path, built_in):
                os.unlink(path)
            _remove_backup(path)

    def absent(self, kind: str, name: str) -> None:
        path = self._path(kind, name)
        self._keep(ManagedFile(self.module, path, 0o644).absent())
        if not self.module.check_mode:
            _remove_backup(path)

    def apply(self) -> None:
        """What does not run has nothing to apply."""

    def _path(self, kind: str, name: str) -> str:
        directory = {"zone": "zones", "policy": "policies", "service": "services"}[kind]
        return f"/etc/firewalld/{directory}/{name}.xml"

    def _keep(self, difference: Optional[dict[str, str]]) -> None:
        if difference is not None:
            self.differences.append(difference)
