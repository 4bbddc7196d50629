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
from struct import Struct
from typing import Callable, NamedTuple, Optional, Protocol

from .aead import Aead, AuthenticationError, Buffer, new_aead
from .constants import (
    PADDING_MULTIPLE,
    REJECT_AFTER_MESSAGES,
    TRANSPORT_HEADER_LENGTH,
    TRANSPORT_OVERHEAD,
    TYPE_TRANSPORT,
)
from .replay import ReplayWindow

HEADER = Struct("<IIQ")
"""Type and three zero bytes, the receiver's index, the counter."""

RECEIVE_ROOM = 65536
"""Bytes that one receive may bring."""

_NONCE_PREFIX = bytes(4)
_NONCE = Struct("<4xQ")
_PADDING = bytes(PADDING_MULTIPLE)

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

    def sealer(self, key: bytes, remote_index: int, mtu: int) -> Sealer: ...

    def opener(self, key: bytes, local_index: int) -> Opener: ...

    def arrivals(self) -> Arrivals: ...

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        """The packed address that the packets are for, which is that of the first; empty when that is malformed."""


class PythonSealer:
    """A batch is a list of packets; so are the datagrams."""

    __slots__ = ("_aead", "_index", "counter", "mtu")

    def __init__(self, key: bytes, remote_index: int, mtu: int) -> None:
        self._aead: Aead = new_aead(key)
        self._index = remote_index
        self.mtu = mtu
        self.counter = 0

    def seal(self, packets: Sequence[Buffer]) -> tuple[Sequence[Buffer], int]:
        datagrams: list[Buffer] = []
        append, pack, encrypt = datagrams.append, HEADER.pack, self._aead.encrypt
        index, mtu, counter = self._index, self.mtu, self.counter
        size = 0
        for packet in packets:
            length = len(packet)
            padding = min(-length % PADDING_MULTIPLE, mtu - length) if length < mtu else 0
            padded = b"".join((packet, _PADDING[:padding])) if padding else packet
            header = pack(TYPE_TRANSPORT, index, counter)
            append(header + encrypt(_NONCE_PREFIX + header[8:], padded, None))
            counter += 1
            size += length + padding
        self.counter = counter
        return datagrams, size

    def sent(self) -> Optional[Sent]:
        return None


class PythonArrivals:
    """A list, and one buffer to receive into, since what is opened lies elsewhere."""

    __slots__ = ("_packets", "_view")

    def __init__(self) -> None:
        self._packets: list[bytes] = []
        self._view = memoryview(bytearray(RECEIVE_ROOM))

    def space(self) -> memoryview:
        return self._view

    def received(self, length: int, size: int) -> Sequence[Buffer]:
        view = self._view
        if not 0 < size < length:
            return [view[:length]]
        return [view[at : min(at + size, length)] for at in range(0, length, size)]

    def full(self) -> bool:
        return False

    def clear(self) -> None:
        self._packets.clear()

    def packets(self) -> list[bytes]:
        return self._packets


class PythonOpener:
    """See Opener."""

    __slots__ = ("_aead", "_generation", "_index", "_known", "_window")

    def __init__(self, key: bytes, local_index: int) -> None:
        self._aead: Aead = new_aead(key)
        self._index = local_index
        self._window = ReplayWindow()
        self._known = b""  # the last source that was allowed, in this generation
        self._generation = 0

    # One loop on purpose: a call a step would cost more than the steps.
    def open(  # noqa: C901
        self, datagrams: Sequence[Buffer], at: int, arrivals: Arrivals, allowed: Allowed, generation: int
    ) -> Opened:
        packets = arrivals.packets()
        append, unpack, pack_nonce = packets.append, HEADER.unpack_from, _NONCE.pack
        decrypt, accept, own_index = self._aead.decrypt, self._window.accept, self._index
        count = keepalives = size = unauthentic = replayed = beyond = malformed = not_allowed = 0
        if generation != self._generation:
            self._generation, self._known = generation, b""
        known = self._known
        end = len(datagrams)
        for number in range(at, end):
            datagram = datagrams[number]
            if len(datagram) < TRANSPORT_OVERHEAD:
                end = number
                break
            kind, index, counter = unpack(datagram)
            if kind != TYPE_TRANSPORT or index != own_index:
                end = number
                break
            try:
                packet = decrypt(pack_nonce(counter), datagram[TRANSPORT_HEADER_LENGTH:], None)
            except AuthenticationError:
                unauthentic += 1
                continue
            if not accept(counter):
                if counter >= REJECT_AFTER_MESSAGES:
                    beyond += 1
                else:
                    replayed += 1
                continue
            if not packet:
                keepalives += 1
                continue
            count += 1
            size += len(datagram)
            length = inner_length(packet)
            if not length:
                malformed += 1
                continue
            source = packet[8:24] if packet[0] >> 4 == 6 else packet[12:16]
            if source != known:
                if not allowed(source):
                    not_allowed += 1
                    continue
                known = source
            append(packet if length == len(packet) else packet[:length])
        self._known = known
        return Opened(end, count, keepalives, size, unauthentic, replayed, beyond, malformed, not_allowed)

    def received(self) -> Optional[Received]:
        return None


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

    def sealer(self, key: bytes, remote_index: int, mtu: int) -> Sealer:
        return PythonSealer(key, remote_index, mtu)

    def opener(self, key: bytes, local_index: int) -> Opener:
        return PythonOpener(key, local_index)

    def arrivals(self) -> Arrivals:
        return PythonArrivals()

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        return destination_of(packets[0])
