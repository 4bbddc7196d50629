# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way between TUN and UDP for a batch, in two implementations that do byte for byte the same.

This one is Python. The other one is a shared library (native/), which is used where it is installed and works.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional, Protocol

from ..wireguard.aead import Buffer
from ..wireguard.batch import Arrivals, Core, PythonCore, destination_of
from ..wireguard.errors import PacketError
from .channel import Channel
from .coalesce import coalesce
from .flow import Inflow, Outflow
from .python_flows import PythonInflow, PythonOutflow
from .segment import segment
from .tun import Tun
from .udp import UdpSocket
from .vnet import PLAIN

VARIABLE = "SENNIT_NATIVE"
"""In the environment: path of the native core's library, or "none" for Python's. Unset: the one that is installed."""

_INSTALLED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "native", "batch.so")

_log = logging.getLogger(__name__)


class NativeError(Exception):
    """The native core cannot be used here. The message is one line for the log."""


class Intake(NamedTuple):
    """What was read from TUN: packets that follow each other to one destination; how many frames were malformed."""

    runs: Sequence[Sequence[Buffer]]
    malformed: int


class DatapathCore(Core, Protocol):
    """A batch core, with what the workers need of it besides sealing and opening.

    singly: whether its flows take a packet that comes alone by itself, so that one process can do both (both_ways.py).
    """

    singly: bool

    def read(self, tun: Tun, budget: int) -> Intake:
        """Read what waits on TUN, cut into packets, until there are `budget`. Valid until the next call.

        Raises OSError when the device is gone.
        """

    def write(self, tun: Tun, arrivals: Arrivals) -> int:
        """Write the packets to TUN, joined where possible. Return how many the kernel did not take."""

    def outflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel], taking: bool) -> Outflow:
        """What the outbound worker sleeps in. taking: whether packets may be taken from the device already."""

    def inflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> Inflow:
        """What the inbound worker sleeps in."""


class PythonDatapathCore(PythonCore):
    """See segment.py and coalesce.py."""

    singly = True

    def read(self, tun: Tun, budget: int) -> Intake:
        runs: list[list[bytes]] = []
        malformed = 0
        place = b""
        while budget > 0:
            frame = tun.read()
            if frame is None:
                break
            try:
                packets = segment(frame)
            except PacketError:
                packets = []
            destination = destination_of(packets[0]) if packets else b""
            if not destination:
                malformed += 1
                budget -= 1
                continue
            budget -= len(packets)
            if destination == place:
                runs[-1] += packets
            else:
                runs.append(packets)
                place = destination
        return Intake(runs, malformed)

    def write(self, tun: Tun, arrivals: Arrivals) -> int:
        failed = 0
        write = tun.write
        packets = arrivals.packets()
        for frame in coalesce(packets, udp=tun.takes_udp) if len(packets) > 1 else [[PLAIN, each] for each in packets]:
            try:
                write(frame)
            except OSError:  # the device is down, or the kernel finds the packet malformed
                failed += len(frame) - 1
        return failed

    def outflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel], taking: bool) -> Outflow:
        return PythonOutflow(self, tun, udp, channels, taking)

    def inflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> Inflow:
        return PythonInflow(self, tun, udp, channels)


PYTHON = PythonDatapathCore()


def choose(path: Optional[str] = None) -> DatapathCore:
    """The native core where it is to be had, else Python's; path: as in VARIABLE, which is looked at without it."""
    wanted = path if path is not None else os.environ.get(VARIABLE, "")
    if wanted == "none" or not (wanted or os.path.exists(_INSTALLED)):
        return PYTHON
    from .native import load  # noqa: PLC0415  (ctypes costs memory that nobody else needs)

    try:
        return load(wanted or _INSTALLED)
    except NativeError as error:
        _log.warning("going on without the native core: %s", error)
        return PYTHON
