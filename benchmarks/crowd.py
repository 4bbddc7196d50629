"""A crowd of nodes in one process, for a beacon that cannot tell them from as many agents.

Each node has its own key, its own UDP socket at its own underlay address, its own WireGuard device and its own mesh
addresses; its stream to the beacon is the agent's own client, over the kernel's TCP through that device. To be light,
they share one TUN device, and what each would do on a host of its own is done once: a map that the first has unpacked
is not unpacked again, nor is what all are told of where nodes are; and no map is verified or put into force. As agents
do, they say where they are, and keep a session with the beacon's relay.

Run in the crowd's network namespace by benchmarks/beacon.py, with a file that says who they are. It writes a line for
each thing that happens: what, the node's number, the time (monotonic, in seconds), and more.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from sennit.beacon import exchange, messages  # noqa: E402
from sennit.beacon.beacons import CLIENT_INTERVAL  # noqa: E402
from sennit.beacon.client import Client, Connection  # noqa: E402
from sennit.beacon.exchange import Delivered, Event, Offered  # noqa: E402
from sennit.beacon.messages import Kept, Place, Relay  # noqa: E402
from sennit.beacon.stream import Stream, StreamClosed, prepare  # noqa: E402
from sennit.datapath.coalesce import coalesce  # noqa: E402
from sennit.datapath.segment import segment  # noqa: E402
from sennit.datapath.tun import Tun  # noqa: E402
from sennit.netmap.admit import admit  # noqa: E402
from sennit.netmap.view import PeerView, derive  # noqa: E402
from sennit.preferences import DEFAULTS  # noqa: E402
from sennit.routing import Routing  # noqa: E402
from sennit.wireguard.device import Device, Output  # noqa: E402
from sennit.wireguard.events import Endpoint, PeerConfig, endpoint_of  # noqa: E402

INTERFACE = "crowd0"
# Seconds over which they come at first: no two hosts are started at once.
ARRIVAL = 10.0
_UDP_GRO = 104
_RELAY_KEEPALIVE = 25  # seconds
_READS = 64  # of a socket, before the others have their turn

# All get the same: on hosts of their own, each would do so at the same time.
exchange.unpack = functools.lru_cache(2)(exchange.unpack)
messages._message = functools.lru_cache(1024)(messages._message)
kept_of = functools.lru_cache(2)(Kept.of)


def say(what: str, number: int, *more: object) -> None:
    print(what, number, time.monotonic(), *more, flush=True)


class Underlay:
    """One node's end of the tunnel to the beacon, between its socket and the TUN device that all of them share."""

    def __init__(self, private_key: bytes, address: str, peer: PeerConfig, tun: Tun) -> None:
        self._device = Device(private_key, mtu=tun.mtu)
        self._tun = tun
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self._socket.bind((address, 0))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._receive)
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._put_out(self._device.set_peer(peer, *_times()))

    @property
    def endpoint(self) -> Endpoint:
        address: str
        address, port = self._socket.getsockname()
        return address, port

    def attach(self, relay: PeerConfig) -> None:
        """Keep a session with the relay."""
        self._put_out(self._device.set_peer(relay, *_times()))

    def send(self, packets: list[bytes]) -> None:
        """Packets that the kernel has for the beacon."""
        self._put_out(self._device.send(packets, *_times()))

    def _receive(self) -> None:
        for _read in range(_READS):
            try:
                data, ancillary, _flags, source = self._socket.recvmsg(65535, socket.CMSG_SPACE(4))
            except OSError:  # nothing there, or an error that an earlier packet met
                return
            size = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else len(data)
            datagrams = [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
            self._put_out(self._device.receive(datagrams, source, *_times()))

    def _advance(self) -> None:
        self._due = float("inf")
        self._put_out(self._device.advance(*_times()))

    def _put_out(self, output: Output) -> None:
        for datagram, path in output.datagrams:
            try:
                self._socket.sendto(datagram, endpoint_of(path))
            except OSError:  # as lost on the way
                say("unsent", 0)
        for frame in coalesce(output.packets, udp=self._tun.takes_udp):
            self._tun.write(frame)
        due = self._device.next_deadline()
        if due is None or due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._advance)


