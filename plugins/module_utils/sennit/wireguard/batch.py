# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the two data halves have done for a whole batch at once: sealing and opening (whitepaper section 5.4.6).

A batch core does it, and there are two, which do byte for byte the same: the one here, in Python, and the native one
(datapath/native). Sessions, counters, staging and events are the halves' own. Each core has its own kinds of sequences
for what is on its way, and takes any other sequence of packets or datagrams as well, at the price of a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, compress, islice
from struct import Struct
from typing import Any, Callable, NamedTuple, Optional, Protocol

from .aead import AuthenticationError, Buffer, new_aead
from .constants import (
    PADDING_MULTIPLE,
    REJECT_AFTER_MESSAGES,
    TRANSPORT_HEADER_LENGTH,
    TRANSPORT_OVERHEAD,
    TYPE_TRANSPORT,
)
from .queues import ALL, Counters
from .replay import ReplayWindow

HEADER = Struct("<IIQ")
"""Type and three zero bytes, the receiver's index, the counter."""

RECEIVE_ROOM = 65536
"""Bytes that one receive may bring."""

MAX_SEGMENTS = 64
"""Datagrams that one call with UDP_SEGMENT takes, UDP_MAX_SEGMENTS until Linux 6.8."""

MAX_PAYLOAD = 65535 - 20 - 8
"""Bytes that it takes."""

_BEGINNING = Struct("<II")  # of the header
_NONCE_PREFIX = bytes(4)
_NONCE = Struct("<4xQ")
_PADDING = bytes(PADDING_MULTIPLE)
_PADDINGS = [bytes(-length % PADDING_MULTIPLE) for length in range(PADDING_MULTIPLE)]

# Of an inner packet: what holds the version and the length, and the source.
_LIKE_V4 = slice(4), slice(12, 16)
_LIKE_V6 = slice(6), slice(8, 24)

Allowed = Callable[[bytes], bool]
"""Whether the peer may send from a packed inner source address."""


class Piece(NamedTuple):
    """Datagrams that one call with UDP_SEGMENT can carry: `number` of `size` bytes, but for a shorter last one."""

    buffers: Sequence[Buffer]
    size: int
    number: int


