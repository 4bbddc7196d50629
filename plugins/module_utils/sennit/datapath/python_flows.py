# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python's flows: what waits together goes its way as batches, and a packet that comes alone by a shorter way.

See flow.py for what they are to a worker. Whoever slept finds one packet, mostly, and somebody waits for it. After a
sleep a line of Python costs several times what it does in a loop, since nothing of it is in the processor's caches any
more. So the short way has few of them, and what can wait until the packet has left does. It is for packets like those
before, by destination or by keypair and sender. All else is for the worker to decide.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, cast

from ..wireguard.batch import MAX_PAYLOAD, Arrivals, PythonOpener, PythonSealer, destination_of
from ..wireguard.constants import TRANSPORT_OVERHEAD
from ..wireguard.errors import PacketError
from ..wireguard.events import AskForCookies, Path
from ..wireguard.inbound import KnownSource
from ..wireguard.outbound import KnownDestination
from .channel import Channel, any_waits
from .flow import BUDGET, ENOUGH, MOST_HELD, Incoming, Outgoing
from .segment import segment
from .sticky import Ancillary
from .tun import Tun
from .udp import UdpSocket
from .vnet import PLAIN

if TYPE_CHECKING:
    from .core import DatapathCore


_VNET = len(PLAIN)


class _Route(NamedTuple):
    """How a datagram to one destination leaves."""

    sealer: PythonSealer
    expires_at: float
    path: Path
    address: tuple[Any, ...]
    ancillary: Ancillary


class PythonOutflow:
    """See flow.Outflow."""

    def __init__(self, core: DatapathCore, tun: Tun, udp: UdpSocket, channels: Sequence[Channel], taking: bool) -> None:
        self.learns = False
        self._core = core
        self._tun = tun
        self._udp = udp
        self._channels = channels
        self._poll = select.poll()
        for channel in channels:
            self._poll.register(channel.socket, select.POLLIN)
        self._routes: dict[bytes, _Route] = {}
        if taking:
            self.take_packets()

    def take_packets(self) -> None:
        self._poll.register(self._tun.fd, select.POLLIN)

    def wait(self, timeout: Optional[float]) -> Outgoing:
        tun, poll, worked = self._tun, self._poll.poll, False
        until = _end_of(timeout)
        while True:
            ready = poll(0)
            if ready:
                return self._several(ready, worked)
            ready = poll(timeout)
            if len(ready) != 1 or ready[0][0] != tun.fd:
                return Outgoing(commands=bool(ready), worked=worked)
            frame = tun.read()
            if frame is None:
                return Outgoing(worked=worked)
            try:
                packets = [frame[_VNET:]] if frame.startswith(PLAIN) else segment(frame)
            except PacketError:
                return Outgoing(malformed=1, worked=True)
            packet = packets[0]
            route = self._routes.get(destination_of(packet)) if len(packets) == 1 else None
            now = time.monotonic()
            # They may be about the packet: it may answer what the other worker has received a moment ago.
            commands = any_waits(self._channels)
            if commands or route is None or now >= route.expires_at or not route.sealer.ready(1):
                self.learns = len(packets) == 1
                return Outgoing(commands, (packets,), worked=True)
            datagram = route.sealer.seal_one(packet)
            try:
                self._udp.socket.sendmsg((datagram,), route.ancillary, 0, route.address)
            except OSError:
                return Outgoing(unsent=(route.path, (datagram,)), worked=True)
            finally:
                route.sealer.count(len(datagram), now)
            if now >= until:
                return Outgoing(worked=True)
            worked, timeout = True, (until - now) * 1000

    def _several(self, ready: list[tuple[int, int]], worked: bool) -> Outgoing:
        """There may be more than one packet: they go as batches."""
        self.learns = False
        descriptors = {descriptor for descriptor, _events in ready}
        if self._tun.fd not in descriptors:
            return Outgoing(commands=True, worked=worked)
        runs, malformed = self._core.read(self._tun, BUDGET)
        return Outgoing(len(descriptors) > 1, runs, malformed, worked=True)

    def learn(self, known: KnownDestination) -> None:
        way = self._udp.way(known.path)
        if way is None:
            return
        if len(self._routes) >= MOST_HELD:
            self._routes.clear()
        address, ancillary, _below = way
        sealer = cast(PythonSealer, known.sealer)
        self._routes[known.destination] = _Route(sealer, known.expires_at, known.path, address, ancillary)

    def forget(self) -> None:
        self._routes.clear()


