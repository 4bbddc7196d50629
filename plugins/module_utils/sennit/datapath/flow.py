# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a worker sleeps in, and comes out of with what there is to decide.

A flow may know by itself what to do with packets like those before: a worker tells it with learn(), and has it forget
all that when there is a command. Python's flows learn nothing, as a call more costs them more than they would save.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional, Protocol

from ..wireguard.aead import Buffer
from ..wireguard.batch import MAX_PAYLOAD, Arrivals, Datagrams
from ..wireguard.errors import DropReason
from ..wireguard.events import AskForCookies, Path
from ..wireguard.inbound import KnownSource
from ..wireguard.outbound import KnownDestination
from .channel import Channel
from .tun import Tun
from .udp import UdpSocket

if TYPE_CHECKING:
    from .core import DatapathCore

BUDGET = 64
"""Packets, at least, that a worker takes before it looks at its commands again."""

_ENOUGH = BUDGET // 2
"""Datagrams that are worth a turn: to ask for more that is not there yet would cost a call."""


class Outgoing(NamedTuple):
    """commands: look at the channels. runs: packets to send, each of them to one destination. malformed: frames that
    were dropped. unsent: datagrams that the kernel did not take at once. worked: packets were sent since the last time.
    """

    commands: bool = False
    runs: Sequence[Sequence[Buffer]] = ()
    malformed: int = 0
    unsent: Optional[tuple[Path, Datagrams]] = None
    worked: bool = False


class Incoming(NamedTuple):
    """commands: look at the channel, before all else. received: datagrams, and where they are from. failed: packets
    that TUN did not take. worked: packets were taken since the last time; urgent: keepalives among them. refused:
    handshake messages that the flow has dropped or answered by itself.
    """

    commands: bool = False
    received: Optional[tuple[Sequence[Buffer], Path]] = None
    failed: int = 0
    worked: bool = False
    urgent: bool = False
    refused: Sequence[tuple[DropReason, int]] = ()


class Outflow(Protocol):
    """From TUN. What wait() returns is valid until the next call."""

    learns: bool

    def take_packets(self) -> None:
        """Packets stayed in the device until now."""

    def wait(self, timeout: Optional[float]) -> Outgoing:
        """timeout: in milliseconds; None: until there is something. Raises OSError when the device is gone."""

    def learn(self, known: KnownDestination) -> None: ...

    def forget(self) -> None: ...


class Inflow(Protocol):
    """From UDP. What was received is to be taken into `arrivals`, which are written at the next call."""

    learns: bool

    @property
    def arrivals(self) -> Arrivals: ...

    def wait(self, timeout: Optional[float]) -> Incoming: ...

    def learn(self, known: KnownSource) -> None:
        """What was received last was from there."""

    def forget(self) -> None: ...

    def identify(self, public_key: bytes) -> None:
        """Handshake messages that are not meant for this key of ours may be dropped."""

    def ask_for_cookies(self, command: AskForCookies) -> None:
        """Those without one may be answered with a cookie, as control would."""


class PythonOutflow:
    """See Outflow."""

    learns = False

    def __init__(self, core: DatapathCore, tun: Tun, channels: Sequence[Channel], taking: bool) -> None:
        self._core = core
        self._tun = tun
        self._poll = select.poll()
        self._channels = {channel.socket.fileno() for channel in channels}
        for descriptor in self._channels:
            self._poll.register(descriptor, select.POLLIN)
        if taking:
            self.take_packets()

    def take_packets(self) -> None:
        self._poll.register(self._tun.fd, select.POLLIN)

    def wait(self, timeout: Optional[float]) -> Outgoing:
        ready = {descriptor for descriptor, _events in self._poll.poll(timeout)}
        if self._tun.fd not in ready:
            return Outgoing(commands=bool(ready))
        runs, malformed = self._core.read(self._tun, BUDGET)
        return Outgoing(not self._channels.isdisjoint(ready), runs, malformed, worked=True)

    def learn(self, known: KnownDestination) -> None:
        pass

    def forget(self) -> None:
        pass


class PythonInflow:
    """See Inflow. A turn is several receives and one write."""

    learns = False

    def __init__(self, core: DatapathCore, tun: Tun, udp: UdpSocket, channel: Channel) -> None:
        self.arrivals: Arrivals = core.arrivals()
        self._core = core
        self._tun = tun
        self._udp = udp
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(udp.socket, select.POLLIN)
        self._poll.register(channel.socket, select.POLLIN)
        self._turn = False
        self._left = 0

    def wait(self, timeout: Optional[float]) -> Incoming:
        if not self._turn:
            ready = {descriptor for descriptor, _events in self._poll.poll(timeout)}
            # Commands first: what comes on a new keypair comes after the command that installs it.
            if self._channel.socket.fileno() in ready:
                return Incoming(commands=True)
            if not ready:
                return Incoming()
            self.arrivals.clear()
            self._turn, self._left = True, BUDGET
        if self._left > 0 and not self.arrivals.full():
            received = self._udp.receive(self.arrivals.space())
            if received is not None:
                length, size, source = received
                datagrams = self.arrivals.received(length, size)
                self._left -= len(datagrams)
                # But what filled the kernel's buffer was cut from more: the rest of a super-packet is right behind it.
                if self._left <= BUDGET - _ENOUGH and length + size <= MAX_PAYLOAD:
                    self._left = 0
                # They may come on a keypair that was installed a moment ago.
                return Incoming(self._channel.waits(), (datagrams, source))
        self._turn = False
        return Incoming(failed=self._core.write(self._tun, self.arrivals), worked=True)

    def learn(self, known: KnownSource) -> None:
        pass

    def forget(self) -> None:
        pass

    def identify(self, public_key: bytes) -> None:
        pass

    def ask_for_cookies(self, command: AskForCookies) -> None:
        pass