class Datagrams(Sequence[Buffer]):
    """Sealed datagrams that lie in few buffers. They are valid until more packets are read or sealed."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return sum(piece.number for piece in self.pieces)

    def __iter__(self) -> Iterator[Buffer]:
        for piece in self.pieces:
            yield from cut(piece)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return list(self)[index]


def cut(piece: Piece) -> Iterator[Buffer]:
    """The datagrams of a piece, one by one."""
    for buffer in piece.buffers:
        view = memoryview(buffer)
        for at in range(0, len(view), piece.size):
            yield view[at : at + piece.size]


def together(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of datagrams of these sizes, those that make a piece each: the first of them, and the first behind them."""
    start, count = 0, len(sizes)
    while start < count:
        size = sizes[start]
        end = start + 1
        most = min(count, start + min(MAX_SEGMENTS, MAX_PAYLOAD // size)) if size else end
        while end < most and sizes[end] == size:
            end += 1
        if end < most and sizes[end] < size:
            end += 1
        yield start, end
        start = end


class Opened(NamedTuple):
    """What became of datagrams of one keypair that followed each other.

    `end` is the first that was not looked at, `bytes` the length of the datagrams with `packets` in them. Of these,
    `malformed` and `not_allowed` were dropped; all others were dropped before.
    """

    end: int
    packets: int
    keepalives: int
    bytes: int
    unauthentic: int
    replayed: int
    beyond: int
    malformed: int
    not_allowed: int


class Sent(NamedTuple):
    """Packets that were sent, the bytes of their datagrams, and when the last of them was, on the monotonic clock."""

    packets: int
    bytes: int
    at: float


class Received(NamedTuple):
    """What became of datagrams, without `end`, and when the last authentic one came, on the monotonic clock."""

    opened: Opened
    at: float


class Arrivals(Protocol):
    """Opened inner packets, in order, without their padding, that wait to be written."""

    def space(self) -> memoryview:
        """Where the next datagrams may be received, RECEIVE_ROOM bytes."""

    def received(self, length: int, size: int) -> Sequence[Buffer]:
        """The datagrams that were received there: of `size` bytes each, but for a shorter last one."""

    def full(self) -> bool:
        """Whether there is no space left for another receive."""

    def clear(self) -> None: ...

    def packets(self) -> list[bytes]: ...


class Sealer(Protocol):
    """The sending side of a keypair. `counter` is that of the next packet; padding makes none longer than `mtu`."""

    counter: int
    mtu: int

    def ready(self, number: int) -> bool:
        """Whether so many packets may be sealed; to be asked before they are. Other sealers of the keypair may have
        brought the counter up.
        """

    def seal(self, packets: Sequence[Buffer]) -> tuple[Sequence[Buffer], int]:
        """Seal packets under the next counters; also return their length with padding."""

    def sent(self) -> Optional[Sent]:
        """What the core has sent by itself since the last call; None for nothing."""


class Opener(Protocol):
    """The receiving side of a keypair, with its replay window."""

    def open(
        self, datagrams: Sequence[Buffer], at: int, arrivals: Arrivals, allowed: Allowed, generation: int
    ) -> Opened:
        """Open the datagrams from `at` on that are for this keypair, until one is not; the first is.

        Another `generation` says that `allowed` may answer differently now.
        """

    def received(self) -> Optional[Received]:
        """What became of what the core has taken by itself since the last call; None for nothing."""


class Core(Protocol):
    """What makes them."""

    name: str

    def sealer(self, key: bytes, remote_index: int, mtu: int, counters: Counters = ALL) -> Sealer: ...

    def opener(self, key: bytes, local_index: int) -> Opener: ...

    def arrivals(self) -> Arrivals: ...

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        """The packed address that the packets are for, which is that of the first; empty when that is malformed."""


def _sealed_size(length: int, mtu: int) -> int:
    """Of a datagram with a packet of that length, padded."""
    padding = min(-length % PADDING_MULTIPLE, mtu - length) if length < mtu else 0
    return length + padding + TRANSPORT_OVERHEAD


class PythonSealer:
    """See Sealer."""

    __slots__ = (
        "_beginning",
        "_encrypt",
        "_encrypt_into",
        "_index",
        "_mark",
        "_sent",
        "_stride",
        "counter",
        "mtu",
    )

    def __init__(self, key: bytes, remote_index: int, mtu: int, counters: Counters = ALL) -> None:
        aead = new_aead(key)
        self._encrypt, self._encrypt_into = aead.encrypt, aead.encrypt_into
        self._index = remote_index
        self._beginning = _BEGINNING.pack(TYPE_TRANSPORT, remote_index)
        self.mtu = mtu
        self.counter, self._stride, self._mark = counters
        self._sent: Optional[Sent] = None

    def ready(self, number: int) -> bool:
        mark, stride = self._mark, self._stride
        if mark is not None:
            behind = mark[0] - self.counter
            if behind > 0:
                self.counter += -(-behind // stride) * stride
            mark[0] = self.counter
        return self.counter + number * stride <= REJECT_AFTER_MESSAGES

    def seal(self, packets: Sequence[Buffer]) -> tuple[Sequence[Buffer], int]:
        if len(packets) == 1:
            datagram = self.seal_one(bytes(packets[0]))
            return Datagrams([Piece((datagram,), len(datagram), 1)]), len(datagram) - TRANSPORT_OVERHEAD
        lengths = list(map(len, packets))
        size_of = {length: _sealed_size(length, self.mtu) for length in set(lengths)}
        sizes = [size_of[length] for length in lengths]
        total = sum(sizes)
        # One buffer, which goes to the kernel as it is.
        buffer = bytearray(total)
        view = memoryview(buffer)
        pack, pack_nonce, encrypt_into = HEADER.pack_into, _NONCE.pack, self._encrypt_into
        index, counter, stride = self._index, self.counter, self._stride
        at = 0
        for packet, size in zip(packets, sizes):
            padding = size - TRANSPORT_OVERHEAD - len(packet)
            padded = b"".join((packet, _PADDING[:padding])) if padding else packet
            end = at + size
            pack(buffer, at, TYPE_TRANSPORT, index, counter)
            encrypt_into(pack_nonce(counter), padded, None, view[at + TRANSPORT_HEADER_LENGTH : end])
            counter += stride
            at = end
        self.counter = counter
        pieces = []
        at = 0
        for first, behind in together(sizes):
            end = at + sum(sizes[first:behind])
            pieces.append(Piece((view[at:end],), sizes[first], behind - first))
            at = end
        return Datagrams(pieces), total - TRANSPORT_OVERHEAD * len(packets)

    def seal_one(self, packet: bytes) -> bytes:
        """As seal(), by the shortest way."""
        counter = self.counter
        length = len(packet)
        if length & 15:
            padding = _PADDINGS[length & 15]
            packet += padding if length < self.mtu - 15 else padding[: max(0, self.mtu - length)]
        self.counter = counter + self._stride
        number = counter.to_bytes(8, "little")
        return self._beginning + number + self._encrypt(_NONCE_PREFIX + number, packet, None)

    def count(self, size: int, now: float) -> None:
        """A datagram of that size, of seal_one(), is on its way; sent() tells."""
        packets, before, _at = self._sent or (0, 0, 0.0)
        self._sent = Sent(packets + 1, before + size, now)

    def sent(self) -> Optional[Sent]:
        sent, self._sent = self._sent, None
        return sent


class _ReceivedDatagrams(Sequence[Buffer]):
    """Datagrams of one receive, behind each other: of `size` bytes each, but for a shorter last one."""

    __slots__ = ("size", "view")

    def __init__(self, view: memoryview, size: int) -> None:
        self.view = view
        self.size = size

    def __len__(self) -> int:
        return (len(self.view) + self.size - 1) // self.size

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            return list(self)[index]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.view[index * self.size : (index + 1) * self.size]


_Fields = tuple[bytes, bytes, Buffer]
"""Of a datagram: type and receiver's index, counter, what is sealed."""


@lru_cache(maxsize=256)
def _layout(size: int) -> Struct:
    """Of a transport message of that size."""
    return Struct(f"8s8s{size - TRANSPORT_HEADER_LENGTH}s")


@lru_cache(maxsize=256)
def _counters(count: int) -> Struct:
    return Struct(f"<{count}Q")


def _fields(datagrams: Sequence[Buffer], at: int) -> Iterator[_Fields]:
    """Of the datagrams from `at` on, until one is too short for a transport message."""
    if not isinstance(datagrams, _ReceivedDatagrams):
        return _fields_of_each(datagrams, at)
    view = datagrams.view[at * datagrams.size :]
    if len(view) < TRANSPORT_OVERHEAD:
        return iter(())
    # In one go, without a view of each.
    size = min(datagrams.size, len(view))
    whole = len(view) // size * size
    found = _layout(size).iter_unpack(view[:whole])
    last = view[whole:]
    return chain(found, _layout(len(last)).iter_unpack(last)) if len(last) >= TRANSPORT_OVERHEAD else found


def _fields_of_each(datagrams: Sequence[Buffer], at: int) -> Iterator[_Fields]:
    for datagram in islice(datagrams, at, None):
        if len(datagram) < TRANSPORT_OVERHEAD:
            return
        yield _layout(len(datagram)).unpack(datagram)


class PythonArrivals:
    """A list, and one buffer to receive into, since what is opened lies elsewhere."""

    __slots__ = ("_packets", "_view")

    def __init__(self) -> None:
        self._packets: list[bytes] = []
        self._view = memoryview(bytearray(RECEIVE_ROOM))

    def space(self) -> memoryview:
        return self._view

    def received(self, length: int, size: int) -> Sequence[Buffer]:
        view = self._view[:length]
        return _ReceivedDatagrams(view, size) if 0 < size < length else [view]

    def full(self) -> bool:
        return False

    def clear(self) -> None:
        self._packets.clear()

    def packets(self) -> list[bytes]:
        return self._packets


class PythonOpener:
    """See Opener."""

    __slots__ = ("_decrypt", "_generation", "_known", "_received", "_window", "beginning")

    def __init__(self, key: bytes, local_index: int) -> None:
        self._decrypt = new_aead(key).decrypt
        self.beginning = _BEGINNING.pack(TYPE_TRANSPORT, local_index)
        self._window = ReplayWindow()
        self._known = b""  # the last source that was allowed, in this generation
        self._generation = 0
        self._received: Optional[Sent] = None

    def open(
        self, datagrams: Sequence[Buffer], at: int, arrivals: Arrivals, allowed: Allowed, generation: int
    ) -> Opened:
        decrypt, our_beginning = self._decrypt, self.beginning
        packets: list[bytes] = []
        counters: list[bytes] = []
        unauthentic, end = 0, at
        for beginning, counter, sealed in _fields(datagrams, at):
            if beginning != our_beginning:
                break
            end += 1
            try:
                packets.append(decrypt(_NONCE_PREFIX + counter, sealed, None))
            except AuthenticationError:
                unauthentic += 1
            else:
                counters.append(counter)
        numbers = _counters(len(counters)).unpack(b"".join(counters))
        accepted = self._window.accept_all(numbers)
        replayed = accepted.count(False)
        beyond = 0
        if replayed:
            packets = list(compress(packets, accepted))
            beyond = sum(number >= REJECT_AFTER_MESSAGES for number in numbers)
        keepalives = packets.count(b"")
        count = len(packets) - keepalives
        size = sum(map(len, packets)) + TRANSPORT_OVERHEAD * count
        malformed, not_allowed = self._let_through(packets, arrivals.packets(), allowed, generation)
        return Opened(end, count, keepalives, size, unauthentic, replayed - beyond, beyond, malformed, not_allowed)

    def _let_through(
        self, packets: list[bytes], through: list[bytes], allowed: Allowed, generation: int
    ) -> tuple[int, int]:
        """Append what the peer may send, without padding. Return how many are malformed, and how many not allowed."""
        if generation != self._generation:
            self._generation, self._known = generation, b""
        known, malformed, not_allowed = self._known, 0, 0
        # Most are like the one before: of the same version and lengths, from the same source.
        length, whole, like, start, place = 0, -1, b"", slice(0), slice(0)
        for packet in packets:
            if len(packet) != whole or packet[start] != like or packet[place] != known:
                if not packet:  # a keepalive
                    continue
                inner = inner_length(packet)
                if not inner:
                    malformed += 1
                    continue
                its_start, its_place = _LIKE_V6 if packet[0] >> 4 == 6 else _LIKE_V4
                source = packet[its_place]
                if source != known and not allowed(source):
                    not_allowed += 1
                    continue
                known, length, whole, start, place = source, inner, len(packet), its_start, its_place
                like = packet[start]
            through.append(packet[:length])
        self._known = known
        return malformed, not_allowed

    def open_one(self, number: bytes, sealed: memoryview, allowed: Allowed) -> bytes:
        """The packet in a datagram for this keypair, of which these are the counter and what follows, the shortest way.

        Empty where there is none, or where it is to be dropped: nothing has changed then, and open() says why.
        `allowed` answers as it did when that was called last.
        """
        try:
            packet = self._decrypt(_NONCE_PREFIX + number, sealed, None)
        except AuthenticationError:
            return b""
        if len(packet) >= 20 and packet[0] == 0x45:  # as most are; what follows is inner_length() then
            length, source = packet[2] << 8 | packet[3], packet[12:16]
            if not 20 <= length <= len(packet):
                return b""
        else:
            length = inner_length(packet) if packet else 0
            if not length:
                return b""
            source = packet[8:24] if packet[0] >> 4 == 6 else packet[12:16]
        if source != self._known:
            if not allowed(source):
                return b""
            self._known = source
        if not self._window.accept(int.from_bytes(number, "little")):
            return b""
        return packet[:length]

    def count(self, size: int, now: float) -> None:
        """A datagram of that size, of open_one(), was taken; received() tells."""
        packets, before, _at = self._received or (0, 0, 0.0)
        self._received = Sent(packets + 1, before + size, now)

    def received(self) -> Optional[Received]:
        taken, self._received = self._received, None
        return taken and Received(Opened(0, taken.packets, 0, taken.bytes, 0, 0, 0, 0, 0), taken.at)


def inner_length(packet: bytes) -> int:
    """The length of an IP packet without the padding behind it; 0 when there is none."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        length = packet[2] << 8 | packet[3]
        shortest = 20
    elif version == 6 and len(packet) >= 40:
        length = (packet[4] << 8 | packet[5]) + 40
        shortest = 40
    else:
        return 0
    return length if shortest <= length <= len(packet) else 0


def destination_of(packet: Buffer) -> bytes:
    """The packed destination of an IP packet, empty when it is malformed."""
    version = packet[0] >> 4 if len(packet) >= 20 else 0
    if version == 4:
        return bytes(packet[16:20])
    return bytes(packet[24:40]) if version == 6 and len(packet) >= 40 else b""


class PythonCore:
    """The batch core that every host has."""

    name = "python"

    def sealer(self, key: bytes, remote_index: int, mtu: int, counters: Counters = ALL) -> Sealer:
        return PythonSealer(key, remote_index, mtu, counters)

    def opener(self, key: bytes, local_index: int) -> Opener:
        return PythonOpener(key, local_index)

    def arrivals(self) -> Arrivals:
        return PythonArrivals()

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        return destination_of(packets[0])
