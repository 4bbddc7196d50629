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

import os
import select
import time
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, cast

from ..wireguard.batch import MAX_PAYLOAD, Allowed, Arrivals, PythonOpener, PythonSealer, destination_of
from ..wireguard.constants import TRANSPORT_HEADER_LENGTH
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
from .vnet import MAX_FRAME, PLAIN

if TYPE_CHECKING:
    from .core import DatapathCore


_VNET = len(PLAIN)
_HEADER = Struct("8s8s")  # what a datagram begins with, and its counter
_PLAIN_V4 = PLAIN + b"\x45"  # and an IPv4 header without options
_DESTINATION_V4 = slice(_VNET + 16, _VNET + 20)


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
        self.now = 0.0
        """When single() was called last, on the monotonic clock."""
        self._core = core
        self._tun = tun
        self._udp = udp
        self._channels = channels
        self._alone = [(tun.fd, select.POLLIN)]  # what poll() returns when there are packets and no commands
        self._routes: dict[bytes, _Route] = {}
        self.leave_packets()
        if taking:
            self.take_packets()

    def take_packets(self) -> None:
        self.taking = True
        self._waiting = Waiting((self._tun.fd,), self._channels)

    def leave_packets(self) -> None:
        self.taking = False
        self._waiting = Waiting((), self._channels)

    def wait(self, timeout: Optional[float]) -> Outgoing:
        poll, alone, worked = self._waiting.poll, self._alone, False
        until = _end_of(timeout)
        while True:
            ready = poll(0)
            if ready:
                return self._several(ready, worked)
            ready = poll(timeout)
            if ready != alone:
                return Outgoing(commands=bool(ready), worked=worked)
            found = self.single()
            if found is not None:
                return found
            if self.now >= until:
                return Outgoing(worked=True)
            worked, timeout = True, (until - self.now) * 1000

    def single(self) -> Optional[Outgoing]:
        """Send the packet that waits, by the shortest way; None when it is sent. Else it is the worker's to decide."""
        try:
            frame = os.read(self._tun.fd, MAX_FRAME)
        except BlockingIOError:
            return Outgoing(worked=True)
        if frame.startswith(_PLAIN_V4):
            packets, route = [frame[_VNET:]], self._routes.get(frame[_DESTINATION_V4])
        else:
            try:
                packets = segment(frame)
            except PacketError:
                return Outgoing(malformed=1, worked=True)
            route = self._routes.get(destination_of(packets[0])) if len(packets) == 1 else None
        now = self.now = time.monotonic()
        if route is None or now >= route.expires_at or not route.sealer.ready(1):
            self.learns = len(packets) == 1
            return Outgoing(any_waits(self._channels), (packets,), worked=True)
        datagram = route.sealer.seal_one(packets[0])
        try:
            self._udp.socket.sendmsg((datagram,), route.ancillary, 0, route.address)
        except OSError:
            return Outgoing(unsent=(route.path, (datagram,)), worked=True)
        finally:
            route.sealer.count(len(datagram), now)
        return None

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
    expires_at: float
    opener: PythonOpener
    allowed: Allowed


