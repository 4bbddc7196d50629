"""WireGuard interfaces in network namespaces, whoever implements them, driven by `wg`; and captures of the wire."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop.agents import PACKAGE_ROOT, run
from tests.interop.namespaces import add_address, enter
from tests.interop.processes import ending
from tests.native import library

SENNIT = "sennit wireguard"
NATIVE = "sennit wireguard, native"
SEVERAL = "sennit wireguard, two queues"
SEVERAL_NATIVE = "sennit wireguard, native, three queues"
GO = "wireguard-go"
_SENNIT = (sys.executable, "-m", "sennit.launcher", "wireguard")
QUEUES = {SENNIT: 1, NATIVE: 1, SEVERAL: 2, SEVERAL_NATIVE: 3}
COMMANDS = {**dict.fromkeys(QUEUES, _SENNIT), GO: ("wireguard-go",)}
SOCKETS = Path("/var/run/wireguard")

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4
KEEPALIVE_LENGTH = 32

_PACKET_OUTGOING = 4
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 3, 0x0800, 0x86DD
_HOP_BY_HOP, _ICMPV6 = 0, 58
_numbers = itertools.count()


class Namespace:
    """A network namespace of the test's own."""

    def __init__(self, what: str) -> None:
        self.name = f"swg{os.getpid()}x{next(_numbers)}-{what}"
        self.interfaces: list[Interface] = []

    def __enter__(self) -> Namespace:
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_exception: object) -> None:
        for interface in self.interfaces:
            interface.end()
        run("ip", "netns", "del", self.name)

    def run(self, *command: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def join(self, other: Namespace, ours: str = "eth0", theirs: str = "eth0") -> None:
        """A wire between the two."""
        self.ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", other.name)
        self.ip("link", "set", ours, "up")
        other.ip("link", "set", theirs, "up")

    def address(self, device: str, *addresses: str) -> None:
        for address in addresses:
            add_address(address, device, self.name)

    def sysctl(self, **values: object) -> None:
        for key, value in values.items():
            self.run("sysctl", "-qw", f"{key.replace('__', '.')}={value}")

    def pids(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.name).split()]

    def ping(self, address: str, *options: str, wait: int = 10) -> None:
        """One that must be answered."""
        self.run("ping", "-n", "-c", "1", "-W", str(wait), *options, address)

    def ping_in_vain(self, address: str, *options: str) -> None:
        """One that must not be answered, for as long as an answer could take."""
        result = subprocess.run(
            ["ip", "netns", "exec", self.name, "ping", "-n", "-c", "1", "-W", "1", *options, address],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert " 0 received" in result.stdout, result.stdout + result.stderr


class Interface:
    """A WireGuard interface, up and with a key of its own."""

    def __init__(self, namespace: Namespace, implementation: str, *addresses: str, port: int = 51820) -> None:
        # Their control sockets lie in one directory for all namespaces.
        self.name = f"w{os.getpid() % 100000}x{next(_numbers)}"
        self.namespace = namespace
        self.implementation = implementation
        before = set(namespace.pids())
        # The command comes back when the interface is there and its socket listens.
        core = str(library()) if implementation in (NATIVE, SEVERAL_NATIVE) else "none"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1",
                       "SENNIT_NATIVE": core, "SENNIT_QUEUES": str(QUEUES.get(implementation, 1))}  # fmt: skip
        subprocess.run(
            ["ip", "netns", "exec", namespace.name, *COMMANDS[implementation], self.name],
            env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes = sorted(set(namespace.pids()) - before)
        namespace.interfaces.append(self)
        namespace.ip("link", "set", self.name, "addrgenmode", "none")
        self.port = port
        self.new_key()
        self.set("listen-port", str(port))
        namespace.ip("link", "set", self.name, "up")
        namespace.address(self.name, *addresses)

    @property
    def socket(self) -> Path:
        return SOCKETS / f"{self.name}.sock"

    def new_key(self) -> str:
        """Make a key the interface's; return the public one."""
        private_key = run("wg", "genkey")
        self.public_key = subprocess.run(
            ["wg", "pubkey"], input=private_key, capture_output=True, text=True, check=True
        ).stdout.strip()
        self.wg("set", self.name, "private-key", "/dev/stdin", given=private_key)
        return self.public_key

    def wg(self, *arguments: str, given: str = "") -> str:
        result = subprocess.run(
            ["ip", "netns", "exec", self.namespace.name, "wg", *arguments],
            input=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise AssertionError(f"wg {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def set(self, *arguments: str, given: str = "") -> None:
        self.wg("set", self.name, *arguments, given=given)

    def know(self, other: Interface, allowed_ips: str, *options: str, given: str = "") -> None:
        """Make the other one a peer, or change it."""
        self.set("peer", other.public_key, "allowed-ips", allowed_ips, *options, given=given)

    def shown(self, what: str) -> dict[str, list[str]]:
        """A field of `wg show` by peer."""
        lines = (line.split("\t") for line in self.wg("show", self.name, what).splitlines())
        return {key: [word for value in values for word in value.split()] for key, *values in lines}

    def transfer(self, other: Interface) -> tuple[int, int]:
        """Bytes received from the peer, and sent to it."""
        received, sent = map(int, self.shown("transfer")[other.public_key])
        return received, sent

    def endpoint(self, other: Interface) -> str:
        return self.shown("endpoints")[other.public_key][0]

    def handshake(self, other: Interface) -> int:
        """Seconds since the epoch, 0 for none."""
        return int(self.shown("latest-handshakes")[other.public_key][0])

    def end(self) -> None:
        """Remove the interface; its processes go."""
        with ending(*set(self.processes) & set(self.namespace.pids())):
            self.namespace.run("ip", "link", "del", self.name, check=False)


# --- the wire


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram on the wire; outgoing as the captured device sees it; length is that of the payload."""

    source: str
    destination: str
    outgoing: bool
    payload: bytes

    @property
    def kind(self) -> int:
        return self.payload[0]

    @property
    def length(self) -> int:
        return len(self.payload)

    @property
    def family(self) -> int:
        return 6 if "[" in self.source else 4


class Capture:
    """What passes a device, from now on. Only whole IP packets are looked at."""

    def __init__(self, namespace: Namespace, device: str = "eth0") -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            self._socket.bind((device, _ETH_P_ALL))

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def packets(self, timeout: float = 0.0) -> list[tuple[bytes, bool]]:
        """The IP packets of hosts that passed since the last call, and whether they went out; waits for a first one."""
        found: list[tuple[bytes, bool]] = []
        deadline = time.monotonic() + timeout
        while not found and select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, address = self._socket.recvfrom(1 << 17, socket.MSG_DONTWAIT)
                    if address[1] in (_ETH_P_IP, _ETH_P_IPV6) and not _is_housekeeping(packet):
                        found.append((packet, address[2] == _PACKET_OUTGOING))
        return found

    def datagrams(self, timeout: float = 0.0) -> list[Datagram]:
        """The UDP datagrams among them."""
        parsed = (_datagram(packet, outgoing) for packet, outgoing in self.packets(timeout))
        return [datagram for datagram in parsed if datagram is not None]

    def wait_for(self, wanted: Callable[[Datagram], bool], count: int = 1, timeout: float = 30.0) -> list[Datagram]:
        """Until so many have passed; returns all that passed meanwhile."""
        seen: list[Datagram] = []
        deadline = time.monotonic() + timeout
        while sum(map(wanted, seen)) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"{sum(map(wanted, seen))} of {count} within {timeout:g} s: {seen}"
            seen += self.datagrams(left)
        return seen


def _is_housekeeping(packet: bytes) -> bool:
    """Multicast listener reports and neighbour discovery, which every IPv6 link has."""
    return packet[0] >> 4 == 6 and (packet[6] == _HOP_BY_HOP or (packet[6] == _ICMPV6 and 130 <= packet[40] <= 143))


def _datagram(packet: bytes, outgoing: bool) -> Datagram | None:
    if packet[0] >> 4 == 4:
        at, protocol = (packet[0] & 15) * 4, packet[9]
        addresses = [str(ipaddress.ip_address(packet[start : start + 4])) for start in (12, 16)]
    else:
        at, protocol = 40, packet[6]
        addresses = [f"[{ipaddress.ip_address(packet[start : start + 16])}]" for start in (8, 24)]
    if protocol != socket.IPPROTO_UDP:
        return None
    ports = [int.from_bytes(packet[at + start : at + start + 2], "big") for start in (0, 2)]
    length = int.from_bytes(packet[at + 4 : at + 6], "big")
    return Datagram(f"{addresses[0]}:{ports[0]}", f"{addresses[1]}:{ports[1]}", outgoing, packet[at + 8 : at + length])


@contextlib.contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Sockets that are made here live in the namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        enter(f"/run/netns/{namespace.name}")
        yield
    finally:
        enter(f"/proc/self/fd/{home}")
        os.close(home)
