"""Devices in memory, joined by a network whose clock is moved by hand."""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sennit.wireguard.batch import Core
from sennit.wireguard.constants import TYPE_TRANSPORT
from sennit.wireguard.cookie import CookieJar
from sennit.wireguard.device import Device, Output
from sennit.wireguard.events import Command, Endpoint, PeerConfig
from sennit.wireguard.peer import PeerStatus

WALL_START = 1_700_000_000.0


@dataclass(frozen=True)
class Datagram:
    """One datagram under way."""

    data: bytes
    source: Endpoint
    destination: Endpoint
    sent_at: float

    @property
    def type(self) -> int:
        return self.data[0]


def ipv4(source: str, destination: str, payload: bytes = b"") -> bytes:
    """An IPv4 packet (UDP by its protocol number; nothing here looks at checksums)."""
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0, packed(source), packed(destination)
    )
    return header + payload


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


@dataclass(eq=False)
class Host:
    """A device, where it is on the network, and what came out of it."""

    network: Network
    device: Device
    address: str
    endpoint: Endpoint
    received: list[bytes] = field(default_factory=list)
    news: list[Command] = field(default_factory=list)

    @property
    def public_key(self) -> bytes:
        return self.device.public_key

    def knows(self, other: Host, *, endpoint: bool = True, keepalive: int = 0, psk: bytes = bytes(32)) -> None:
        """Configure the other host as a peer."""
        config = PeerConfig(
            other.public_key, (other.address + "/32",), other.endpoint if endpoint else None, keepalive, psk
        )
        self._take(self.device.set_peer(config, self.network.now, self.network.wall))

    def send(self, other: Host, payload: bytes = b"hello", count: int = 1) -> None:
        """Send data packets from the TUN side."""
        self.send_to(other.address, payload, count)

    def send_to(self, address: str, payload: bytes, count: int = 1) -> None:
        packets = [ipv4(self.address, address, payload)] * count
        self._take(self.device.send(packets, self.network.now, self.network.wall))

    def take(self, data: bytes, source: Endpoint) -> None:
        """Take a datagram from the network side."""
        self._take(self.device.receive([data], source, self.network.now, self.network.wall))

    def probe(self, other: Host, *endpoints: Endpoint) -> None:
        """Ask the other host to answer from one of these."""
        self.device.control.probe(other.public_key, endpoints, self.network.now, self.network.wall)
        self.advance()

    def move(self, other: Host, endpoint: Endpoint) -> None:
        """Send to the other host there."""
        self.device.control.move(other.public_key, endpoint, self.network.now)
        self.advance()

    def advance(self) -> None:
        self._take(self.device.advance(self.network.now, self.network.wall))

    def status(self, other: Host) -> PeerStatus:
        return self.device.status()[other.public_key]

    def payloads(self) -> list[bytes]:
        """What was received since the last call, without the IPv4 headers."""
        payloads = [packet[20:] for packet in self.received]
        self.received.clear()
        return payloads

    def _take(self, output: Output) -> None:
        self.received += output.packets
        self.news += output.news
        for data, destination in output.datagrams:
            self.network.transmit(Datagram(data, self.endpoint, destination, self.network.now))


class Nat:
    """A router that gives inside endpoints ports of its own address (RFC 4787).

    address_dependent: lets in only whom the inside endpoint has sent to; symmetric: with a port for each destination.
    """

    def __init__(self, address: str, *, address_dependent: bool = False, symmetric: bool = False) -> None:
        self.address = address
        self._address_dependent = address_dependent or symmetric
        self._symmetric = symmetric
        self._ports: dict[tuple[Endpoint, Endpoint | None], int] = {}
        self._inside: dict[int, Endpoint] = {}
        self._asked: set[tuple[int, str]] = set()

    def outwards(self, source: Endpoint, destination: Endpoint) -> Endpoint:
        """What the source looks like from outside."""
        key = (source, destination if self._symmetric else None)
        port = self._ports.setdefault(key, 20000 + len(self._ports))
        self._inside[port] = source
        self._asked.add((port, destination[0]))
        return self.address, port

    def inwards(self, port: int, source: Endpoint) -> Endpoint | None:
        """Whom this is for, if anybody."""
        if self._address_dependent and (port, source[0]) not in self._asked:
            return None
        return self._inside.get(port)


