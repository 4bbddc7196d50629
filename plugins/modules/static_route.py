#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: static_route
short_description: Static routes on a host, at once and for good
description:
  - Routes prefixes by way of a gateway on the host's own LAN, for instance the mesh and the other sites by way of the
    site's subnet router, on a device that runs no agent.
  - The route is in the kernel at once. For good it is kept by what manages the interface, found on the live host.
  - For systemd-networkd this is a drop-in for the C(.network) file that the interface has. networkd reads it in at
    once (C(networkctl reload)), and configures the interface anew, with a gap of some milliseconds; an address by DHCP
    is asked for again. systemd before version 248 does not see a new drop-in, there the service is restarted.
  - For NetworkManager these are further routes of the interface's connection profile. The profile is not reapplied to
    the device, and nothing is interrupted.
  - For ifupdown this is a script in C(/etc/network/if-up.d). Nothing is interrupted.
  - Only routes that this module has made are ever changed or removed.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) has the routes.
      - V(absent) removes those routes to O(prefixes) that this module has made; without O(prefixes), all of them.
    type: str
    choices: [present, absent]
    default: present
  prefixes:
    description: Where to. Required with O(state=present).
    type: list
    elements: str
    aliases: [prefix]
  gateways:
    description:
      - The address by way of which, one for each family of O(prefixes), on-link for the host. Required with
        O(state=present).
      - Where a gateway is the host's default gateway of that family, its routes are not needed and not made.
    type: list
    elements: str
    aliases: [gateway]
  interface:
    description: The interface. If not given, the one on whose prefix the gateway is.
    type: str
  exclusive:
    description: Remove all other routes that this module has made on the host before.
    type: bool
    default: false
seealso:
  - module: sennit.mesh.gateway
"""

EXAMPLES = r"""
- name: Reach the mesh and the other site by way of this site's subnet router
  sennit.mesh.static_route:
    prefixes: [100.64.0.0/10, 192.168.60.0/24]
    gateways: [192.168.50.1]

- name: Both families, and nothing else
  sennit.mesh.static_route:
    prefixes: [100.64.0.0/10, "fd7a:115c:a1e0::/48"]
    gateways: [192.168.50.1, "fd50:5e9:a::1"]
    exclusive: true

- name: Remove whatever this module has made
  sennit.mesh.static_route:
    state: absent
"""

RETURN = r"""
routes:
  description: What there is of the given routes.
  type: list
  elements: dict
  returned: with O(state=present)
  contains:
    prefix:
      description: Where to.
      type: str
      sample: 100.64.0.0/10
    gateway:
      description: By way of which address.
      type: str
      sample: 192.168.50.1
    interface:
      description: The interface.
      type: str
      sample: eth0
    manager:
      description: What keeps the route for good; null where it is not needed.
      type: str
      sample: systemd-networkd
    needed:
      description: Whether there is a route of this module's; not if the gateway is the host's default gateway.
      type: bool
