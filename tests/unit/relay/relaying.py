"""A relay in memory, and devices that know each other's endpoint as the relay's."""

from __future__ import annotations

from tests.unit.wireguard.network import Datagram, Host, Network

from sennit.relay.forwarding import Forwarder, Sending
from sennit.wireguard.events import Endpoint, PeerConfig

RELAY = ("198.51.100.1", 21473)
FAST = 1e9


class Relay:
    """As a host of the network. ``device`` is what the network asks for deadlines."""

    def __init__(self, network: Network, rate: float = FAST, private_key: bytes = b"\7" * 32) -> None:
        self.network = network
        self.device = self.forwarder = Forwarder(private_key, rate, random=network.random.randbytes)
        network.hosts[RELAY] = self  # type: ignore[assignment]

    def serve(self, *nodes: Host) -> None:
        self.forwarder.use([node.public_key for node in nodes], self.network.now, self.network.wall)

    def take(self, data: bytes, source: Endpoint) -> None:
        self.take_joined(data, len(data), source)

    def take_joined(self, data: bytes, size: int, source: Endpoint) -> None:
        """As the kernel gives what it has joined."""
        self.send(self.forwarder.receive(memoryview(data), size, source, self.network.now, self.network.wall))

    def advance(self) -> None:
        self.send(self.forwarder.advance(self.network.now, self.network.wall))

    def send(self, sendings: list[Sending]) -> None:
        for datagrams, path in sendings:
            for datagram in datagrams:
                self.network.transmit(Datagram(bytes(datagram), RELAY, (path[0], path[1]), self.network.now))

    def attach(self, *nodes: Host) -> None:
        for node in nodes:
            config = PeerConfig(self.forwarder.public_key, (), RELAY, 25)
            node._take(node.device.set_peer(config, self.network.now, self.network.wall))
            node.advance()
        self.network.deliver()

    def sent_to(self, node: Host) -> list[bytes]:
        return [each.data for each in self.network.log if (each.source, each.destination) == (RELAY, node.endpoint)]


def know(one: Host, other: Host) -> None:
    """Have the relay as each other's endpoint."""
    for near, far in ((one, other), (other, one)):
        config = PeerConfig(far.public_key, (far.address + "/32",), RELAY)
        near._take(near.device.set_peer(config, near.network.now, near.network.wall))


def relayed(count: int = 2, rate: float = FAST) -> tuple[Network, Relay, list[Host]]:
    """A relay and nodes that are attached to it and know each other."""
    network = Network()
    relay = Relay(network, rate)
    hosts = [network.host(number) for number in range(1, count + 1)]
    relay.serve(*hosts)
    relay.attach(*hosts)
    for number, host in enumerate(hosts):
        for other in hosts[:number]:
            know(host, other)
    network.forget()
    return network, relay, hosts


def drops(relay: Relay) -> dict[str, int]:
    return {reason.removeprefix("relay-"): count for reason, count in relay.forwarder.drops.items()}
