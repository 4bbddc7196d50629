# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which worker has which queue of the TUN device, which socket, and which channels to the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn, Optional, Protocol

from ..wireguard.allowed_ips import AllowedIPs
from ..wireguard.queues import Share
from . import queues
from .both_ways import BothWays
from .channel import Channel
from .core import DatapathCore
from .inbound_worker import InboundWorker
from .outbound_worker import OutboundWorker
from .tun import Tun
from .udp import UdpSocket


class _Closable(Protocol):
    def close(self) -> None: ...


class Wiring:
    """Of all workers: one process for each queue of the device, and one for each socket.

    Where the core takes packets singly, each inbound worker has an outbound one beside it in its process, for whom that
    of the queue is the relief (both_ways.py).
    """

    def __init__(self, tuns: Sequence[Tun], udps: Sequence[UdpSocket], core: DatapathCore, waiting: bool) -> None:
        """waiting: packets stay in the device until control says TakePackets."""
        self._tuns = tuns
        self._udps = udps
        self._core = core
        self._waiting = waiting
        self.outbounds = range(len(tuns))
        """The numbers of those in processes of their own. Those beside an inbound one come behind them."""
        self.inbounds = range(len(udps))
        self.relieved = min(len(tuns), len(udps)) if core.singly else 0
        """So many inbound workers have an outbound one beside them."""
        self._all_outbounds = range(len(tuns) + self.relieved)
        self.marks: Optional[memoryview] = queues.marks() if len(self._all_outbounds) > 1 else None
        # From the first of the two workers' end to the second one's.
        self._short = {
            (inbound, outbound): Channel.pair() for inbound in self.inbounds for outbound in self._all_outbounds
        }
        self._between = {(one, other): Channel.pair() for other in self.inbounds for one in range(other)}

    def send(self, number: int, channel: Channel) -> NoReturn:
        """Be the outbound worker of that queue."""
        outbound = self._outbound(number, number, channel, taking=not self._waiting and number >= self.relieved)
        self._close_but(outbound.channels, self._tuns[number], self._udps[number % len(self._udps)])
        outbound.run()

    def receive(self, number: int, channel: Channel, beside: Optional[Channel] = None) -> NoReturn:
        """Be the inbound worker of that socket. beside: for the outbound one in the same process."""
        tun, udp = self._tuns[number % len(self._tuns)], self._udps[number]
        to_outbounds = [self._short[number, outbound][0] for outbound in self._all_outbounds]
        others = {
            other: self._between[number, other][0] if number < other else self._between[other, number][1]
            for other in self.inbounds
            if other != number
        }
        if beside is None:
            self._close_but((*to_outbounds, *others.values()), tun, udp)
            InboundWorker(tun, udp, channel, to_outbounds, self._core, queue=number, others=others).run()
        relief = to_outbounds[number]
        allowed_ips = AllowedIPs()
        outbound = self._outbound(
            len(self._tuns) + number, number, beside, relief, taking=not self._waiting, allowed_ips=allowed_ips
        )
        inbound = InboundWorker(
            tun,
            udp,
            channel,
            to_outbounds,
            self._core,
            queue=number,
            others=others,
            watched=outbound.channels,
            allowed_ips=allowed_ips,
        )
        self._close_but((*to_outbounds, *others.values(), *outbound.channels), tun, udp)
        BothWays(inbound, outbound, relief, tun, udp).run()

    def _outbound(
        self, number: int, queue: int, *channels: Channel, taking: bool, allowed_ips: Optional[AllowedIPs] = None
    ) -> OutboundWorker:
        """channels: control's, and others that it obeys."""
        tun, udp = self._tuns[queue], self._udps[queue % len(self._udps)]
        share = Share(number, len(self._all_outbounds), self.marks) if self.marks is not None else None
        from_inbounds = [self._short[inbound, number][1] for inbound in self.inbounds]
        control, *more = channels
        return OutboundWorker(
            tun,
            udp,
            control,
            (*from_inbounds, *more),
            self._core,
            share=share,
            taking=taking,
            allowed_ips=allowed_ips,
        )

    def close(self) -> None:
        """What is the workers' alone."""
        for pair in (*self._short.values(), *self._between.values()):
            for end in pair:
                end.close()

    def _close_but(self, channels: Iterable[Channel], tun: Tun, udp: UdpSocket) -> None:
        """A queue, a port and a channel are there for as long as somebody has a descriptor of them."""
        ends = [end for pair in (*self._short.values(), *self._between.values()) for end in pair]
        held: list[_Closable] = [*ends, *self._tuns, *self._udps]
        kept = (*channels, tun, udp)
        for each in held:
            if not any(each is one for one in kept):
                each.close()