class PythonInflow:
    """See flow.Inflow. A turn is several receives and one write."""

    def __init__(self, core: DatapathCore, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> None:
        self.learns = False
        self.arrivals: Arrivals = core.arrivals()
        self._core = core
        self._tun = tun
        self._udp = udp
        self._channels = channels
        self._descriptor = udp.socket.fileno()  # that of any socket that takes its place
        self._alone = [(self._descriptor, select.POLLIN)]  # as in PythonOutflow
        self._waiting = Waiting((self._descriptor,), channels)
        self.turn = False
        """Whether there may be more to receive, and arrivals that are not written yet."""
        self.now = 0.0
        """As in PythonOutflow."""
        self.taken = 0
        """Datagrams, until now."""
        self._left = 0
        self._lanes: dict[bytes, _Lane] = {}  # by what datagrams begin with
        self._source: Path = ("", 0)  # of what was received last

    def wait(self, timeout: Optional[float]) -> Incoming:
        if not self.turn:
            found = self._until_several(timeout)
            if found is not None:
                return found
        if self._left > 0 and not self.arrivals.full():
            received = self._udp.receive(self.arrivals.space())
            if received is not None:
                return self._for_the_worker(received)
        self.turn = False
        return Incoming(failed=self._core.write(self._tun, self.arrivals), worked=True)

    def _until_several(self, timeout: Optional[float]) -> Optional[Incoming]:
        """Take what comes alone, until there is something for the worker. None: there may be more than one datagram."""
        poll, alone, worked = self._waiting.poll, self._alone, False
        until = _end_of(timeout)
        while True:
            ready = poll(0)
            if ready:
                break
            ready = poll(timeout)
            if ready != alone:
                return Incoming(commands=bool(ready), worked=worked)
            found = self.single()
            if found is not None:
                return found
            if self.now >= until:
                return Incoming(worked=True)
            worked, timeout = True, (until - self.now) * 1000
        # Commands first: what comes on a new keypair comes after the command that installs it.
        if ready != alone:
            return Incoming(commands=True, worked=worked)
        self._begin(alone=False)
        return None

    def single(self) -> Optional[Incoming]:
        """Take the datagram that waits, by the shortest way; None when its packet is written. Else the worker is to."""
        space = self.arrivals.space()
        received = self._udp.receive(space)
        if received is None:
            return Incoming(worked=True)
        length, size, source = received
        now = self.now = time.monotonic()
        beginning, number = _HEADER.unpack_from(space)
        lane = self._lanes.get(beginning)
        if lane is None or length != size or source != lane.source or now >= lane.expires_at:
            return self._undecided(received)
        packet = lane.opener.open_one(number, space[TRANSPORT_HEADER_LENGTH:length], lane.allowed)
        if not packet:
            return self._undecided(received)
        failed = 0
        try:
            os.writev(self._tun.fd, (PLAIN, packet))
        except OSError:  # as in the core's write()
            failed = 1
        lane.opener.count(length, now)
        self.taken += 1
        return Incoming(failed=failed, worked=True) if failed else None

    def _undecided(self, received: tuple[int, int, Path]) -> Incoming:
        length, size, _source = received
        self._begin(alone=length == size)
        return self._for_the_worker(received)

    def _begin(self, *, alone: bool) -> None:
        """A turn; of one datagram, or of several receives."""
        self.arrivals.clear()
        self.turn, self._left, self.learns = True, 1 if alone else BUDGET, alone

    def _for_the_worker(self, received: tuple[int, int, Path]) -> Incoming:
        length, size, self._source = received
        datagrams = self.arrivals.received(length, size)
        self.taken += len(datagrams)
        self._left -= len(datagrams)
        # Enough for a turn. But what filled the kernel's buffer was cut from more: the rest of a super-packet is right
        # behind it.
        if self._left <= BUDGET - ENOUGH and length + size <= MAX_PAYLOAD:
            self._left = 0
        # They may come on a keypair that was installed a moment ago.
        return Incoming(any_waits(self._channels), (datagrams, self._source))

    def learn(self, known: KnownSource) -> None:
        if len(self._lanes) >= MOST_HELD:
            self._lanes.clear()
        opener = cast(PythonOpener, known.opener)
        self._lanes[opener.beginning] = _Lane(self._source, known.expires_at, opener, known.allowed)

    def forget(self) -> None:
        self._lanes.clear()

    def identify(self, public_key: bytes) -> None:
        pass

    def ask_for_cookies(self, command: AskForCookies) -> None:
        pass


class Waiting:
    """For what is to be read from these descriptors, and for messages.

    poll() tells of descriptors in this order, and of messages last, by one descriptor of all channels. The kernel looks
    at them in the same order. So where there is a packet and no message, none had been sent when the packet came: it
    does not answer what another worker has received and told of, and no new keypair is its own.
    """

    def __init__(self, descriptors: Sequence[int], channels: Sequence[Channel]) -> None:
        self._messages = select.epoll()  # one wakes up faster from two or three descriptors than from six
        for channel in channels:
            self._messages.register(channel.socket, select.EPOLLIN)
        poll = select.poll()
        for descriptor in (*descriptors, self._messages.fileno()):
            poll.register(descriptor, select.POLLIN)
        self.poll = poll.poll


def _end_of(timeout: Optional[float]) -> float:
    """On the monotonic clock; None ends with the first packet."""
    return 0.0 if timeout is None else time.monotonic() + timeout / 1000
