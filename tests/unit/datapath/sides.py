"""Workers in threads, and the peers they talk to, in a test's hands."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sennit.datapath.channel import Channel
from sennit.datapath.core import PYTHON
from sennit.datapath.udp import UdpSocket
from sennit.datapath.vnet import PLAIN
from sennit.datapath.worker import Report, SetPeer
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import Dropped, InstallKeypair
from sennit.wireguard.keypair import Keypair

PEER = b"p" * 32
PATIENCE = 10
LOCAL, REMOTE = 7, 9


def keypair(local: int = LOCAL, remote: int = REMOTE, *, age: float = 0.0, key: int = 1) -> Keypair:
    return Keypair(bytes([key]) * 32, bytes([key]) * 32, local, remote, time.monotonic() - age, initiator=False)


def lifetimes() -> Iterator[float]:
    """Seconds that a session has left, for tests of its end: as short as a busy machine lets them be."""
    left = 0.5
    while left < PATIENCE:
        yield left
        left *= 2


class Side:
    """A worker in a thread of its own, with all of its ends in our hands."""

    def __init__(self, work: Callable[[Side, Channel, Channel], Any], udp_socket: UdpSocket) -> None:
        self.udp = udp_socket
        self.control, own = Channel.pair()
        self.other, towards = Channel.pair()
        self.events: list[Any] = []
        self._reports = 0
        self._thread = threading.Thread(target=self._run, args=(work, own, towards))
        self._ends = own, towards

    def start(self) -> None:
        self._thread.start()

    def _run(self, work: Callable[[Side, Channel, Channel], Any], own: Channel, towards: Channel) -> None:
        with contextlib.suppress(EOFError, OSError):  # its channel is closed
            work(self, own, towards).run()

    def tell(self, *commands: Any) -> None:
        assert self.control.send(list(commands))

    def told(self) -> list[Any]:
        """What the worker has reported until now, since the last time."""
        self._reports += 1
        self.tell(Report(self._reports))
        while Report(self._reports) not in self.events:
            assert select.select([self.control.socket], [], [], PATIENCE)[0]
            while (message := self.control.receive()) is not None:
                self.events += message
        events, self.events = [each for each in self.events if not isinstance(each, Report)], []
        return events

    def close(self) -> None:
        self.control.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        for end in (self.other, *self._ends):
            end.close()


class Remote:
    """The peer's socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.endpoint = self.socket.getsockname()

    def take(self, count: int) -> list[bytes]:
        return [self.socket.recv(65536) for _ in range(count)]

    def send(self, port: int, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.socket.sendto(datagram, ("127.0.0.1", port))


def opened(datagrams: list[bytes], key: int = 1, index: int = REMOTE) -> list[bytes]:
    arrivals = PYTHON.arrivals()
    result = PYTHON.opener(bytes([key]) * 32, index).open(datagrams, 0, arrivals, lambda source: True, 1)
    assert (result.end, result.unauthentic, result.replayed) == (len(datagrams), 0, 0)
    return arrivals.packets()


def counters(datagrams: list[bytes]) -> list[int]:
    return [int.from_bytes(datagram[8:16], "little") for datagram in datagrams]


def sums(events: list[Any], kind: type) -> tuple[int, int]:
    """Packets and bytes."""
    found = [event for event in events if isinstance(event, kind)]
    return sum(event.packets for event in found), sum(event.bytes for event in found)


def drops(events: list[Any]) -> Counter[DropReason]:
    found: Counter[DropReason] = Counter()
    for event in events:
        if isinstance(event, Dropped):
            found[event.reason] += event.count
    return found


def sealer(key: int = 1, index: int = LOCAL) -> Callable[..., list[bytes]]:
    """Seals packets, each call under the next counters."""
    sealing = PYTHON.sealer(bytes([key]) * 32, index, 1420)
    return lambda *packets: [bytes(datagram) for datagram in sealing.seal(packets)[0]]


def frames(kernel: Any, count: int) -> list[bytes]:
    """The next packets, of frames that hold one each."""
    return [kernel.recv(65600)[len(PLAIN) :] for _ in range(count)]


def receive_on(side: Side, *keypairs: Keypair) -> None:
    side.tell(SetPeer(PEER, ("10.0.0.0/8",)), *(InstallKeypair(PEER, each) for each in keypairs))
    side.told()