class _Lane(NamedTuple):
    """How a datagram on one keypair is taken."""

    source: Path
    opener: PythonOpener
    known: KnownSource


class PythonInflow:
    """See flow.Inflow. A turn is several receives and one write."""

    def __init__(self, core: DatapathCore, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> None:
        self.learns = False
        self.arrivals: Arrivals = core.arrivals()
        self._core = core
        self._tun = tun
        self._udp = udp
        self._channels = channels
        self._descriptor = udp.socket.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        for channel in channels:
            self._poll.register(channel.socket, select.POLLIN)
        self._turn = False
        self._left = 0
        self._lanes: dict[bytes, _Lane] = {}  # by what datagrams begin with
        self._source: Path = ("", 0)  # of what was received last

    def wait(self, timeout: Optional[float]) -> Incoming:
        if not self._turn:
            found = self._alone(timeout)
            if found is not None:
                return found
        if self._left > 0 and not self.arrivals.full():
            received = self._udp.receive(self.arrivals.space())
            if received is not None:
                return self._for_the_worker(received)
        self._turn = False
        return Incoming(failed=self._core.write(self._tun, self.arrivals), worked=True)

    def _alone(self, timeout: Optional[float]) -> Optional[Incoming]:
        """Take what comes alone, until there is something for the worker. None: there may be more than one datagram."""
        arrivals, poll, worked, failed = self.arrivals, self._poll.poll, False, 0
        until = _end_of(timeout)
        while True:
            ready = poll(0)
            if ready:
                break
            ready = poll(timeout)
            if len(ready) != 1 or ready[0][0] != self._descriptor:
                return Incoming(commands=bool(ready), worked=worked)
            received = self._udp.receive(arrivals.space())
            if received is None:
                return Incoming(worked=worked)
            length, size, source = received
            now = time.monotonic()
            # It may come on a keypair that was installed a moment ago.
            commands = any_waits(self._channels)
            lane = self._lane(length, source, now) if length == size and not commands else None
            packet = lane.opener.open_one(arrivals.space()[:length], lane.known.allowed) if lane is not None else b""
            if lane is None or not packet:
                self._begin(alone=length == size)
                return self._for_the_worker(received)
            try:
                self._tun.write((PLAIN, packet))
            except OSError:  # as in the core's write()
                failed += 1
            lane.opener.count(length, now)
            if failed or now >= until:
                return Incoming(failed=failed, worked=True)
            worked, timeout = True, (until - now) * 1000
        # Commands first: what comes on a new keypair comes after the command that installs it.
        if len(ready) > 1 or ready[0][0] != self._descriptor:
            return Incoming(commands=True, worked=worked)
        self._begin(alone=False)
        return None

    def _begin(self, *, alone: bool) -> None:
        """A turn; of one datagram, or of several receives."""
        self.arrivals.clear()
        self._turn, self._left, self.learns = True, 1 if alone else BUDGET, alone

    def _for_the_worker(self, received: tuple[int, int, Path]) -> Incoming:
        length, size, self._source = received
        datagrams = self.arrivals.received(length, size)
        self._left -= len(datagrams)
        # Enough for a turn. But what filled the kernel's buffer was cut from more: the rest of a super-packet is right
        # behind it.
        if self._left <= BUDGET - ENOUGH and length + size <= MAX_PAYLOAD:
            self._left = 0
        # They may come on a keypair that was installed a moment ago.
        return Incoming(any_waits(self._channels), (datagrams, self._source))

    def _lane(self, length: int, source: Path, now: float) -> Optional[_Lane]:
        """That of the datagram which was received last, if it may be taken by itself."""
        if length < TRANSPORT_OVERHEAD:
            return None
        lane = self._lanes.get(bytes(self.arrivals.space()[:8]))
        return None if lane is None or source != lane.source or now >= lane.known.expires_at else lane

    def learn(self, known: KnownSource) -> None:
        if len(self._lanes) >= MOST_HELD:
            self._lanes.clear()
        opener = cast(PythonOpener, known.opener)
        self._lanes[opener.beginning] = _Lane(self._source, opener, known)

    def forget(self) -> None:
        self._lanes.clear()

    def identify(self, public_key: bytes) -> None:
        pass

    def ask_for_cookies(self, command: AskForCookies) -> None:
        pass


def _end_of(timeout: Optional[float]) -> float:
    """On the monotonic clock; None ends with the first packet."""
    return 0.0 if timeout is None else time.monotonic() + timeout / 1000
