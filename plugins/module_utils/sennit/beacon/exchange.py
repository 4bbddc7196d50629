# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One end of a stream, without the stream: bytes and the time go in, bytes and events come out.

Theory of operation. Both ends say which map they keep, at first and whenever that changes. An end that would rather
have the other's asks for it, and gets it. Nothing that was not asked for is accepted, and nothing is given twice, so
that neither end can make the other hold or send more than it means to. Both say something now and then, so that each
knows whether the other is there; whatever comes counts.

What there is to tell beside that (where nodes are, the relay) waits until what was told last has arrived, which a ping
shows that follows it, and for a while after it. Meanwhile it may change again: what is told is how things are then. So
a slow reader costs no queue, and neither a suspended one nor a network that holds everything back for a minute ever
gets more at once than an end takes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

from .messages import (
    PREFACE,
    BeaconProtocolError,
    Have,
    Kept,
    Message,
    Nodes,
    Packed,
    Parser,
    Ping,
    Place,
    Pong,
    Relay,
    Unknown,
    Want,
    encode,
    netmap_header,
    unpack,
)
from .registry import Registry

# Seconds after which an end that has said nothing, though it was asked, is taken to be gone.
ANSWER_TIMEOUT = 10.0
# Within which a map is to come that was asked for: 16 MiB at 2 Mbit/s take 67.
DELIVERY_TIMEOUT = 90.0
# Messages that the other end may send at once, and a second.
BURST = 100
RATE = 10.0
# Messages that tell something: so many at once, and a second, the pings that follow them not counted.
TELL_BURST = 8
TELL_RATE = 2.0
# How often it is found out how long an answer takes, in intervals: also if the other end is not silent.
INTERVALS = 4
NEVER = float("inf")
# What is handed to the transport at once.
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Offered:
    """The other end keeps this map."""

    version: int
    sha256: bytes


@dataclass(frozen=True)
class Delivered:
    """The map that was asked for as ``offer``; its signature is for the receiver to verify."""

    offer: Offered
    signed: bytes


@dataclass(frozen=True)
class Answered:
    """The other end has received what was sent before ``asked_at``."""

    asked_at: float


Event = Union[Offered, Delivered, Answered, Place, Nodes, Relay]


class SilenceError(Exception):
    """The other end is gone."""


