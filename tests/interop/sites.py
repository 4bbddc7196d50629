"""Hosts of a mesh that are moved behind routers, which translate addresses as those of the lab do."""

from __future__ import annotations

from sennit_lab.nat import rules
from tests.interop.agents import Host, Mesh, run


class Site:
    """A LAN, 192.168.N.0/24, behind a router that has the addresses .100+N on the mesh's switch."""

    def __init__(self, mesh: Mesh, number: int, kind: str, *hosts: Host) -> None:
        """kind: of NAT, see sennit_lab/nat.py. To be made before the hosts' agents are started."""
        self.namespace = f"{mesh.prefix}-r{number}"
        self.outside = f"192.0.2.{100 + number}"
        self.net = f"192.168.{number}"
        switch = f"{mesh.prefix}-sw"
        mesh.namespaces.append(self.namespace)
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "add", "out", "type", "veth", "peer", "name", f"r{number}",
            "netns", switch)  # fmt: skip
        run("ip", "-n", switch, "link", "set", f"r{number}", "master", "br0", "up")
        run("ip", "-n", self.namespace, "link", "add", "lan", "type", "bridge")
        for device in ("lo", "out", "lan"):
            run("ip", "-n", self.namespace, "link", "set", device, "up")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.outside}/24", "dev", "out")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.net}.1/24", "dev", "lan")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.translate(kind)
        for host in hosts:
            self.take_in(host)

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, *command)

    def translate(self, kind: str) -> None:
        """Be a NAT of this kind, from now on, and forget what was."""
        self.run("nft", f"flush ruleset; {rules(kind, 'out')}")

    def take_in(self, host: Host) -> None:
        """Move the host from where it is into this LAN, as another cable does."""
        run("ip", "-n", host.namespace, "link", "del", "eth0")
        run("ip", "-n", host.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", host.name,
            "netns", self.namespace)  # fmt: skip
        run("ip", "-n", self.namespace, "link", "set", host.name, "master", "lan", "up")
        run("ip", "-n", host.namespace, "link", "set", "eth0", "up")
        host.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1", check=False)
        host.run("ip", "addr", "add", f"{self.address_of(host)}/24", "dev", "eth0")
        host.run("ip", "route", "add", "default", "via", f"{self.net}.1")

    def address_of(self, host: Host) -> str:
        return f"{self.net}.{10 + host.number}"
