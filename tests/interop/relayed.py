"""A beacon with a real agent, and WireGuard interfaces around it that reach its relay and nothing else.

Each has a wire of its own to the beacon, which forwards no packet: whatever passes between two of them, the relay does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.interop.agents import Mesh, run
from tests.interop.hostile import BEACON_PORT
from tests.interop.test_agent_beacon import wait
from tests.interop.wireguard import Interface, Namespace

from sennit.netmap.model import KIND_NODE, Node

RELAY_PORT = 21473
KEEPALIVE = ("persistent-keepalive", "25")


class Relayed:
    """``beacon`` is the host of the relay; join() adds interfaces, and publish() makes nodes of them."""

    def __init__(self, mesh: Mesh, stack: ExitStack) -> None:
        self.beacon = mesh.hosts[0]
        self._mesh = mesh
        self._stack = stack
        self._version = 0
        self.nodes: list[Interface] = []
        self._number = 0

    def wire(self, *families: int) -> tuple[Namespace, int]:
        """A namespace with a wire to the beacon and addresses on it, and its number."""
        self._number += 1
        number = self._number
        namespace = self._stack.enter_context(Namespace(f"n{number}"))
        theirs = f"to{number}"
        namespace.ip("link", "add", "eth0", "type", "veth", "peer", "name", theirs, "netns", self.beacon.namespace)
        namespace.ip("link", "set", "eth0", "up")
        run("ip", "-n", self.beacon.namespace, "link", "set", theirs, "up")
        for family in families or (4, 6):
            near, far, length = _addresses(family, number)
            namespace.address("eth0", f"{near}/{length}")
            options = ["nodad"] if family == 6 else []
            run("ip", "-n", self.beacon.namespace, "addr", "add", f"{far}/{length}", "dev", theirs, *options)
        return namespace, number

    def join(self, implementation: str, *families: int) -> Interface:
        """An interface behind a wire of its own, with addresses of these families (both)."""
        namespace, number = self.wire(*families)
        interface = Interface(namespace, implementation, f"100.64.1.{number}/10", f"fd5e::1:{number}/48")
        interface.relay = _endpoint(families[0] if families else 4, number)  # type: ignore[attr-defined]
        interface.inner = f"100.64.1.{number}", f"fd5e::1:{number}"  # type: ignore[attr-defined]
        self.nodes.append(interface)
        return interface

    def publish(self, *left_out: Interface) -> None:
        """Have the beacon use a map of all of them but those."""
        self._version += 1
        nodes = [
            Node(interface.name, KIND_NODE, base64.b64decode(interface.public_key), interface.inner)  # type: ignore[attr-defined]
            for interface in self.nodes
            if interface not in left_out
        ]
        self.beacon.apply(self._mesh.netmap(self._version, self.beacon.node(beacon=BEACON_PORT), *nodes))

    @property
    def status(self) -> dict[str, object]:
        status: dict[str, object] = self.beacon.status()["beacon"]["relay"]
        return status

    def wait_attached(self, count: int) -> None:
        wait(lambda: self.status["attached"] == count, f"{count} attached\n{self.status}\n{self.beacon.log}")

    def attach(self, *interfaces: Interface) -> None:
        """As a node does it: the relay as a peer without allowed IPs, kept alive."""
        wait(lambda: self.status["public_key"] is not None, f"the relay\n{self.beacon.log}")
        for interface in interfaces:
            interface.set("peer", str(self.status["public_key"]), "endpoint", interface.relay, *KEEPALIVE)  # type: ignore[attr-defined]

    @staticmethod
    def introduce(one: Interface, two: Interface) -> None:
        """Each as a peer of the other, whose endpoint is the relay."""
        for near, far in ((one, two), (two, one)):
            near.know(far, ",".join(far.inner), "endpoint", near.relay)  # type: ignore[attr-defined]

    def pid(self) -> int:
        """The relay's process."""
        found = [pid for pid in self.beacon.workers() if Path(f"/proc/{pid}/comm").read_text() == "sennit-relay\n"]
        assert len(found) == 1, found
        return found[0]


@contextmanager
def relayed(directory: Path, **config: object) -> Iterator[Relayed]:
    with Mesh(directory, "alpha") as mesh, ExitStack() as stack:
        beacon = mesh.hosts[0]
        beacon.configure(**config)
        beacon.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
        beacon.start()
        yield Relayed(mesh, stack)


def _addresses(family: int, number: int) -> tuple[str, str, int]:
    if family == 4:
        return f"198.51.{number}.2", f"198.51.{number}.1", 24
    return f"2001:db8:{number}::2", f"2001:db8:{number}::1", 64


def _endpoint(family: int, number: int) -> str:
    far = _addresses(family, number)[1]
    return f"[{far}]:{RELAY_PORT}" if family == 6 else f"{far}:{RELAY_PORT}"