class Exchange:
    """``interval``: seconds of silence after which the other end is asked whether it is there. ``takes``: FROM_NODES or
    FROM_BEACONS, by what the other end is. ``registry``: what the other end is told of, if this one is the beacon.
    """

    def __init__(
        self,
        kept: Optional[Kept],
        interval: float,
        now: float,
        takes: frozenset[int],
        registry: Optional[Registry] = None,
    ) -> None:
        self.opened_at = now
        self.rtt: Optional[float] = None
        """Seconds until the last answer."""
        self._registry = registry
        self._told = 0
        self._to_tell: dict[type[Message], Message] = {}
        self._telling: Optional[Ping] = None
        self._tell_at = now
        self._kept = kept
        self._interval = interval
        self._parser = Parser(takes)
        self._outgoing: deque[memoryview] = deque([memoryview(PREFACE)])
        self._given: Optional[bytes] = None
        self._asked: Optional[Offered] = None
        self._asked_at = now
        self._heard_at = now
        self._pinged_at: Optional[float] = None
        self._ping = Ping(bytes(8))
        self._ping_at = now
        self._allowance = float(BURST)
        self._allowance_at = now
        if kept is not None:
            self._send(Have(kept.version, kept.sha256))

    @property
    def asking(self) -> bool:
        """Whether a map is on its way to us."""
        return self._asked is not None

    def keep(self, kept: Kept) -> None:
        """This is the map that we keep now."""
        if self._kept is None or kept.sha256 != self._kept.sha256:
            self._kept = kept
            self._send(Have(kept.version, kept.sha256))

    def ask(self, offer: Offered, now: float) -> None:
        """Have the other end send the map that it has offered."""
        self._asked, self._asked_at = offer, now
        self._send(Want(offer.sha256))

    def tell(self, message: Union[Place, Relay]) -> None:
        """Say this instead of what was said of it before."""
        self._to_tell[type(message)] = message

    def tells_at(self) -> float:
        """When next_chunk() is to be called for what there is to tell; NEVER while there is nothing, or while what was
        told has not arrived.
        """
        news = self._to_tell or (self._registry and self._registry.change > self._told)
        return self._tell_at if news and not self._telling else NEVER

    def ping(self, now: float) -> None:
        """Ask whether the other end is there."""
        if self._pinged_at is None:
            self._pinged_at = now
        self._send_ping(now)

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """What these bytes say. Raises BeaconProtocolError."""
        self._heard_at, self._pinged_at = now, None
        for message in self._parser.feed(data, self.asking):
            self._count(now)
            event = self._handle(message, now)
            if event is not None:
                yield event

    def next_chunk(self, now: float) -> Optional[memoryview]:
        """Bytes to be sent, if there are any."""
        if not self._outgoing and now >= self.tells_at():
            self._tell(now)
        if not self._outgoing:
            return None
        rest = self._outgoing[0]
        if len(rest) > CHUNK_BYTES:
            self._outgoing[0] = rest[CHUNK_BYTES:]
        else:
            self._outgoing.popleft()
        return rest[:CHUNK_BYTES]

    def timer(self) -> float:
        """When handle_timer() is to be called next."""
        end = self._ask_at() if self._pinged_at is None else self._pinged_at + ANSWER_TIMEOUT
        return min(end, self._asked_at + DELIVERY_TIMEOUT) if self.asking else end

    def handle_timer(self, now: float) -> None:
        """Ask whether the other end is there, if it is time to. Raises SilenceError, BeaconProtocolError."""
        if self.asking and now >= self._asked_at + DELIVERY_TIMEOUT:
            raise BeaconProtocolError(f"it offered a netmap and did not send it within {DELIVERY_TIMEOUT:g} s")
        if self._pinged_at is not None:
            if now >= self._pinged_at + ANSWER_TIMEOUT:
                raise SilenceError(f"no answer within {ANSWER_TIMEOUT:g} s")
        elif now >= self._ask_at():
            self.ping(now)

    def _ask_at(self) -> float:
        silent = self._heard_at + self._interval
        return silent if self.asking else min(silent, self._ping_at + INTERVALS * self._interval)

    def _handle(self, message: Union[Message, Unknown], now: float) -> Optional[Event]:
        if isinstance(message, Have):
            return Offered(message.version, message.sha256)
        if isinstance(message, Want):
            self._give(message.sha256)
        elif isinstance(message, Packed):
            return self._take(message.content)
        elif isinstance(message, Ping):
            self._send(Pong(message.content))
        elif isinstance(message, Pong):
            return self._answered(message.content, now)
        elif not isinstance(message, Unknown):
            return message
        return None

    def _answered(self, content: bytes, now: float) -> Optional[Event]:
        if self._telling and content == self._telling.content:
            self._telling = None
        if content != self._ping.content:
            return None
        self.rtt = now - self._ping_at
        return Answered(self._ping_at)

    def _tell(self, now: float) -> None:
        messages = [encode(message) for message in self._to_tell.values()]
        self._to_tell.clear()
        while self._registry and self._told < self._registry.change and len(messages) < TELL_BURST:
            message, self._told = self._registry.message_since(self._told)
            messages += [message] if message else []
        if messages:
            self._outgoing += map(memoryview, messages)
            self._telling = self._send_ping(now)
            self._tell_at = now + len(messages) / TELL_RATE

    def _send_ping(self, now: float) -> Ping:
        self._ping_at = now
        self._ping = Ping((int.from_bytes(self._ping.content, "big") + 1).to_bytes(8, "big"))
        self._send(self._ping)
        return self._ping

    def _give(self, sha256: bytes) -> None:
        if self._kept is None or sha256 != self._kept.sha256:
            # Offered before there was the newer one, of which the other end knows by now; or never.
            return
        if sha256 == self._given:
            raise BeaconProtocolError("it asks twice for the same netmap")
        self._given = sha256
        # Not one more copy for each of a thousand nodes.
        self._outgoing += (memoryview(netmap_header(self._kept.packed)), memoryview(self._kept.packed))

    def _take(self, content: bytes) -> Event:
        signed, asked, self._asked = unpack(content), self._asked, None
        if asked is None or hashlib.sha256(signed).digest() != asked.sha256:
            raise BeaconProtocolError("a netmap that is not the one it offered")
        return Delivered(asked, signed)

    def _count(self, now: float) -> None:
        self._allowance = min(float(BURST), self._allowance + RATE * (now - self._allowance_at)) - 1
        self._allowance_at = now
        if self._allowance < 0:
            raise BeaconProtocolError(f"more than {RATE:g} messages a second")

    def _send(self, message: Message) -> None:
        self._outgoing.append(memoryview(encode(message)))
