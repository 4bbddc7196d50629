"""A client, an exit node, the router of the client's LAN, a server beyond it and a printer in the LAN, on one switch.

The server is in prefixes of its own, which the client reaches by the router and the exit node directly: so whatever
would leave by the client's LAN would arrive.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.interop.agents import PATIENCE, Host, Mesh

BEYOND = ("198.51.100", "2001:db8:1:")
SERVER = ("198.51.100.4", "2001:db8:1::4")

# As role exit_node has it: to the outside masqueraded, to its own LAN not at all.
_GATEWAY = """
table inet exit {
    chain out { type nat hook postrouting priority 100; iifname "sennit0" oifname "eth0" masquerade; }
    chain through {
        type filter hook forward priority 0;
        iifname "sennit0" ip daddr 192.0.2.0/24 drop;
        iifname "sennit0" ip6 daddr 2001:db8::/64 drop;
    }
}
"""

_ECHO = """
import socket, sys
listener = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, address = listener.accept()
    connection.sendall(address[0].encode())
    connection.close()
"""

_ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 8000), timeout=float(sys.argv[2])) as connection:
    # To its end, which would be answered later otherwise, when somebody looks at what else leaves.
    answer = connection.makefile().read()
print(answer.replace("::ffff:", ""), end="")
"""

# What leaves by the client's port of the switch, until it is told to end. Passed over: ARP, neighbour discovery, MLD.
_CAPTURE = """
import select, socket, sys
capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
capture.bind((sys.argv[1], 0))
print("ready", flush=True)
while capture in select.select([capture, sys.stdin], [], [])[0]:
    frame, address = capture.recvfrom(65536)
    if address[2] == socket.PACKET_OUTGOING:
        continue
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == 0x0800:
        protocol, payload = packet[9], packet[4 * (packet[0] & 15) :]
    elif kind == 0x86DD:
        protocol, payload = packet[6], packet[40:]
        if protocol == 0:  # hop-by-hop options, as MLD has them
            protocol, payload = payload[0], payload[8 * (payload[1] + 1) :]
    else:
        protocol, payload = 0, b""
    if kind == 0x0806 or protocol == 58 and payload[0] in (133, 135, 136, 143):
        continue
    if protocol == 17 and payload[:2] == b"\\xca\\x6c":
        print("wireguard", flush=True)
    else:
        print("other", packet.hex(), flush=True)
"""


class Internet:
    """``client`` and ``exit`` have agents that run, and a map in which the exit node is approved."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.client, self.exit, self.router, self.server, self.printer = mesh.hosts

    def build(self) -> None:
        for host in (self.exit, self.router, self.server):
            host.run("ip", "addr", "add", f"{BEYOND[0]}.{host.number}/24", "dev", "eth0")
            host.run("ip", "addr", "add", f"{BEYOND[1]}:{host.number}/64", "dev", "eth0", "nodad")
        for host in (self.exit, self.router):
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.exit.run("nft", _GATEWAY)
        via = self.router.underlay
        for host in (self.client, self.printer):
            host.run("ip", "route", "add", "default", "via", via[0])
            host.run("ip", "-6", "route", "add", "default", "via", via[1])
        # The server is beyond the router only.
        for address, length in zip(self.server.underlay, (24, 64)):
            self.server.run("ip", "addr", "del", f"{address}/{length}", "dev", "eth0")
        self.server.run("ip", "route", "add", "default", "via", f"{BEYOND[0]}.{self.router.number}")
        self.server.run("ip", "-6", "route", "add", "default", "via", f"{BEYOND[1]}:{self.router.number}")

    def netmap(self, version: int, exit_node: str | None = "approved") -> bytes:
        return self.mesh.netmap(version, self.client.node(), self.exit.node(exit_node=exit_node))

    def start(self) -> None:
        for host in (self.client, self.exit):
            host.start()
            host.apply(self.netmap(1))

    def seen_by(self, host: Host, *addresses: str, timeout: float = 20) -> list[str]:
        """The client's address as the host sees it, for each of the host's addresses; "" where there is no answer."""
        return [
            self.client.run(sys.executable, "-c", _ASK, address, f"{timeout}", check=False) for address in addresses
        ]

    @contextlib.contextmanager
    def listening(self, *hosts: Host) -> Iterator[None]:
        """These hosts tell who asks whom they see."""
        servers = [_run(host.namespace, _ECHO) for host in hosts]
        try:
            yield
        finally:
            for server in servers:
                server.terminate()
                server.communicate(timeout=PATIENCE)

    @contextlib.contextmanager
    def captured(self) -> Iterator[list[str]]:
        """What the client sends into its LAN: a line a packet, "wireguard" or "other ..."; complete after the block."""
        lines: list[str] = []
        capture = _run(f"{self.mesh.prefix}-sw", _CAPTURE, self.client.name)
        try:
            yield lines
        finally:
            lines += capture.communicate(timeout=PATIENCE)[0].splitlines()


def _run(namespace: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise AssertionError(f"the program did not start in {namespace}")
    return process
