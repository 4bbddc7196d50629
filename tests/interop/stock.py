"""A stock WireGuard peer: wireguard-go, driven by `wg`, in a namespace of the mesh."""

from __future__ import annotations

import subprocess

from tests.interop.agents import PORT, Host, run
from tests.interop.processes import ending, named

from sennit.netmap.model import KIND_STATIC, Node


class StockPeer:
    """wireguard-go on a host that has no agent, with the key and the addresses of that host."""

    def __init__(self, host: Host, program: str = "wireguard-go") -> None:
        """program: which wireguard-go, where it is not the one that is installed."""
        self.host = host
        self._program = program
        # Its control socket lies in one directory for all namespaces.
        self.interface = f"{host.mesh.prefix}w{host.number}"
        self._key = host.directory / "state/private.key"

    def __enter__(self) -> StockPeer:
        self._make()
        self.wg("set", self.interface, "listen-port", str(PORT), "private-key", str(self._key))
        self.host.run("ip", "link", "set", self.interface, "mtu", "1420", "up")
        self.host.run("ip", "addr", "add", f"{self.host.addresses[0]}/10", "dev", self.interface)
        self.host.run("ip", "addr", "add", f"{self.host.addresses[1]}/48", "dev", self.interface, "nodad")
        return self

    def _make(self) -> None:
        # It comes back when the interface is there and its control socket listens.
        self.host.run(self._program, self.interface)

    def __exit__(self, *_exception: object) -> None:
        pids = map(int, run("ip", "netns", "pids", self.host.namespace).split())
        with ending(*named("wireguard-go", pids)):
            self.host.run("ip", "link", "del", self.interface, check=False)

    def wg(self, *arguments: str) -> str:
        return self.host.run("wg", *arguments)

    def node(self, **changes: object) -> Node:
        """What the netmap says of it."""
        values = {"endpoint": f"{self.host.underlay[0]}:{PORT}", **changes}
        return Node(self.host.name, KIND_STATIC, self.host.public_key, self.host.addresses, **values)  # type: ignore[arg-type]

    def know(self, other: Host, *options: str) -> None:
        """Make the other host its peer."""
        allowed_ips = ",".join(other.addresses)
        self.wg("set", self.interface, "peer", encoded(other.public_key), "allowed-ips", allowed_ips, *options)

    def shown(self, what: str) -> str:
        """A field of `wg show` of its only peer."""
        return self.wg("show", self.interface, what).split("\t", 1)[1].strip()


class KernelPeer(StockPeer):
    """The kernel's own WireGuard instead, where it has one."""

    def _make(self) -> None:
        self.host.run("ip", "link", "add", self.interface, "type", "wireguard")


def encoded(public_key: bytes) -> str:
    return subprocess.run(["base64"], input=public_key, capture_output=True, check=True).stdout.decode().strip()


_SERVE = """
import socket, sys
listener = socket.create_server((sys.argv[1], 4000), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
connection, _ = listener.accept()
connection.settimeout(60)
with open(sys.argv[2], "wb") as file:
    while chunk := connection.recv(1 << 20):
        file.write(chunk)
"""

_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 4000), timeout=60) as connection, open(sys.argv[2], "rb") as file:
    connection.sendfile(file)
"""


def transfer(source: Host, destination: Host, address: str, content: bytes) -> bytes:
    """Send the content over TCP to an address of the destination; return what arrived there."""
    sent, received = source.directory / "sent", destination.directory / "received"
    sent.write_bytes(content)
    server = subprocess.Popen(
        ["ip", "netns", "exec", destination.namespace, "python3", "-c", _SERVE, address, str(received)],
        stdout=subprocess.PIPE,
    )
    try:
        if server.stdout is None or server.stdout.readline() != b"ready\n":
            raise AssertionError(f"cannot listen on {address}")
        source.run("python3", "-c", _SEND, address, str(sent))
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    return received.read_bytes()
