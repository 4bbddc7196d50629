# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outbound worker: TUN -> segments -> sealed datagrams -> UDP."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from ..wireguard.aead import Buffer
from ..wireguard.allowed_ips import AllowedIPs
from ..wireguard.errors import DropReason
from ..wireguard.events import DropStaged, ForgetSource, RemoveKeypair, SendKeepalive, SetEndpoint, UseKeypair
from ..wireguard.outbound import Batch, Outbound
from ..wireguard.queues import Share
from .channel import Channel
from .core import DatapathCore
from .flow import Outgoing
from .tun import Tun
from .udp import UdpSocket
from .worker import (
    LeavePackets,
    RemovePeer,
    Report,
    Reporter,
    RoutesChanged,
    SetFwmark,
    SetMtu,
    SetPeer,
    TakePackets,
    Unbind,
)


class OutboundWorker:
    """One loop over a few descriptors, asleep while none has anything. `inbounds` lead to the inbound workers."""

    def __init__(
        self,
        tun: Tun,
        udp: UdpSocket,
        channel: Channel,
        inbounds: Sequence[Channel],
        core: DatapathCore,
        *,
        share: Optional[Share] = None,
        taking: bool = True,
        allowed_ips: Optional[AllowedIPs] = None,
    ) -> None:
        """share: of the keypairs' counters, where there are other outbound workers.

        taking: packets are read at once. Otherwise they stay in the device until TakePackets: it is not known yet whose
        they are, or another worker reads them.

        allowed_ips: shared with the inbound worker in the same process.
        """
        self._udp = udp
        self.channels = (channel, *inbounds)
        self._inbounds = inbounds
        self.flow = core.outflow(tun, udp, self.channels, taking)
        self._outbound = Outbound(tun.mtu, core, share, allowed_ips)
        self._outbound.port = udp.port
        self._reporter = Reporter(self._outbound, channel)

    def run(self) -> NoReturn:
        """Until the control process is gone (EOFError, or an OSError of the channel) or the device is (OSError)."""
        timeout = None
        while True:
            timeout = self.turn(self.flow.wait(timeout))

    def turn(self, found: Outgoing) -> Optional[float]:
        """Do what the flow has found. Returns in how many milliseconds there is something to report; None: never."""
        # Commands first: the packets may be answers to what they are about.
        if found.commands:
            self.obey()
        if found.malformed:
            self._outbound.drop(DropReason.MALFORMED_OUTGOING_PACKET, found.malformed)
        if found.unsent is not None:
            path, datagrams = found.unsent
            self._send([(path, datagrams)])
            self.flow.forget()
        for packets in found.runs:
            self._forward(packets)
        if found.worked or found.commands or found.runs:
            self._reporter.worked()
        return self._reporter.report()

    def obey(self) -> None:
        for channel in self.channels:
            self._obey(channel)

    def _forward(self, packets: Sequence[Buffer]) -> None:
        # They may be answers to what an inbound worker received a moment ago, on a new keypair or endpoint.
        for channel in self._inbounds:
            if channel.waits():
                self._obey(channel)
        self._send(self._outbound.send(packets, time.monotonic()))
        if self.flow.learns:
            known = self._outbound.known_destination()
            if known is not None:
                self.flow.learn(known)

    def _send(self, batches: list[Batch]) -> None:
        for path, datagrams in batches:
            failed = self._udp.send(datagrams, path)
            if failed:
                self._outbound.drop(DropReason.SEND_FAILED, failed)

    def _obey(self, channel: Channel) -> None:
        while True:
            commands = channel.receive()
            if commands is None:
                return
            self.flow.forget()
            for command in commands:
                if isinstance(command, LeavePackets):
                    # Somebody has to read them: whoever cannot be told does not.
                    if channel.send([TakePackets()]):
                        self.flow.leave_packets()
                else:
                    self._carry_out(command)

    def _carry_out(self, command: Any) -> None:  # noqa: C901, PLR0912 (a branch a command)
        outbound = self._outbound
        if isinstance(command, UseKeypair):
            now = time.monotonic()
            self._send(outbound.use_keypair(command.peer, command.keypair, now, confirm=command.confirm))
        elif isinstance(command, SendKeepalive):
            self._send(outbound.send_keepalive(command.peer, time.monotonic()))
        elif isinstance(command, SetEndpoint):
            outbound.set_endpoint(command.peer, command.endpoint)
        elif isinstance(command, ForgetSource):
            outbound.forget_source(command.peer)
        elif isinstance(command, RemoveKeypair):
            outbound.remove_keypair(command.peer, command.local_index)
        elif isinstance(command, DropStaged):
            outbound.drop_staged(command.peer, command.reason)
        elif isinstance(command, TakePackets):
            self.flow.take_packets()
        elif isinstance(command, RoutesChanged):
            self._udp.routes_changed()
        elif isinstance(command, SetPeer):
            outbound.set_peer(command.public_key, command.allowed_ips)
        elif isinstance(command, RemovePeer):
            outbound.remove_peer(command.public_key)
        elif isinstance(command, Report):
            self._reporter.demand(command)
        elif isinstance(command, SetFwmark):
            self._udp.mark(command.fwmark)
        elif isinstance(command, SetMtu):
            outbound.set_mtu(command.mtu)
        elif isinstance(command, Unbind):
            self._udp.unbind()
        elif isinstance(command, socket.socket):
            self._udp.replace(command)
            outbound.port = self._udp.port
        else:
            raise TypeError(f"not a command for the outbound worker: {command!r}")
