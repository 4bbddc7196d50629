"""The lab's network: every bridge and cable lives in a namespace of the lab's own.

A lab has one namespace that works as its switches (a bridge a network), one a router, and one a host. A cable is a
veth pair between a host's or router's namespace and the switch namespace; it is made across the namespaces, so
that nothing appears in the machine's own, not even for a moment.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import ip_batch, run
from .errors import LabError
from .topology import Host, Interface, Router, Topology

NETNS = Path("/run/netns")
PREFIX = "sennit-lab"
SWITCH = "_switch"  # no host can have this name: theirs have no underscore


def namespace(lab: str, name: str) -> str:
    """The name of a host's, a router's or the switches' network namespace."""
    return f"{PREFIX}.{lab}.{name}"


@dataclass(frozen=True)
class Cable:
    """A veth pair: `interface` inside the host, `port` on the bridge `network` in the switch namespace."""

    interface: str
    network: str
    port: str
    mac: str


def cables(lab: str, topology: Topology) -> dict[str, list[Cable]]:
    """The cables of every router and host, by its name. A MAC address stays the same over reboots and runs."""
    plan: dict[str, list[Cable]] = {}
    number = 0
    devices: list[Router | Host] = [*topology.routers.values(), *topology.hosts.values()]
    for device in devices:
        plan[device.name] = []
        for interface in device.interfaces:
            digest = hashlib.sha256(f"{lab}/{device.name}/{interface.name}".encode()).digest()
            mac = ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))  # 0x02: locally administered, unicast
            plan[device.name].append(Cable(interface.name, interface.network, f"port{number}", mac))
            number += 1
    return plan


def add_switches(lab: str, topology: Topology) -> None:
    """Make the switch namespace with a bridge for every network."""
    switch = namespace(lab, SWITCH)
    # A bridge only passes frames on; it must not answer for IPv6 itself.
    _add_namespace(switch, ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
    # Without snooping a bridge does not hold back the multicast that IPv6 neighbour discovery uses.
    options = "stp_state 0 forward_delay 0 mcast_snooping 0"
    ip_batch(
        switch,
        [f"link add name {name} up type bridge {options}" for name in topology.networks],
    )


def add_router(lab: str, topology: Topology, router: Router, plan: Iterable[Cable]) -> None:
    """Make a router's namespace, plug it in, and give it addresses, routes and rules."""
    name = namespace(lab, router.name)
    # Duplicates are ruled out by the topology, so that nothing has to wait for their detection.
    no_detection = "net.ipv6.conf.default.accept_dad=0"
    _add_namespace(name, ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", no_detection])
    _plug(lab, name, plan)
    ip_batch(name, ["link set lo up", *_addresses(router.interfaces)])
    ip_batch(name, [f"route add {prefix} via {hop}" for prefix, hop in topology.routes(router)])
    if router.nftables:
        run("ip", "netns", "exec", name, "nft", "--file", "-", stdin=router.nftables)


def add_host(lab: str, host: str, plan: Iterable[Cable]) -> None:
    """Make a host's namespace, as empty as a kernel that has just booted, and plug it in.

    Called at every boot: rules, routes, sysctls and interfaces of the boot before are gone, as on a real machine.
    """
    name = namespace(lab, host)
    plan = list(plan)
    if (NETNS / name).exists():
        for cable in plan:
            # The kernel removes a namespace's interfaces some time later; the port's name is needed now.
            run("ip", "-n", namespace(lab, SWITCH), "link", "delete", cable.port)
        run("ip", "netns", "delete", name)
    # A new namespace starts with the machine's own IPv4 forwarding, which a fresh host does not have.
    _add_namespace(name, ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"])
    _plug(lab, name, plan)


def remove(lab: str) -> None:
    """Remove every namespace of a lab, with the processes that are still in one (a capture, an SSH connection)."""
    for name in _namespaces(lab):
        _end_processes(name)
        run("ip", "netns", "delete", name)


def exists(lab: str) -> bool:
    """Whether any namespace of the lab is there."""
    return bool(_namespaces(lab))


def _namespaces(lab: str) -> list[str]:
    if not NETNS.is_dir():
        return []
    return sorted(path.name for path in NETNS.iterdir() if path.name.startswith(f"{PREFIX}.{lab}."))


def _add_namespace(name: str, sysctls: list[str]) -> None:
    run("ip", "netns", "add", name)
    run("ip", "netns", "exec", name, "sysctl", "-q", "-w", *sysctls)


def _plug(lab: str, name: str, plan: Iterable[Cable]) -> None:
    lines = []
    for cable in plan:
        lines.append(f"link add {cable.port} type veth peer name {cable.interface} address {cable.mac} netns {name}")
        lines.append(f"link set {cable.port} master {cable.network} up")
    ip_batch(namespace(lab, SWITCH), lines)


def _addresses(interfaces: Iterable[Interface]) -> Iterable[str]:
    for interface in interfaces:
        yield f"link set {interface.name} up"
        for address in interface.addresses:
            yield f"address add {address} dev {interface.name}"


def _end_processes(name: str, patience: float = 5.0) -> None:
    """Ask the processes in one of the lab's namespaces to end, then make them; raise LabError if that fails."""
    deadline = time.monotonic() + patience
    asked = signal.SIGTERM
    while pids := [int(pid) for pid in run("ip", "netns", "pids", name).split()]:
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(handle, asked)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)
        if time.monotonic() > deadline:
            if asked == signal.SIGKILL:
                raise LabError(f"processes {pids} in the namespace {name} cannot be ended")
            asked, deadline = signal.SIGKILL, time.monotonic() + patience
        time.sleep(0.05)