class Network:
    """Carries datagrams in order, until told otherwise.

    `lose` says of each datagram whether it gets lost; everything ever sent is in `log`.
    """

    def __init__(self, seed: int = 0, core: Core | None = None) -> None:
        self.core = core
        self.now = 1000.0
        self.hosts: dict[Endpoint, Host] = {}
        self.behind: dict[Endpoint, Nat] = {}
        """The NAT that an endpoint is behind."""
        self.relays: dict[Endpoint, dict[Endpoint, Endpoint]] = {}
        """Of each relay, whose datagrams go to whom."""
        self.in_flight: deque[Datagram] = deque()
        self.log: list[Datagram] = []
        self.lose: Callable[[Datagram], bool] = lambda datagram: False
        self.random = random.Random(seed)
        self.set_back = 0.0

    @property
    def wall(self) -> float:
        return WALL_START + self.now - self.set_back

    def host(self, number: int) -> Host:
        device = Device(self.random.randbytes(32), random=self.random.randbytes, core=self.core)
        host = Host(self, device, f"10.0.0.{number}", (f"192.0.2.{number}", 51820))
        self.hosts[host.endpoint] = host
        return host

    def pair(self, **options: object) -> tuple[Host, Host]:
        """Two hosts that know each other and each other's endpoint."""
        one, two = self.host(1), self.host(2)
        one.knows(two, **options)
        two.knows(one, **options)
        return one, two

    def move(self, host: Host, endpoint: Endpoint) -> None:
        """Give the host another address on the network."""
        del self.hosts[host.endpoint]
        host.endpoint = endpoint
        self.hosts[endpoint] = host

    def transmit(self, datagram: Datagram) -> None:
        nat = self.behind.get(datagram.source)
        inside = nat is not None and self.behind.get(datagram.destination) is nat
        if nat is not None and not inside:
            datagram = replace(datagram, source=nat.outwards(datagram.source, datagram.destination))
        self.log.append(datagram)
        if not self.lose(datagram):
            self.in_flight.append(datagram)

    def deliver(self) -> None:
        """Carry what is under way, and what comes of it, until all is quiet."""
        while self.in_flight:
            self.deliver_one()

    def deliver_one(self) -> None:
        """Carry the oldest datagram."""
        datagram = self.in_flight.popleft()
        routes = self.relays.get(datagram.destination)
        if routes is not None:
            if datagram.source in routes:
                self.transmit(Datagram(datagram.data, datagram.destination, routes[datagram.source], self.now))
            return
        destination: Endpoint | None = datagram.destination
        for nat in self.behind.values():
            if nat.address == datagram.destination[0]:
                destination = nat.inwards(datagram.destination[1], datagram.source)
        host = self.hosts.get(destination) if destination else None
        if host is not None:
            host.take(datagram.data, datagram.source)

    def take_in_flight(self) -> list[Datagram]:
        """Take what is under way off the network, to do with it what the test likes."""
        datagrams = list(self.in_flight)
        self.in_flight.clear()
        return datagrams

    def elapse(self, seconds: float) -> None:
        """Let time pass: timers fire when they are due, and what they send arrives at once."""
        end = self.now + seconds
        self.deliver()
        while True:
            deadlines = [host.device.next_deadline() for host in self.hosts.values()]
            due = min((deadline for deadline in deadlines if deadline is not None), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            for host in list(self.hosts.values()):
                host.advance()
            self.deliver()
            if due >= end:
                break
        self.now = end

    def sent(self, kind: int, source: Host | None = None) -> list[Datagram]:
        """All datagrams of a message type ever sent, by one host or by all."""
        return [
            datagram
            for datagram in self.log
            if datagram.type == kind and (source is None or datagram.source == source.endpoint)
        ]

    def forget(self) -> None:
        """Empty the log."""
        self.log.clear()


def is_keepalive(datagram: Datagram) -> bool:
    return datagram.type == TYPE_TRANSPORT and len(datagram.data) == 32


def with_mac1(message: bytes, receiver: Host) -> bytes:
    """A handshake message as anybody can complete it who knows the receiver's public key."""
    return CookieJar(receiver.public_key).add_macs(message, 0.0)