"""

import ipaddress
import time
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils._host import (
    IPInterface,
    as_root,
    ip_json,
    on_link_interfaces,
    routes,
)
from ansible_collections.sennit.mesh.plugins.module_utils._route_stores import store_of, stores_in_use
from ansible_collections.sennit.mesh.plugins.module_utils._route_texts import (
    IPAddress,
    Route,
    check_prefix,
    order,
)

# How long systemd-networkd may take to configure an interface anew.
PATIENCE_SECONDS = 15.0


class StaticRoute:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.differences: list[dict[str, str]] = []
        self.on_link: list[tuple[str, IPInterface]] = on_link_interfaces(module, exclude=[])
        self._read_kernel()

    def present(self) -> dict[str, Any]:
        wanted = self._wanted()
        # One store for each interface; nearly always there is one for all.
        interfaces = {route.gateway: self._interface(route.gateway) for route in wanted}
        self._check_prefixes(wanted)
        needed = [route for route in wanted if route.gateway != self._default_gateway(route.prefix.version)]
        used = {interfaces[route.gateway] for route in needed}
        targets = {interface: store_of(self.module, interface) for interface in sorted(used)}
        ours = {route for store in stores_in_use(self.module) for route in store.routes()}
        self._refuse_foreign(needed, interfaces, ours)
        prefixes = {route.prefix for route in wanted}
        stores = {store.place: store for store in [*stores_in_use(self.module), *targets.values()]}
        goal: dict[str, set[Route]] = {
            place: set()
            if self.module.params["exclusive"]
            else {route for route in store.routes() if route.prefix not in prefixes}
            for place, store in stores.items()
        }
        for route in needed:
            goal[targets[interfaces[route.gateway]].place].add(route)
        missing = [
            (route, interfaces[route.gateway])
            for route in needed
            if not any(dev == interfaces[route.gateway] for dev, _metric in self.live.get(route, []))
        ]
        self._converge(stores, goal, missing)
        return {
            **self._result(),
            "routes": [
                {
                    "prefix": str(route.prefix),
                    "gateway": str(route.gateway),
                    "interface": interfaces[route.gateway],
                    "manager": targets[interfaces[route.gateway]].manager if route in needed else None,
                    "needed": route in needed,
                }
                for route in wanted
            ],
        }

    def absent(self) -> dict[str, Any]:
        prefixes = None if self.module.params["prefixes"] is None else {p for _text, p in self._prefixes()}
        gateways = {gateway for _text, gateway in self._gateways()}

        def stays(route: Route) -> bool:
            if prefixes is not None and route.prefix not in prefixes:
                return True
            return bool(gateways) and route.gateway not in gateways

        stores = {store.place: store for store in stores_in_use(self.module)}
        goal = {place: {route for route in store.routes() if stays(route)} for place, store in stores.items()}
        self._converge(stores, goal, [])
        return self._result()

    def _result(self) -> dict[str, Any]:
        return {"changed": bool(self.differences), "diff": self.differences}

    # --- what is wanted

    def _wanted(self) -> list[Route]:
        gateways = {gateway.version: gateway for _text, gateway in self._gateways()}
        found = []
        for text, prefix in self._prefixes():
            if prefix.version not in gateways:
                self._fail("prefixes", text, f"there is no IPv{prefix.version} address in gateways to route it by")
            found.append(Route(prefix, gateways[prefix.version]))
        return order(found)

    def _prefixes(self) -> list[tuple[str, Any]]:
        found = []
        for text in self.module.params["prefixes"]:
            try:
                if "/" not in text:
                    raise ValueError("has no prefix length")
                found.append((text, ipaddress.ip_network(text)))
            except ValueError as error:
                self._fail("prefixes", text, str(error))
        return found

    def _gateways(self) -> list[tuple[str, IPAddress]]:
        found: dict[int, tuple[str, IPAddress]] = {}
        for text in self.module.params["gateways"] or []:
            try:
                gateway = ipaddress.ip_address(text)
            except ValueError as error:
                self._fail("gateways", text, str(error))
            if gateway.version in found:
                self._fail("gateways", text, f"{found[gateway.version][0]} is given for IPv{gateway.version} already")
            found[gateway.version] = (text, gateway)
        return list(found.values())

    def _interface(self, gateway: IPAddress) -> str:
        """The interface that the gateway is on-link with."""
        given: Optional[str] = self.module.params["interface"]
        if any(address.ip == gateway for _name, address in self.on_link):
            self._fail("gateways", str(gateway), "is an address of this host itself")
        if gateway.is_link_local:
            if given is None:
                self._fail("gateways", str(gateway), "is a link-local address, and on every interface: give interface")
            return given
        candidates = [(name, own) for name, own in self.on_link if given in (None, name) and gateway in own.network]
        if not candidates:
            where = "this host" if given is None else given
            prefixes = [f"{own.network} on {name}" for name, own in self.on_link if given in (None, name)]
            self._fail("gateways", str(gateway), f"is not on-link: {where} has {', '.join(prefixes) or 'no address'}")
        names = {name for name, _own in candidates}
        if len(names) > 1:
            self._fail("gateways", str(gateway), f"is on-link at {' and '.join(sorted(names))}: give interface")
        return names.pop()

    def _check_prefixes(self, wanted: list[Route]) -> None:
        on_link = [own.network for _name, own in self.on_link]
        for route in wanted:
            try:
                check_prefix(route.prefix, route.gateway, on_link)
            except ValueError as error:
                self._fail("prefixes", str(route.prefix), str(error))

    def _refuse_foreign(self, needed: list[Route], interfaces: dict[IPAddress, str], ours: set[Route]) -> None:
        """A route to the same prefix that leads elsewhere, and is not this module's, is somebody's decision."""
        wanted = {route.prefix: route for route in needed}
        for prefix, other in self.kernel:
            route = wanted.get(prefix)
            gateway, interface = other.get("gateway"), other.get("dev")
            if route is None or (gateway, interface) == (str(route.gateway), interfaces[route.gateway]):
                continue
            if gateway is None or Route(prefix, ipaddress.ip_address(gateway)) not in ours:
                via = f"by {gateway}" if gateway else "already"
                self._fail("prefixes", str(prefix), f"this host routes it {via} on {interface or 'several interfaces'}")

    def _fail(self, option: str, value: str, reason: str) -> None:
        self.module.fail_json(msg=f"{option}: {value}: {reason}")

    # --- the kernel

    def _read_kernel(self) -> None:
        """The main table, and of it the routes by way of a gateway: the interface and metric of each."""
        self.kernel = routes(self.module)
        self.live: dict[Route, list[tuple[str, Optional[int]]]] = {}
        for prefix, route in self.kernel:
            if prefix is not None and "gateway" in route and "dev" in route:
                key = Route(prefix, ipaddress.ip_address(route["gateway"]))
                self.live.setdefault(key, []).append((route["dev"], route.get("metric")))

    def _default_gateway(self, version: int) -> Optional[IPAddress]:
        """The gateway of the default route that is used, if it has one."""
        defaults = [
            route
            for route in ip_json(self.module, f"-{version}", "route", "show", "default")
            if route.get("type", "unicast") == "unicast" and "gateway" in route
        ]
        if not defaults:
            return None
        best = min(defaults, key=lambda route: route.get("metric", 0))
        return ipaddress.ip_address(best["gateway"])

    def _converge(self, stores: dict[str, Any], goal: dict[str, set[Route]], missing: list[tuple[Route, str]]) -> None:
        after = {route for kept in goal.values() for route in kept}
        before = {route for store in stores.values() for route in store.routes()}
        stale = [route for route in order(before - after) if route in self.live]
        if stale or missing:
            self.differences.append(
                {
                    "before_header": "running kernel",
                    "after_header": "running kernel",
                    "before": "".join(f"{route}\n" for route in stale),
                    "after": "".join(f"{route} dev {interface}\n" for route, interface in missing),
                }
            )
        # For good first: what fails here has changed nothing in the kernel yet.
        untold = []
        for place, store in stores.items():
            difference = store.make(goal[place])
            if difference is not None:
                self.differences.append(difference)
            # Also if a run that was cut short has written the file, and told nobody.
            if difference is not None or any(route in goal[place] for route, _interface in missing):
                untold.append(store)
        if not self.module.check_mode:
            # Every one is told, whatever the others do with it.
            reread = [store.tell() for store in untold]
            if any(reread):
                self._await_routes({route for route, _interface in missing})
            self._converge_kernel(missing, stale)

    def _await_routes(self, expected: set[Route]) -> None:
        """Until what has just been told of the routes has put them there; what it did not is then made good."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._read_kernel()
        while not expected <= set(self.live) and time.monotonic() < deadline:
            time.sleep(0.1)
            self._read_kernel()

    def _converge_kernel(self, missing: list[tuple[Route, str]], stale: list[Route]) -> None:
        for route, interface in missing:
            if not any(dev == interface for dev, _metric in self.live.get(route, [])):
                self._ip("route", "replace", *str(route).split(), "dev", interface, "proto", "static")
        for route in stale:
            for interface, metric in self.live.get(route, []):
                which = ["metric", str(metric)] if metric is not None else []
                self._ip("route", "delete", *str(route).split(), "dev", interface, *which, gone_is_good=True)

    def _ip(self, *arguments: str, gone_is_good: bool = False) -> None:
        command = [self.module.get_bin_path("ip", required=True, opt_dirs=["/usr/sbin", "/sbin"]), *arguments]
        code, _out, err = self.module.run_command(command)
        # networkd may have been quicker.
        if code != 0 and not (gone_is_good and "No such process" in err):
            self.module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip()}", rc=code)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "prefixes": {"type": "list", "elements": "str", "aliases": ["prefix"]},
            "gateways": {"type": "list", "elements": "str", "aliases": ["gateway"]},
            "interface": {"type": "str"},
            "exclusive": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ["prefixes", "gateways"])],
        supports_check_mode=True,
    )
    with as_root(module):
        static_route = StaticRoute(module)
        module.exit_json(**(static_route.present() if module.params["state"] == "present" else static_route.absent()))


if __name__ == "__main__":
    main()
