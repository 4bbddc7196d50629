# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inbound worker: UDP -> opened packets -> super-packets -> TUN."""

from __future__ import annotations

import select
import socket
import time
from typing import Any, NoReturn

from ..wireguard.errors import DropReason
from ..wireguard.events import InstallKeypair, RemoveKeypair, SetIdentity
from ..wireguard.inbound import Inbound
from .channel import Channel
from .core import DatapathCore
from .tun import Tun
from .udp import UdpSocket
from .worker import BUDGET, RemovePeer, Report, Reporter, SetPeer

_ENOUGH = BUDGET // 2
"""Datagrams of one receive that are worth a turn: to ask for more that is not there yet would cost a call."""


class InboundWorker:
    """One loop over two descriptors, asleep while neither has anything. `outbound` leads to the other worker."""

    def __init__(self, tun: Tun, udp: UdpSocket, channel: Channel, outbound: Channel, core: DatapathCore) -> None:
        self._tun = tun
        self._udp = udp
        self._channel = channel
        self._outbound = outbound
        self._core = core
        self._arrivals = core.arrivals()
        self._inbound = Inbound(core)
        self._reporter = Reporter(self._inbound, channel)

    def run(self) -> NoReturn:
        """Until the control process is gone (EOFError, or an OSError of the channel)."""
        poll = select.poll()
        poll.register(self._udp.socket, select.POLLIN)
        poll.register(self._channel.socket, select.POLLIN)
        timeout = None
        while True:
            ready = {descriptor for descriptor, _events in poll.poll(timeout)}
            # Commands first: what comes on a new keypair comes after the command that installs it.
            if self._channel.socket.fileno() in ready:
                self._obey()
                self._reporter.worked()
            if self._udp.socket.fileno() in ready:
                self._pump()
            timeout = self._reporter.report()

    def _pump(self) -> None:
        """Take what waits on the socket, up to the budget, and write it to TUN in as few pieces as possible."""
        inbound, arrivals, receive = self._inbound, self._arrivals, self._udp.receive
        now = time.monotonic()
        arrivals.clear()
        budget = BUDGET
        while budget > 0 and not arrivals.full():
            received = receive(arrivals.space())
            if received is None:
                break
            length, size, source = received
            # They may come on a keypair that was installed a moment ago.
            if self._channel.waits():
                self._obey()
            datagrams = arrivals.received(length, size)
            budget -= len(datagrams)
            inbound.take(datagrams, source, now, arrivals)
            if len(datagrams) >= _ENOUGH:
                break
        self._reporter.worked()
        # What the packets bring about, such as a new keypair or endpoint, must be known before they are answered.
        commands = inbound.take_commands()
        if commands:
            self._outbound.send(commands)
        if inbound.urgent:
            self._reporter.report()
        failed = self._core.write(self._tun, arrivals)
        if failed:
            inbound.drop(DropReason.WRITE_FAILED, failed)

    def _obey(self) -> None:
        while True:
            commands = self._channel.receive()
            if commands is None:
                return
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
        elif isinstance(command, SetPeer):
            inbound.set_peer(command.public_key, command.allowed_ips)
        elif isinstance(command, RemovePeer):
            inbound.remove_peer(command.public_key)
        elif isinstance(command, Report):
            self._reporter.demand(command)
        elif isinstance(command, socket.socket):
            self._udp.replace(command)
        else:
            raise TypeError(f"not a command for the inbound worker: {command!r}")
