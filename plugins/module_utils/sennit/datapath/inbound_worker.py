# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inbound worker: UDP -> opened packets -> super-packets -> TUN."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Optional

from ..wireguard.aead import Buffer
from ..wireguard.allowed_ips import AllowedIPs
from ..wireguard.batch import Arrivals
from ..wireguard.errors import DropReason
from ..wireguard.events import AskForCookies, InstallKeypair, Path, RemoveKeypair, SetIdentity
from ..wireguard.inbound import Inbound
from .channel import Channel
from .core import DatapathCore
from .flow import Incoming
from .tun import Tun
from .udp import UdpSocket
from .worker import Misdirected, RemovePeer, Report, Reporter, SetPeer, Unbind


class InboundWorker:
    """One loop over a few descriptors, asleep while none has anything. `outbounds` lead to the outbound workers.

    Of several inbound workers it is the one of a queue, and `others`, by theirs, lead to the rest.
    """

    def __init__(
        self,
        tun: Tun,
        udp: UdpSocket,
        channel: Channel,
        outbounds: Sequence[Channel],
        core: DatapathCore,
        *,
        queue: int = 0,
        others: Mapping[int, Channel] = MappingProxyType({}),
        watched: Sequence[Channel] = (),
        allowed_ips: Optional[AllowedIPs] = None,
    ) -> None:
        """watched: channels of whoever shares this process; a message in one is told by the flow as a command is."""
        self._tun = tun
        self._udp = udp
        self._channel = channel
        self._outbounds = outbounds
        self._others = others
        self._core = core
        self._aside: Optional[Arrivals] = None  # of what other workers have received
        self.channels = (channel, *others.values())
        self.flow = core.inflow(tun, udp, (*self.channels, *watched))
        self._inbound = Inbound(core, queue, 1 + len(others), allowed_ips)
        self._reporter = Reporter(self._inbound, channel)

    def run(self) -> NoReturn:
        """Until the control process is gone (EOFError, or an OSError of the channel)."""
        timeout = None
        while True:
            timeout = self.turn(self.flow.wait(timeout))

    def turn(self, found: Incoming) -> Optional[float]:
        """Do what the flow has found. Returns in how many milliseconds there is something to report; None: never."""
        inbound = self._inbound
        if found.commands:
            self.obey()
        if found.received is not None:
            self._take(*found.received)
        if found.failed:
            inbound.drop(DropReason.WRITE_FAILED, found.failed)
        for reason, count in found.refused:
            inbound.drop(reason, count)
        inbound.urgent |= found.urgent
        if found.worked or found.commands:
            self._reporter.worked()
        return self._reporter.report()

    def obey(self) -> None:
        self._obey()
        for channel in self._others.values():
            self._take_misdirected(channel)

    def _take(self, datagrams: Sequence[Buffer], source: Path) -> None:
        """Take them into the flow's arrivals, which are written after this."""
        inbound = self._inbound
        inbound.take(datagrams, source, time.monotonic(), self.flow.arrivals)
        self._reporter.worked()
        self._tell_outbound()
        if self.flow.learns:
            for known in inbound.known_sources(source):
                self.flow.learn(known)
        if self._others:
            for queue, misdirected in inbound.take_misdirected().items():
                if not self._others[queue].send([Misdirected(misdirected, source)]):
                    inbound.drop(DropReason.QUEUE_FULL, len(misdirected))

    def _tell_outbound(self) -> None:
        """What the packets bring about, such as a new keypair or endpoint, must be known before they are answered."""
        commands = self._inbound.take_commands()
        if commands:
            for channel in self._outbounds:
                channel.send(commands)

    def _take_misdirected(self, channel: Channel) -> None:
        """What other workers have received for this one."""
        while True:
            messages = channel.receive()
            if messages is None:
                return
            # They may come on a keypair that was installed a moment ago.
            if self._channel.waits():
                self._obey()
            for message in messages:
                arrivals = self._aside = self._aside or self._core.arrivals()
                arrivals.clear()
                self._inbound.take(message.datagrams, message.source, time.monotonic(), arrivals)
                self._tell_outbound()
                failed = self._core.write(self._tun, arrivals)
                if failed:
                    self._inbound.drop(DropReason.WRITE_FAILED, failed)

    def _obey(self) -> None:
        while True:
            commands = self._channel.receive()
            if commands is None:
                return
            self.flow.forget()
            for command in commands:
                self._carry_out(command)

    def _carry_out(self, command: Any) -> None:
        inbound = self._inbound
        if isinstance(command, InstallKeypair):
            inbound.install_keypair(command.peer, command.keypair)
        elif isinstance(command, RemoveKeypair):
            inbound.remove_keypair(command.local_index)
        elif isinstance(command, SetIdentity):
            inbound.set_identity(command.public_key)
            self.flow.identify(command.public_key)
        elif isinstance(command, AskForCookies):
            inbound.ask_for_cookies(command)
            self.flow.ask_for_cookies(command)
        elif isinstance(command, SetPeer):
            inbound.set_peer(command.public_key, command.allowed_ips)
        elif isinstance(command, RemovePeer):
            inbound.remove_peer(command.public_key)
        elif isinstance(command, Report):
            self._reporter.demand(command)
        elif isinstance(command, Unbind):
            self._udp.unbind()
        elif isinstance(command, socket.socket):
            self._udp.replace(command)
        else:
            raise TypeError(f"not a command for the inbound worker: {command!r}")