class Crowd:
    """All of them. ``nodes``: [{"private_key": base 16, "underlay", "addresses": [IPv4, IPv6]}]"""

    def __init__(self, nodes: list[dict[str, Any]], beacon: PeerView, peer: PeerConfig, kept: Kept, mtu: int) -> None:
        self._nodes = nodes
        self._beacon = beacon
        self._peer = peer
        self._kept = [kept] * len(nodes)
        self._tun = Tun(INTERFACE, mtu)
        self._underlays: dict[bytes, Underlay] = {}
        self._clients: list[_Client] = []

    async def run(self) -> None:
        self._make_way()
        asyncio.get_running_loop().add_reader(self._tun.fd, self._read)
        for number, node in enumerate(self._nodes):
            underlay = Underlay(bytes.fromhex(node["private_key"]), node["underlay"], self._peer, self._tun)
            for address in node["addresses"]:
                self._underlays[_packed(address)] = underlay
            self._clients.append(_Client(number, node["addresses"], self._beacon, self))
            await asyncio.sleep(ARRIVAL / len(self._nodes))
        await asyncio.Event().wait()

    def _make_way(self) -> None:
        commands = [f"link set {INTERFACE} up"]
        commands += [
            f"addr add {address}/{128 if ':' in address else 32} dev {INTERFACE}"
            for node in self._nodes
            for address in node["addresses"]
        ]
        commands += [f"route add {address} dev {INTERFACE}" for address in self._beacon.addresses]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def _read(self) -> None:
        for _read in range(_READS):
            frame = self._tun.read()
            if frame is None:
                return
            packets = segment(frame)
            underlay = self._underlays.get(_source(packets[0]))
            if underlay is not None:  # else the kernel's own, as for its neighbours
                underlay.send(packets)

    # --- streams

    def open(self, number: int, connection: Connection) -> Stream:
        interval = CLIENT_INTERVAL * random.uniform(0.7, 1.0)  # noqa: S311 (as the agent does)

        def heard(stream: Stream, event: Event) -> None:
            if isinstance(event, Offered):
                if stream.version is None:
                    say("served", number)
                stream.version = event.version
                if event.version > self._kept[number].version:
                    stream.ask(event)
            elif isinstance(event, Delivered):
                say("complete", number, event.offer.version)
                self._kept[number] = kept_of(event.signed, event.offer.version)
                stream.keep(self._kept[number])
                # As an agent does, to see whether it is still heard under the new map.
                stream.ping()
            elif isinstance(event, Relay) and event.offer and self._peer.endpoint:
                endpoint = (self._peer.endpoint[0], event.offer.port)
                underlay.attach(PeerConfig(event.offer.public_key, (), endpoint, _RELAY_KEEPALIVE))

        say("connected", number)
        underlay = self._underlays[_packed(self._nodes[number]["addresses"][0])]
        stream = Stream(self._beacon, connection, self._kept[number], interval, heard)
        stream.tell(Place((underlay.endpoint,)))
        return stream

    async def follow(self, number: int, stream: Stream) -> None:
        """Raises StreamClosed."""
        try:
            await stream.run()
        except StreamClosed as closed:
            say("closed", number, closed)
            raise


class _Client(Client):
    """The agent's, but for whose it is: here the kernel cannot know which node's address to take."""

    def __init__(self, number: int, addresses: list[str], beacon: PeerView, crowd: Crowd) -> None:
        self._addresses = addresses
        super().__init__(
            INTERFACE,
            beacon,
            lambda _beacon, connection: crowd.open(number, connection),
            functools.partial(crowd.follow, number),
        )

    async def _connect(self, address: str) -> Connection:
        own = next(each for each in self._addresses if (":" in each) == (":" in address))
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            prepare(connection, INTERFACE)
            connection.bind((own, 0))
            await asyncio.get_running_loop().sock_connect(connection, (address, self.beacon.beacon))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise


def _times() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _source(packet: bytes) -> bytes:
    return packet[8:24] if packet[0] >> 4 == 6 else packet[12:16]


def main(path: str) -> None:
    logging.disable()  # a line for each of them would be a crowd, too; what happens is said
    told = json.loads(Path(path).read_text())
    signed = Path(told["netmap"]).read_bytes()
    netmap = admit(signed, told["signing_key"], told["network"])
    view = derive(netmap, bytes.fromhex(told["public_key"]))  # that of the first; each has the same beacon
    (beacon,) = view.beacons
    peer = Routing(view, DEFAULTS).peer_config(beacon, tuple(told["endpoint"]))
    crowd = Crowd(told["nodes"], beacon, peer, kept_of(signed, netmap.version), told["mtu"])
    asyncio.run(crowd.run())


if __name__ == "__main__":
    main(sys.argv[1])
