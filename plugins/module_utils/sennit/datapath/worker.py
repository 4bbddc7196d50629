# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the worker processes have in common: how they start, report, and end."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from dataclasses import dataclass
from typing import Callable, NoReturn, Optional, Protocol, Union

from ..wireguard.events import Event, Path
from .channel import Channel

REPORT_INTERVAL = 1.0
"""Seconds. While packets flow, counters go to the control process this often; urgent events go at once."""

EXIT_INTERFACE_GONE = 2
"""A worker's exit status when it has met with no other failure than that."""

EXIT_OTHER_ENDED = 3
"""And when it has lost a channel, as the control process or another worker has ended before it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetPeer:
    """For all workers: add the peer, or give it other allowed IPs."""

    public_key: bytes
    allowed_ips: tuple[str, ...]


@dataclass(frozen=True)
class RemovePeer:
    """For all workers: forget the peer."""

    public_key: bytes


@dataclass(frozen=True)
class Unbind:
    """For both workers: let go of the underlay's port, until there is another socket."""


@dataclass(frozen=True)
class TakePackets:
    """Read what is in the TUN device from now on: the peers are known, or another worker has left it."""


@dataclass(frozen=True)
class LeavePackets:
    """For an outbound worker: read no more from the TUN device. TakePackets is the answer, when all is sent."""


@dataclass(frozen=True)
class RoutesChanged:
    """For outbound: packets may have to leave in other ways."""


@dataclass(frozen=True)
class SetFwmark:
    """For outbound: the underlay's packets are marked with this now."""

    fwmark: int


@dataclass(frozen=True)
class SetMtu:
    """For outbound: the tunnel's MTU is this now."""

    mtu: int


@dataclass(frozen=True)
class Report:
    """For all workers: report at once; this comes back behind the events up to now."""

    number: int


@dataclass(frozen=True)
class Misdirected:
    """From one inbound worker for another: datagrams from one source that are the other's."""

    datagrams: list[bytes]
    source: Path


class Half(Protocol):
    """What a reporter needs of Outbound or Inbound."""

    urgent: bool
    due: float

    def take_events(self) -> list[Event]: ...


class Reporter:
    """Brings the events of a data half to the control process: the first at once, those of a busy half in intervals."""

    def __init__(self, half: Half, channel: Channel) -> None:
        self._half = half
        self._channel = channel
        self._worked = False
        self._next = 0.0
        self._unsent: list[Union[Event, Report]] = []
        self._demanded: list[Report] = []

    def worked(self) -> None:
        """There may be something to report."""
        self._worked = True

    def demand(self, report: Report) -> None:
        """The control process waits for this one."""
        self._worked = True
        self._demanded.append(report)

    def report(self) -> Optional[float]:
        """Report if it is time. Return in how many milliseconds to call again; None: not until there was work.

        Raises OSError when the control process is gone.
        """
        if not self._worked:
            return None
        now = time.monotonic()
        if now >= self._next or ((self._half.urgent or self._demanded or now >= self._half.due) and not self._unsent):
            # What did not fit into the channel keeps its place; the half goes on counting meanwhile.
            events = self._unsent
            if not events:
                events, self._demanded = [*self._half.take_events(), *self._demanded], []
            self._unsent = []
            if not events:
                self._worked = False
                return None
            if not self._channel.send(events):
                self._unsent = events
            self._next = now + REPORT_INTERVAL
        due = self._next if self._unsent else min(self._next, self._half.due)
        return max(0.0, due - now) * 1000


def start(name: str, work: Callable[[], NoReturn]) -> int:
    """Fork a worker, and return its process id. It ends when its channel does, not by signals meant for the agent."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(name)
        work()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(EXIT_OTHER_ENDED)
    except OSError as error:
        if error.errno == errno.EBADFD:  # what a TUN device that was removed answers
            os._exit(EXIT_INTERFACE_GONE)
        _log.exception("%s failed", name)
    except BaseException:
        _log.exception("%s failed", name)
    finally:
        os._exit(1)
