# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewalld in memory, with as much of its D-Bus interface as the modules use."""

from __future__ import annotations

import copy
from typing import Any


class DBusException(Exception):  # noqa: N818
    def get_dbus_message(self) -> str:
        return str(self)


class FirewalldDouble:
    """Permanent and running objects by kind and name; a reload makes the running ones as the permanent ones are."""

    Dictionary = staticmethod(lambda value, signature: dict(value))
    Array = staticmethod(lambda value, signature: list(value))
    DBusException = DBusException

    def __init__(self, version: str = "1.3.3") -> None:
        self.version = version
        self.reloads = 0
        self.permanent: dict[str, dict[str, dict[str, Any]]] = {
            "zone": {
                "public": {"services": ["dhcpv6-client"], "target": "default"},
                "dmz": {"services": ["ssh"], "interfaces": ["eth1"], "target": "default"},
            },
            "policy": {},
            "service": {"ssh": {"ports": [("22", "tcp")]}},
        }
        self.running = copy.deepcopy(self.permanent)

    # --- as the module dbus has it

    def SystemBus(self) -> FirewalldDouble:  # noqa: N802
        return self

    def get_object(self, name: str, path: str, introspect: bool) -> FirewalldDouble:
        double = copy.copy(self)
        double.path, double.root = path, self
        return double

    def get_dbus_method(self, method: str, interface: str) -> Any:
        def call(*arguments: Any, timeout: float) -> Any:
            return getattr(self.root, "do_" + method)(self.path, *arguments)

        return call

    # --- the service as a whole

    def do_Get(self, path: str, interface: str, name: str) -> str:  # noqa: N802
        return self.version

    def do_reload(self, path: str) -> None:
        self.reloads += 1
        self.running = copy.deepcopy(self.permanent)

    def do_getDefaultZone(self, path: str) -> str:  # noqa: N802
        return "public"

    def do_getZoneOfInterface(self, path: str, interface: str) -> str:  # noqa: N802
        return next((n for n, zone in self.running["zone"].items() if interface in zone.get("interfaces", [])), "")

    # --- one service of a zone

    def do_queryService(self, path: str, *arguments: Any) -> bool:  # noqa: N802
        return arguments[-1] in self._zone(path, arguments[:-1]).get("services", [])

    def do_addService(self, path: str, *arguments: Any) -> None:  # noqa: N802
        service = arguments[1] if len(arguments) == 3 else arguments[0]
        zone = self._zone(path, arguments[:1] if len(arguments) == 3 else ())
        zone["services"] = [*zone.get("services", []), service]

    def do_removeService(self, path: str, *arguments: Any) -> None:  # noqa: N802
        self._zone(path, arguments[:-1])["services"].remove(arguments[-1])

    def _zone(self, path: str, running: tuple[str, ...]) -> dict[str, Any]:
        return self.running["zone"][running[0]] if running else self.permanent["zone"][path.split("/")[1]]


def _kind(kind: str, permanently: str, running: str) -> None:
    """The methods of one kind of object, by their names; the permanent ones have paths of the form kind/name."""
    names, find, add, read, write = permanently.split()
    list_, get, set_ = running.split()

    def permanent(self: FirewalldDouble, path: str) -> dict[str, Any]:
        return self.permanent[kind][path.split("/")[1]]

    def write_permanent(self: FirewalldDouble, path: str, settings: dict[str, Any]) -> None:
        # What is not given is reset.
        self.permanent[kind][path.split("/")[1]] = dict(settings)

    methods = {
        names: lambda self, path: list(self.permanent[kind]),
        find: lambda self, path, name: f"{kind}/{name}",
        add: lambda self, path, name, settings: self.permanent[kind].__setitem__(name, dict(settings)),
        list_: lambda self, path: list(self.running[kind]),
        get: lambda self, path, name: dict(self.running[kind][name]),
        set_: lambda self, path, name, settings: self.running[kind][name].update(settings),
    }
    for name, method in methods.items():
        setattr(FirewalldDouble, "do_" + name, method)
    _by_path(read, kind, permanent)
    _by_path(write, kind, write_permanent)
    _by_path("remove", kind, lambda self, path: self.permanent[kind].pop(path.split("/")[1]))


def _by_path(name: str, kind: str, method: Any) -> None:
    """Several kinds have methods of the same name: told apart by the path."""
    other = getattr(FirewalldDouble, "do_" + name, None)

    def dispatch(self: FirewalldDouble, path: str, *arguments: Any) -> Any:
        return method(self, path, *arguments) if path.startswith(kind) else other(self, path, *arguments)

    setattr(FirewalldDouble, "do_" + name, dispatch)


_kind(
    "zone",
    "getZoneNames getZoneByName addZone2 getSettings2 update2",
    "getZones getZoneSettings2 setZoneSettings2",
)
_kind(
    "policy",
    "getPolicyNames getPolicyByName addPolicy getSettings update",
    "getPolicies getPolicySettings setPolicySettings",
)
# A service that runs cannot be changed.
_kind(
    "service",
    "getServiceNames getServiceByName addService2 getSettings2 update2",
    "listServices getServiceSettings2 -",
)
