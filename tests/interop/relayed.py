"""A beacon with a real agent, and WireGuard interfaces around it that reach its relay and nothing else.

Each has a wire of its own to the beacon, which forwards no packet: whatever passes between two of them, the relay does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.interop.agents import Mesh, run, wait
from tests.interop.hostile import BEACON_PORT
from tests.interop.namespaces import add_address
from tests.interop.processes import named
from tests.interop.wireguard import Interface, Namespace

from sennit.netmap.model import KIND_NODE, Node

RELAY_PORT = 21473


class Member:
    """A node: an interface behind a wire of its own. ``families``: of its underlay."""

    def __init__(self, relayed: Relayed, number: int, implementation: str, families: tuple[int, ...]) -> None:
        self.relayed = relayed
        self.number = number
        self.directory = relayed.directory / f"n{number}"
        self.directory.mkdir()
        self.net = relayed.stack.enter_context(Namespace(f"n{number}"))
        self.namespace = self.net.name
        self.port_of_beacon = f"to{number}"
        self.underlay = [f"198.51.{number}.2" if family == 4 else f"2001:db8:{number}::2" for family in families]
        self.relay = f"198.51.{number}.1:{RELAY_PORT}" if 4 in families else f"[2001:db8:{number}::1]:{RELAY_PORT}"
        self._plug_in(families)
        self.inner = (f"100.64.1.{number}", f"fd5e::1:{number}")
        self.interface = Interface(self.net, implementation, f"{self.inner[0]}/10", f"{self.inner[1]}/48")

    def _plug_in(self, families: tuple[int, ...]) -> None:
        beacon = self.relayed.beacon
        self.net.ip("link", "add", "eth0", "type", "veth", "peer", "name", self.port_of_beacon,
                    "netns", beacon.namespace)  # fmt: skip
        self.net.ip("link", "set", "eth0", "up")
        run("ip", "-n", beacon.namespace, "link", "set", self.port_of_beacon, "up")
        for family, address in zip(families, self.underlay, strict=True):
            length = 24 if family == 4 else 64
            self.net.address("eth0", f"{address}/{length}")
            add_address(f"{address[:-1]}1/{length}", self.port_of_beacon, beacon.namespace)

    @property
    def node(self) -> Node:
        return Node(f"n{self.number}", KIND_NODE, base64.b64decode(self.interface.public_key), self.inner)

    def run(self, *command: str, check: bool = True) -> str:
        return self.net.run(*command, check=check)

    def attach(self, keepalive: int = 25) -> None:
        """As every node does it: the relay is a peer without allowed IPs, kept alive."""
        self.interface.set("peer", self.relayed.public_key, "endpoint", self.relay, "persistent-keepalive",
                           str(keepalive))  # fmt: skip

    def know(self, other: Member) -> None:
        """The other's endpoint is the relay."""
        self.interface.know(other.interface, ",".join(other.inner), "endpoint", self.relay)

    def ping(self, other: Member, wait: int = 10) -> None:
        self.net.ping(other.inner[0], wait=wait)

    def ping_in_vain(self, other: Member) -> None:
        self.net.ping_in_vain(other.inner[0])


class Relayed:
    """``beacon`` is the host of the relay; join() makes members, publish() nodes of them."""

    def __init__(self, mesh: Mesh, stack: ExitStack) -> None:
        self.beacon = mesh.hosts[0]
        self.directory = mesh.directory
        self.stack = stack
        self.members: list[Member] = []
        self._mesh = mesh
        self._version = 0

    def join(self, implementation: str, *families: int) -> Member:
        member = Member(self, len(self.members) + 1, implementation, families or (4, 6))
        self.members.append(member)
        return member

    def publish(self, *left_out: Member, beacon: bool = True) -> None:
        """Have the beacon use a map of all but those."""
        self._version += 1
        nodes = [member.node for member in self.members if member not in left_out]
        own = self.beacon.node(**({"beacon": BEACON_PORT} if beacon else {}))
        self.beacon.apply(self._mesh.netmap(self._version, own, *nodes))

    def connect(self, *members: Member) -> None:
        """Publish them, attach them, and make each a peer of the others."""
        self.publish()
        for member in members:
            member.attach()
            for other in members:
                if other is not member:
                    member.know(other)
        self.wait_attached(len(members))

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.beacon.status()["beacon"]["relay"]
        return status

    @property
    def public_key(self) -> str:
        wait(lambda: self.status["public_key"] is not None, f"a relay\n{self.beacon.log}")
        return str(self.status["public_key"])

    def wait_attached(self, count: int) -> None:
        self._wait(lambda: self.status["attached"] == count, f"{count} attached")

    def wait_dropped(self, reason: str, count: int) -> None:
        """Counters come once in a second."""
        self._wait(lambda: self.status["drops"].get(reason, 0) >= count, f"{count} times {reason}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status}\n{self.beacon.log}") from None

    def pids(self) -> list[int]:
        """Of the relay's processes."""
        return named("sennit-relay", self.beacon.workers())


@contextmanager
def relayed(directory: Path, **config: object) -> Iterator[Relayed]:
    with Mesh(directory, "alpha") as mesh, ExitStack() as stack:
        beacon = mesh.hosts[0]
        beacon.configure(**config)
        beacon.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
        beacon.start()
        yield Relayed(mesh, stack)
