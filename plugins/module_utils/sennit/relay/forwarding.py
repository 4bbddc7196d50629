# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes where: the relay's own sessions, and what it passes on between those who hold one.

Each message of WireGuard says in the clear whom it is for: an initiation by its mac1, all others by a receiver index.
What is the relay's own goes to a Device. Everything else is forwarded, unchanged, from a node that is attached to one
that is, too. A node is attached while it keeps up its session with the relay; it is known by the address that its
last authentic packet came from, and whoever sends from elsewhere gets nothing forwarded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from struct import Struct
from typing import Callable, Optional

from ..wireguard.aead import Buffer
from ..wireguard.batch import Datagrams, Piece, cut
from ..wireguard.constants import (
    COOKIE_REPLY_LENGTH,
    INITIATION_LENGTH,
    RESPONSE_LENGTH,
    TRANSPORT_OVERHEAD,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from ..wireguard.cookie import Mac1Checker
from ..wireguard.device import Device, Output
from ..wireguard.errors import DropReason
from ..wireguard.events import Endpoint, HandshakeCompleted, Path, PeerConfig, endpoint_of, for_one_answer
from .buckets import TokenBucket
from .recipients import Recipients
from .routes import Route, Routes

ATTACHED_FOR = 90.0
"""Seconds that a node stays attached after it was heard: it sends a keepalive every 25."""
HOLDS_FOR = 30.0
"""Seconds for which a place is a node's own after it was heard there: who sends with its address does not get it."""
REVIEW_INTERVAL = 10.0
"""Seconds between two looks for what is over."""

INITIATIONS = 20
INITIATIONS_AT_ONCE = 200
"""Initiations of a node that are forwarded in a second, and after a pause: it may begin with all others at once."""
BURST_TIME = 0.2
LEAST_BURST = 1 << 18
"""A node may send at once, after a pause, what its rate allows in so many seconds, and at least so many bytes."""

Sending = tuple[Sequence[Buffer], Path]
"""Datagrams for one address, in order."""

_NUMBER = Struct("<I")
_HEAD_LENGTH = 8  # type and receiver index of transport data
_LENGTHS = {
    TYPE_INITIATION: INITIATION_LENGTH,
    TYPE_RESPONSE: RESPONSE_LENGTH,
    TYPE_COOKIE_REPLY: COOKIE_REPLY_LENGTH,
}


class RelayDrop(str, Enum):
    """Why something was not forwarded; the value is the name the counter is shown under."""

    SENDER_NOT_ATTACHED = "relay-sender-not-attached"
    RECIPIENT_NOT_ATTACHED = "relay-recipient-not-attached"
    UNKNOWN_INDEX = "relay-unknown-receiver-index"
    INDEX_TAKEN = "relay-sender-index-taken"
    TOO_MANY_INITIATIONS = "relay-too-many-initiations"
    TOO_FAST = "relay-rate-exceeded"
    SEND_FAILED = "relay-send-failed"


class _NotForwardedError(Exception):
    """What came is dropped."""

    def __init__(self, reason: RelayDrop) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _Node:
    """A node of the network; path: where it is, while it is attached."""

    __slots__ = ("heard_at", "initiations", "path", "public_key", "traffic")

    def __init__(self, public_key: bytes, rate: float) -> None:
        self.public_key = public_key
        self.path: Optional[Path] = None
        self.heard_at = 0.0
        self.traffic = TokenBucket(rate, max(LEAST_BURST, rate * BURST_TIME))
        self.initiations = TokenBucket(INITIATIONS, INITIATIONS_AT_ONCE)


class Forwarder:
    """The relay's whole mind. `now` is monotonic, `wall` is the time of day, both in seconds."""

    def __init__(self, private_key: bytes, rate: float, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """private_key: the relay's own; rate: bytes a second that each node may have forwarded."""
        self.forwarded_packets = 0
        self.forwarded_bytes = 0
        self._device = Device(private_key, random=random)
        self._own = Mac1Checker(self._device.public_key)
        self._rate = rate
        self._dropped: Counter[RelayDrop] = Counter()
        self._malformed: Counter[DropReason] = Counter()
        self._nodes: dict[bytes, _Node] = {}
        self._places: dict[Endpoint, _Node] = {}
        self._recipients = Recipients()
        self.routes = Routes()
        self._changed: set[bytes] = set()
        self._review_at: Optional[float] = None

    @property
    def public_key(self) -> bytes:
        return self._device.public_key

    @property
    def attached(self) -> dict[bytes, Path]:
        """Where those nodes are that are attached, by public key."""
        return {node.public_key: node.path for node in self._places.values() if node.path is not None}

    @property
    def drops(self) -> dict[str, int]:
        """What was not forwarded, or not taken by the relay itself: how many, by reason."""
        counted: Counter[str] = Counter()
        for drops in (self._dropped, self._malformed, self._device.drops):
            counted.update({reason.value: count for reason, count in drops.items()})
        return dict(counted)

    def take_changes(self) -> dict[bytes, Optional[Path]]:
        """Who has been attached, moved or, with None, detached since the last call."""
        changed, self._changed = self._changed, set()
        return {key: self._nodes[key].path if key in self._nodes else None for key in changed}

    # --- whom it serves

    def use(self, public_keys: Iterable[bytes], now: float, wall: float) -> None:
        """Serve exactly these nodes. Who is not among them any more is cut off at once."""
        wanted = {key for key in public_keys if key != self.public_key}
        for key in self._nodes.keys() - wanted:
            self._detach(self._nodes[key])
            self.routes.forget(key)
            self._device.remove_peer(key)
            del self._nodes[key]
        for key in wanted - self._nodes.keys():
            self._nodes[key] = _Node(key, self._rate)
            self._device.set_peer(PeerConfig(key), now, wall)

    def resume(self, paths: Mapping[bytes, Path], now: float, wall: float) -> list[Sending]:
        """Begin again with nodes that were attached to the relay before this one, which is no more.

        They still have the old session and would need up to two minutes to find out.
        """
        sendings: list[Sending] = []
        for key, path in paths.items():
            if key in self._nodes:
                sendings += _sendings(self._device.resume(key, path, now, wall))
        return sendings

    def restore(self, routes: Iterable[Route], now: float) -> None:
        """Take up those of the relay before this one: the sessions that began through it go on through this one."""
        for owner, other, index in routes:
            if owner in self._nodes and other in self._nodes:
                self.routes.claim(owner, other, index, now)
        self._watch(now)

    # --- what comes in

    def receive(self, data: memoryview, size: int, source: Path, now: float, wall: float) -> list[Sending]:
        """Take what came of one source: datagrams of ``size`` bytes each, but for a shorter last one.

        What is to be sent is valid while the data is.
        """
        source = for_one_answer(source)
        sendings: list[Sending] = []
        for kind, piece in self._messages(data, size):
            message = piece.buffers[0][: piece.size]
            try:
                if self._is_own(kind, message):
                    sendings += self._take(piece, source, now, wall)
                else:
                    sendings.append(self._forward(kind, message, piece, source, now))
            except _NotForwardedError as error:
                self._dropped[error.reason] += piece.number
        return sendings

    def _messages(self, data: memoryview, size: int) -> Iterator[tuple[int, Piece]]:
        """The messages with their types; what is transport data to one receiver index stays together."""
        length = len(data)
        if not length:
            self._malformed[DropReason.WRONG_LENGTH] += 1
        at = 0
        while at < length:
            number, end = 1, min(at + size, length)
            kind = _kind(data[at:end])
            if isinstance(kind, DropReason):
                self._malformed[kind] += 1
            else:
                if kind == TYPE_TRANSPORT:
                    number, end = _alike(data, at, size)
                yield kind, Piece((data[at:end],), min(size, end - at), number)
            at = end

    def send_failed(self, count: int) -> None:
        """So many datagrams were not sent."""
        self._dropped[RelayDrop.SEND_FAILED] += count

    def next_deadline(self) -> Optional[float]:
        """When advance has to be called; None while there is nothing to wait for."""
        deadlines = [each for each in (self._device.next_deadline(), self._review_at) if each is not None]
        return min(deadlines) if deadlines else None

    def advance(self, now: float, wall: float) -> list[Sending]:
        """Let the time be now: needed when next_deadline is over."""
        if self._review_at is not None and now >= self._review_at:
            self._review(now)
        deadline = self._device.next_deadline()
        return _sendings(self._device.advance(now, wall)) if deadline is not None and now >= deadline else []

    # --- the relay's own sessions

    def _is_own(self, kind: int, message: Buffer) -> bool:
        if kind == TYPE_INITIATION:
            return self._own.valid(message)
        return self._device.knows(_receiver(kind, message))

    def _take(self, piece: Piece, source: Path, now: float, wall: float) -> list[Sending]:
        output = self._device.receive([bytes(message) for message in cut(piece)], source, now, wall)
        completed = {news.peer for news in output.news if isinstance(news, HandshakeCompleted)}
        for public_key in output.heard | completed:
            self._attach(self._nodes[public_key], source, now)
        return _sendings(output)

    def _attach(self, node: _Node, path: Path, now: float) -> None:
        if node.path == path:
            node.heard_at = now
            return
        endpoint = endpoint_of(path)
        before = self._places.get(endpoint)
        if before is not None and before is not node:
            # Two cannot be in one place: perhaps a NAT has given the port to another.
            if now - before.heard_at < HOLDS_FOR:
                return
            self._detach(before)
        node.heard_at = now
        if node.path is None:
            self._recipients.add(node.public_key)
        else:
            self._places.pop(endpoint_of(node.path), None)
        node.path = path
        self._places[endpoint] = node
        self._changed.add(node.public_key)
        self._watch(now)

    def _detach(self, node: _Node) -> None:
        if node.path is not None:
            self._places.pop(endpoint_of(node.path), None)
            node.path = None
            self._recipients.remove(node.public_key)
            self._changed.add(node.public_key)

    def _review(self, now: float) -> None:
        for node in list(self._places.values()):
            if now - node.heard_at >= ATTACHED_FOR:
                self._detach(node)
        self.routes.expire(now)
        self._review_at = None
        if self._places or len(self.routes):
            self._watch(now)

    def _watch(self, now: float) -> None:
        if self._review_at is None:
            self._review_at = now + REVIEW_INTERVAL

    # --- what is passed on

    def _forward(self, kind: int, message: Buffer, piece: Piece, source: Path, now: float) -> Sending:
        """Pass on as much of the piece, of which this is the first message, as its sender may send now.

        Raises _NotForwardedError when that is nothing.
        """
        sender = self._places.get(endpoint_of(source))
        if sender is None:
            raise _NotForwardedError(RelayDrop.SENDER_NOT_ATTACHED)
        recipient = self._recipient(sender, kind, message, now)
        if recipient is None or recipient.path is None:
            raise _NotForwardedError(RelayDrop.RECIPIENT_NOT_ATTACHED)
        if kind in (TYPE_INITIATION, TYPE_RESPONSE):
            if not self.routes.claim(sender.public_key, recipient.public_key, _sender(message), now):
                raise _NotForwardedError(RelayDrop.INDEX_TAKEN)
            self._watch(now)
        number = sender.traffic.take(piece.number, piece.size, now)
        if not number:
            raise _NotForwardedError(RelayDrop.TOO_FAST)
        if number < piece.number:
            self._dropped[RelayDrop.TOO_FAST] += piece.number - number
            piece = Piece((piece.buffers[0][: number * piece.size],), piece.size, number)
        self.forwarded_packets += number
        self.forwarded_bytes += len(piece.buffers[0])
        return Datagrams([piece]), recipient.path

    def _recipient(self, sender: _Node, kind: int, message: Buffer, now: float) -> Optional[_Node]:
        """Raises _NotForwardedError."""
        if kind != TYPE_INITIATION:
            public_key = self.routes.find(sender.public_key, _receiver(kind, message), now)
            if public_key is None:
                raise _NotForwardedError(RelayDrop.UNKNOWN_INDEX)
        else:
            if not sender.initiations.take(1, 1, now):
                raise _NotForwardedError(RelayDrop.TOO_MANY_INITIATIONS)
            public_key = self._recipients.find(sender.public_key, bytes(message), now)
        return None if public_key in (None, sender.public_key) else self._nodes.get(public_key)


def _receiver(kind: int, message: Buffer) -> int:
    """The receiver index of a message that is no initiation."""
    index: int = _NUMBER.unpack_from(message, 8 if kind == TYPE_RESPONSE else 4)[0]
    return index


def _sender(message: Buffer) -> int:
    """The sender index of an initiation or a response."""
    index: int = _NUMBER.unpack_from(message, 4)[0]
    return index


def _kind(message: memoryview) -> int | DropReason:
    """The type of a message of WireGuard, or why it is none."""
    length = len(message)
    if length < TRANSPORT_OVERHEAD:
        return DropReason.WRONG_LENGTH
    kind: int = _NUMBER.unpack_from(message)[0]
    if kind == TYPE_TRANSPORT:
        return kind
    wanted = _LENGTHS.get(kind)
    if wanted is None:
        return DropReason.UNKNOWN_TYPE
    return kind if length == wanted else DropReason.WRONG_LENGTH


def _alike(data: memoryview, at: int, size: int) -> tuple[int, int]:
    """How many datagrams from this one on are transport data to one receiver index, and where they end."""
    head = data[at : at + _HEAD_LENGTH]
    length = len(data)
    number, end = 1, min(at + size, length)
    while length - end >= TRANSPORT_OVERHEAD and data[end : end + _HEAD_LENGTH] == head:
        number, end = number + 1, min(end + size, length)
    return number, end


def _sendings(output: Output) -> list[Sending]:
    return [((datagram,), path) for datagram, path in output.datagrams]
