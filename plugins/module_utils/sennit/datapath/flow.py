# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a worker sleeps in, and comes out of with what there is to decide.

A flow may know by itself what to do with packets like those before: a worker tells it with learn(), and has it forget
all that when there is a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional, Protocol

from ..wireguard.aead import Buffer
from ..wireguard.batch import Arrivals
from ..wireguard.errors import DropReason
from ..wireguard.events import AskForCookies, Path
from ..wireguard.inbound import KnownSource
from ..wireguard.outbound import KnownDestination

BUDGET = 64
"""Packets, at least, that a worker takes before it looks at its commands again."""

ENOUGH = BUDGET // 2
"""Datagrams that are worth a turn: to ask for more that is not there yet would cost a call."""

MOST_HELD = 8192
"""Destinations or sources, at most, that a flow has learned and not forgotten."""


class Outgoing(NamedTuple):
    """commands: look at the channels. runs: packets to send, each of them to one destination. malformed: frames that
    were dropped. unsent: datagrams that the kernel did not take at once. worked: packets were sent since the last time.
    """

    commands: bool = False
    runs: Sequence[Sequence[Buffer]] = ()
    malformed: int = 0
    unsent: Optional[tuple[Path, Sequence[Buffer]]] = None
    worked: bool = False


class Incoming(NamedTuple):
    """commands: look at the channels, before all else. received: datagrams, and where they are from. failed: packets
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
    """Whether it is to be told of what wait() has returned last."""

    def take_packets(self) -> None:
        """From now on read what is in the device."""

    def leave_packets(self) -> None:
        """Leave it there."""

    def wait(self, timeout: Optional[float]) -> Outgoing:
        """timeout: in milliseconds; None: until there is something. Raises OSError when the device is gone."""

    def learn(self, known: KnownDestination) -> None: ...

    def forget(self) -> None: ...


class Inflow(Protocol):
    """From UDP. What was received is to be taken into `arrivals`, which are written at the next call."""

    learns: bool
    """As in Outflow."""

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
