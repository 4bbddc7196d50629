# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One end of a stream, without the stream: bytes and the time go in, bytes and events come out.

Theory of operation. Both ends say which map they keep, at first and whenever that changes. An end that would rather
have the other's asks for it, and gets it. Nothing that was not asked for is accepted, and nothing is given twice, so
that neither end can make the other hold or send more than it means to. Both say something now and then, so that each
knows whether the other is there; whatever comes counts.
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
    Packed,
    Parser,
    Ping,
    Pong,
    Want,
    encode,
    netmap_header,
    unpack,
)

# Seconds after which an end that has said nothing, though it was asked, is taken to be gone.
ANSWER_TIMEOUT = 10.0
# Within which a map is to come that was asked for: 16 MiB at 2 Mbit/s take 67.
DELIVERY_TIMEOUT = 90.0
# Messages that the other end may send at once, and a second.
BURST = 100
RATE = 10.0
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


Event = Union[Offered, Delivered, Answered]


class SilenceError(Exception):
    """The other end is gone, or does not do what it was asked to."""


class Exchange:
    """``interval``: seconds of silence after which the other end is asked whether it is there."""

    def __init__(self, kept: Optional[Kept], interval: float, now: float) -> None:
        self.opened_at = now
        self._kept = kept
        self._interval = interval
        self._parser = Parser()
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

    def ping(self, now: float) -> None:
        """Ask whether the other end is there."""
        self._pinged_at = self._ping_at = now
        self._ping = Ping((int.from_bytes(self._ping.content, "big") + 1).to_bytes(8, "big"))
        self._send(self._ping)

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """What these bytes say. Raises BeaconProtocolError."""
        self._heard_at, self._pinged_at = now, None
        for message in self._parser.feed(data, self.asking):
            self._count(now)
            event = self._handle(message)
            if event is not None:
                yield event

    def next_chunk(self) -> Optional[memoryview]:
        """Bytes to be sent, if there are any."""
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
        end = self._heard_at + self._interval if self._pinged_at is None else self._pinged_at + ANSWER_TIMEOUT
        return min(end, self._asked_at + DELIVERY_TIMEOUT) if self.asking else end

    def handle_timer(self, now: float) -> None:
        """Ask whether the other end is there, if it is time to. Raises SilenceError."""
        if self.asking and now >= self._asked_at + DELIVERY_TIMEOUT:
            raise SilenceError(f"it offered a netmap and did not send it within {DELIVERY_TIMEOUT:g} s")
        if self._pinged_at is not None:
            if now >= self._pinged_at + ANSWER_TIMEOUT:
                raise SilenceError(f"no answer within {ANSWER_TIMEOUT:g} s")
        elif now >= self._heard_at + self._interval:
            self.ping(now)

    def _handle(self, message: Message) -> Optional[Event]:
        if isinstance(message, Have):
            return Offered(message.version, message.sha256)
        if isinstance(message, Want):
            self._give(message.sha256)
        elif isinstance(message, Packed):
            return self._take(message.content)
        elif isinstance(message, Ping):
            self._send(Pong(message.content))
        elif message.content == self._ping.content:
            return Answered(self._ping_at)
        return None

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
