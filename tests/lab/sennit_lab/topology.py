"""The topology file: which networks, routers and hosts a lab has.

    suite: bookworm                       # optional; the Debian release of hosts that name none
    networks:                             # one bridge each
      office: [198.51.100.0/27, 2001:db8:1::/64]
    routers:                              # plain namespaces that forward; routes between them are found by the lab
      office-router:
        eth0: {network: office, addresses: [198.51.100.1, "2001:db8:1::1"]}
      home-router:
        wan0: {network: office, addresses: [198.51.100.2, "2001:db8:1::2"]}
        lan0: {network: home, addresses: [192.168.1.1, "2001:db8:2::1"]}
        nat: {outside: wan0, kind: symmetric}   # optional; of IPv4, see nat.py for the kinds
        nftables: |                       # optional; rules of its own besides
          table ip blocked { ... }
    hosts:                                # systemd-nspawn machines
      alpha:
        interfaces:
          eth0: {network: office, addresses: [198.51.100.10, "2001:db8:1::10"]}
        gateway: office-router            # optional; a router or host on one of the host's networks
        suite: trixie                     # optional
        firewalld: false                  # optional; true unless said otherwise
        manager: NetworkManager           # optional; what configures its interfaces, systemd-networkd unless said so
        resolver: file                    # optional; who owns its resolv.conf, systemd-resolved unless said so
        nameservers: [203.0.113.53]       # optional; whom it asks for names
        files: {/etc/motd: hello}         # optional
        services: [page.service]          # optional; units to enable

`load` returns a Topology in which every name and address has been checked, or raises TopologyError.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Union

import yaml

from . import nat
from .errors import LabError

SUITES = ("bullseye", "bookworm", "trixie")
DEFAULT_SUITE = "bookworm"

# What can configure a host's interfaces.
NETWORKD, NETWORK_MANAGER, IFUPDOWN = MANAGERS = ("systemd-networkd", "NetworkManager", "ifupdown")

# What can own a host's resolv.conf, and the managers that tell it the nameservers; nobody owns a plain file.
RESOLVED, RESOLVCONF, OPENRESOLV, FILE = "systemd-resolved", "resolvconf", "openresolv", "file"
RESOLVERS = {
    RESOLVED: MANAGERS,
    RESOLVCONF: (IFUPDOWN,),
    OPENRESOLV: (IFUPDOWN,),
    NETWORK_MANAGER: (NETWORK_MANAGER,),
    FILE: (NETWORKD, IFUPDOWN),
}

Prefix = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Address = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
# The kernel's limit for an interface is 15 characters; a network's name is also its bridge's.
INTERFACE = re.compile(r"[a-z][a-z0-9-]{0,14}")


class TopologyError(LabError):
    """A topology file that cannot be used: names the file, the key and the value."""

    def __init__(self, path: Path, key: str, value: object, problem: str) -> None:
        super().__init__(f"{path}: {key}: {problem} (got {value!r})")
        self.path, self.key, self.value = path, key, value


@dataclass(frozen=True)
class Interface:
    """One end of a cable: the name inside the host, the network at the other end, the addresses with their prefix."""

    name: str
    network: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Router:
    """A namespace that forwards between its networks; nftables: the rules that it does so by.

    translated: its networks whose IPv4 addresses nobody outside sees.
    """

    name: str
    interfaces: tuple[Interface, ...]
    nftables: str = ""
    translated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Host:
    """A machine with its own systemd."""

    name: str
    interfaces: tuple[Interface, ...]
    gateway: str | None
    suite: str | None
    firewalld: bool
    manager: str
    resolver: str
    nameservers: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]
    files: Mapping[str, str]
    services: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """A whole lab as its file describes it."""

    suite: str
    networks: Mapping[str, tuple[Prefix, ...]]
    routers: Mapping[str, Router]
    hosts: Mapping[str, Host]

    def gateways(self, host: Host) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        """The addresses of the host's gateway on a network that both are on: its default routes."""
        if host.gateway is None:
            return []
        networks = {interface.network for interface in host.interfaces}
        device = self.routers.get(host.gateway) or self.hosts[host.gateway]
        return [address.ip for i in device.interfaces if i.network in networks for address in i.addresses]

    def routes(self, router: Router) -> list[tuple[Prefix, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
        """A router's way to every network that routers reach: (prefix, next hop), by the fewest routers between.

        What a router translates has no IPv4 prefix for those outside of it, and neither has anything behind that.
        """
        reached = {interface.network for interface in router.interfaces}
        hidden: set[str] = set()
        found = []
        # The first step of each path leads to a neighbour, so that neighbour's address is the next hop for all of it.
        frontier = [(other, hop) for other, hop in self._neighbours(router)]
        visited = {router.name}
        while frontier:
            following = []
            for other, hops in frontier:
                if other.name in visited:
                    continue
                visited.add(other.name)
                known = {interface.network for interface in other.interfaces} & reached
                for interface in other.interfaces:
                    if interface.network in reached:
                        continue
                    reached.add(interface.network)
                    if known <= hidden or (interface.network in other.translated and known - other.translated):
                        hidden.add(interface.network)
                    for prefix in self.networks[interface.network]:
                        if prefix.version == 6 or interface.network not in hidden:
                            found += [(prefix, hop) for hop in hops if hop.version == prefix.version][:1]
                following += [(further, hops) for further, _ in self._neighbours(other)]
            frontier = following
        return found

    def _neighbours(self, router: Router) -> list[tuple[Router, list[Any]]]:
        networks = {interface.network for interface in router.interfaces}
        neighbours = []
        for other in self.routers.values():
            hops = [a.ip for i in other.interfaces if i.network in networks for a in i.addresses]
            if other is not router and hops:
                neighbours.append((other, hops))
        return neighbours


def load(path: Path) -> Topology:
    """Read and check a topology file; raise TopologyError for anything that a lab could not be made of."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TopologyError(path, "file", str(path), error.strerror or "cannot be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TopologyError(path, "file", str(path), f"is not YAML: {error}") from error
    return _Reader(path).topology(document)


class _Reader:
    """Turns the parsed document into a Topology, knowing the file's name for the messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.networks: dict[str, tuple[Prefix, ...]] = {}
        self.taken: dict[tuple[str, object], str] = {}

    def topology(self, document: object) -> Topology:
        top = self._mapping("topology", document, {"suite", "networks", "routers", "hosts"})
        for name, prefixes in self._mapping("networks", top.get("networks")).items():
            self._name(f"networks.{name}", name, INTERFACE)
            given = self._list(f"networks.{name}", prefixes)
            self.networks[name] = tuple(self._prefix(f"networks.{name}", prefix) for prefix in given)
        routers = {
            name: self._router(name, value) for name, value in self._mapping("routers", top.get("routers", {})).items()
        }
        hosts = {name: self._host(name, value) for name, value in self._mapping("hosts", top.get("hosts")).items()}
        if not hosts:
            self._fail("hosts", hosts, "a lab needs at least one host")
        for name in hosts.keys() & routers.keys():
            self._fail(f"hosts.{name}", name, "a router has the same name")
        topology = Topology(self._suite("suite", top.get("suite", DEFAULT_SUITE)), self.networks, routers, hosts)
        for host in hosts.values():
            self._check_gateway(topology, host)
        return topology

    def _router(self, name: str, value: object) -> Router:
        key = f"routers.{name}"
        self._name(key, name)
        given = dict(self._mapping(key, value))
        rules = given.pop("nftables", "")
        if not isinstance(rules, str):
            self._fail(f"{key}.nftables", rules, "must be text")
        translation = given.pop("nat", None)
        interfaces = self._interfaces(key, given)
        if translation is None:
            return Router(name, interfaces, rules)
        translation = self._mapping(f"{key}.nat", translation, {"outside", "kind"})
        outside, kind = translation.get("outside"), translation.get("kind")
        if outside not in [interface.name for interface in interfaces]:
            self._fail(f"{key}.nat.outside", outside, "is no interface of the router")
        if kind not in nat.KINDS:
            self._fail(f"{key}.nat.kind", kind, f"must be one of {', '.join(nat.KINDS)}")
        translated = frozenset(interface.network for interface in interfaces if interface.name != outside)
        return Router(name, interfaces, nat.rules(kind, outside) + rules, translated)

    def _host(self, name: str, value: object) -> Host:
        key = f"hosts.{name}"
        self._name(key, name)
        keys = {"interfaces", "gateway", "suite", "firewalld", "files", "services"}
        keys |= {"manager", "resolver", "nameservers"}
        given = self._mapping(key, value, keys)
        firewalld = given.get("firewalld", True)
        if not isinstance(firewalld, bool):
            self._fail(f"{key}.firewalld", firewalld, "must be true or false")
        manager = given.get("manager", NETWORKD)
        if manager not in MANAGERS:
            self._fail(f"{key}.manager", manager, f"must be one of {', '.join(MANAGERS)}")
        resolver = given.get("resolver", RESOLVED)
        if not isinstance(resolver, str) or resolver not in RESOLVERS:
            self._fail(f"{key}.resolver", resolver, f"must be one of {', '.join(RESOLVERS)}")
        if manager not in RESOLVERS[resolver]:
            self._fail(f"{key}.resolver", resolver, f"needs a manager that is {' or '.join(RESOLVERS[resolver])}")
        gateway = given.get("gateway")
        if gateway is not None and not isinstance(gateway, str):
            self._fail(f"{key}.gateway", gateway, "must be the name of a router or host")
        files = self._mapping(f"{key}.files", given.get("files", {}))
        for path, content in files.items():
            if not path.startswith("/") or ".." in path.split("/") or not isinstance(content, str):
                self._fail(f"{key}.files", {path: content}, "must map an absolute path to text")
        services = self._list(f"{key}.services", given.get("services", []))
        suite = given.get("suite")
        return Host(
            name=name,
            interfaces=self._interfaces(f"{key}.interfaces", given.get("interfaces")),
            gateway=gateway,
            suite=None if suite is None else self._suite(f"{key}.suite", suite),
            firewalld=firewalld,
            manager=manager,
            resolver=resolver,
            nameservers=tuple(
                self._nameserver(f"{key}.nameservers", server)
                for server in self._list(f"{key}.nameservers", given.get("nameservers", []))
            ),
            files=files,
            services=tuple(self._name(f"{key}.services", s, re.compile(r"[\w@.-]+\.\w+")) for s in services),
        )

    def _interfaces(self, key: str, value: object) -> tuple[Interface, ...]:
        found = []
        for name, given in self._mapping(key, value).items():
            self._name(f"{key}.{name}", name, INTERFACE)
            one = self._mapping(f"{key}.{name}", given, {"network", "addresses"})
            network = one.get("network")
            if not isinstance(network, str) or network not in self.networks:
                self._fail(f"{key}.{name}.network", network, "no such network in the file")
            addresses = self._list(f"{key}.{name}.addresses", one.get("addresses"))
            found.append(
                Interface(name, network, tuple(self._address(f"{key}.{name}.addresses", network, a) for a in addresses))
            )
        if not found:
            self._fail(key, value, "needs at least one interface")
        return tuple(found)

    def _address(self, key: str, network: str, value: object) -> Address:
        try:
            address = ipaddress.ip_address(str(value))
        except ValueError:
            self._fail(key, value, "is not an IP address")
        for prefix in self.networks[network]:
            if address in prefix:
                holder = self.taken.setdefault((network, address), key)
                if holder != key:
                    self._fail(key, value, f"is already taken by {holder}")
                return ipaddress.ip_interface(f"{address}/{prefix.prefixlen}")
        self._fail(key, value, f"is in no prefix of the network {network}")

    def _nameserver(self, key: str, value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        try:
            return ipaddress.ip_address(str(value))
        except ValueError:
            self._fail(key, value, "is not an IP address")

    def _prefix(self, key: str, value: object) -> Prefix:
        try:
            return ipaddress.ip_network(str(value))
        except ValueError as error:
            self._fail(key, value, f"is not a prefix: {error}")

    def _check_gateway(self, topology: Topology, host: Host) -> None:
        key = f"hosts.{host.name}.gateway"
        if host.gateway is None:
            return
        if host.gateway == host.name or host.gateway not in {*topology.routers, *topology.hosts}:
            self._fail(key, host.gateway, "no such router or other host in the file")
        if not topology.gateways(host):
            self._fail(key, host.gateway, "is on none of the host's networks")

    def _suite(self, key: str, value: object) -> str:
        if value not in SUITES:
            self._fail(key, value, f"must be one of {', '.join(SUITES)}")
        return str(value)

    def _name(self, key: str, value: object, pattern: re.Pattern[str] = NAME) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self._fail(key, value, f"must match {pattern.pattern}")
        return value

    def _mapping(self, key: str, value: object, known: set[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            self._fail(key, value, "must be a mapping with text keys")
        for name in [] if known is None else sorted(value.keys() - known):
            self._fail(f"{key}.{name}", value[name], f"is not a key here; known are {', '.join(sorted(known or ()))}")
        return value

    def _list(self, key: str, value: object) -> list[Any]:
        if not isinstance(value, list):
            self._fail(key, value, "must be a list")
        return value

    def _fail(self, key: str, value: object, problem: str) -> NoReturn:
        raise TopologyError(self.path, key, value, problem)
