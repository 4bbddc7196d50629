# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process for both directions while little is on its way, where the core is Python's.

Whoever wakes up for a packet finds nothing of its code in the processor's caches, and that takes longer than the packet
itself. An answer mostly follows soon, and to what the kernel answers by itself it is there before the write to TUN
returns. So at rest the inbound worker reads TUN, too, and the outbound worker, its relief, sleeps on. When there is no
rest any more, the relief takes over, until there is again. TUN is only ever read by one of them, so packets stay in
order; as each seals under counters of its own (wireguard/queues.py), that is all they have to agree on.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import NoReturn, Optional, cast

from .channel import Channel
from .flow import Incoming, Outgoing
from .inbound_worker import InboundWorker
from .outbound_worker import OutboundWorker
from .python_flows import PythonInflow, PythonOutflow, Waiting
from .tun import Tun
from .udp import UdpSocket
from .worker import LeavePackets, TakePackets

_BUSY = 64, 0.016
"""So many packets in so many seconds are too many for one."""

_TOGETHER = 32
"""As are more than these in one super-packet. A short answer by TCP is less: the ten segments that it begins with."""

_CALM = 1000
"""Datagrams a second that are received."""

_SHORTEST, _LONGEST = 0.1, 0.8
"""Seconds of calm after which the relief may sleep; the longer, the sooner it was called again before."""


class BothWays:
    """An inbound worker, and an outbound one in its process. `relief` leads to the one in a process of its own."""

    def __init__(
        self, inbound: InboundWorker, outbound: OutboundWorker, relief: Channel, tun: Tun, udp: UdpSocket
    ) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._relief = relief
        self._inflow = cast(PythonInflow, inbound.flow)
        self._outflow = cast(PythonOutflow, outbound.flow)
        self._tun = tun.fd
        self._udp = udp.socket.fileno()  # that of any socket that takes its place
        self._report_at = 0.0

    def run(self) -> NoReturn:
        """Until the control process is gone (EOFError, or an OSError of the channel) or the device is (OSError)."""
        calm = _SHORTEST
        if not self._outflow.taking:
            self._only_receive(calm, to_ask=False)
        while True:
            began = time.monotonic()
            self._rest()
            calm = min(2 * calm, _LONGEST) if time.monotonic() - began < calm else _SHORTEST
            if self._relief.send([TakePackets()]):
                self._outflow.leave_packets()
                self._only_receive(calm)

    def _rest(self) -> None:
        """Until there is no rest any more.

        Whoever has sent a packet sleeps again at once, as the one that it woke up may wait for this processor.
        """
        inbound, outbound, inflow, outflow = self._inbound, self._outbound, self._inflow, self._outflow
        tun, udp = self._tun, self._udp
        waiting = Waiting((tun, udp), (*inbound.channels, *outbound.channels))
        poll, send, receive = waiting.poll, outflow.single, inflow.single
        packet, datagram = [(tun, select.POLLIN)], [(udp, select.POLLIN)]
        most, span = _BUSY
        count, since = 0, time.monotonic()
        timeout: Optional[float] = 0.0
        self._report_at = 0.0
        while True:
            ready = poll(timeout)
            if ready == packet:
                found = send()
                packets = 1 if found is None else self._sent(found)
                now = outflow.now
            elif ready == datagram:
                taken = receive()
                packets = 1 if taken is None else self._received(taken)
                now = inflow.now
            else:
                packets = self._all(ready)
                now = time.monotonic()
            count += packets
            if count >= most or packets > _TOGETHER:
                if packets > _TOGETHER or now - since < span:
                    return
                count, since = 0, now
            if now < self._report_at:
                timeout = (self._report_at - now) * 1000
            else:
                timeout = _least(inbound.turn(Incoming(worked=True)), outbound.turn(Outgoing(worked=True)))
                self._report_at = 0.0 if timeout is None else now + timeout / 1000

    def _all(self, ready: Sequence[tuple[int, int]]) -> int:
        """Commands first: packets may come on a new keypair, or answer what has brought it. Returns their number."""
        self._report_at = 0.0
        packets = 0
        descriptors = [descriptor for descriptor, _events in ready]
        if descriptors and descriptors[-1] not in (self._tun, self._udp):
            self._inbound.turn(Incoming(commands=True))
            self._outbound.turn(Outgoing(commands=True))
        if self._udp in descriptors:
            taken = self._inflow.single()
            packets += 1 if taken is None else self._received(taken)
        if self._tun in descriptors:
            found = self._outflow.single()
            packets += 1 if found is None else self._sent(found)
        return packets

    def _sent(self, found: Outgoing) -> int:
        """What was read from the device is the worker's to send. Returns how many packets that are."""
        self._report_at = 0.0
        self._outbound.turn(found)
        return sum(map(len, found.runs))

    def _received(self, found: Incoming) -> int:
        """What was received is the worker's to take. Returns how many datagrams came with it."""
        self._report_at = 0.0
        packets = len(found.received[0]) if found.received else 0
        before = self._inflow.taken
        self._inbound.turn(found)
        while self._inflow.turn:
            self._inbound.turn(self._inflow.wait(0))
        return packets + self._inflow.taken - before

    def _only_receive(self, calm: float, *, to_ask: bool = True) -> None:
        """Until TUN is left to us, for which the relief is asked when it was calm for so many seconds."""
        inbound, outbound, flow = self._inbound, self._outbound, self._inflow
        timeout = inbound.turn(Incoming(worked=True))
        outbound.turn(Outgoing(worked=True))
        taken, until = flow.taken, time.monotonic() + calm
        while flow.turn or not self._outflow.taking:
            found = flow.wait(_least(timeout, calm * 1000))
            timeout = inbound.turn(found)
            now = time.monotonic()
            if found.commands or now >= until:
                outbound.turn(Outgoing(found.commands))
            if now >= until:
                if to_ask and flow.taken - taken < _CALM * calm:
                    to_ask = not self._relief.send([LeavePackets()])
                taken, until = flow.taken, now + calm


def _least(one: Optional[float], other: Optional[float]) -> Optional[float]:
    return other if one is None else one if other is None else min(one, other)
