# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory that Python has and C works on: frames from TUN, datagrams from UDP, and the tables of what is in them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

from ...wireguard.aead import Buffer
from ...wireguard.batch import RECEIVE_ROOM
from ..segment import segment
from ..vnet import PLAIN

FRAME = Struct("=II")
RUN = Struct("=IIII16sI")
PIECE = Struct("=IIII")
OPENED = Struct("=10I")
NUMBER = Struct("=I")
_PACKET = Struct("=II")

ARRIVAL_BYTES = 4 * RECEIVE_ROOM
MOST_ARRIVALS = ARRIVAL_BYTES // 32 + 1


class Memory:
    """A buffer that C works on."""

    __slots__ = ("_hold", "address", "buffer", "view")

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self._hold = ctypes.c_char.from_buffer(self.buffer)
        self.address = ctypes.addressof(self._hold)


class Packets(Sequence[Buffer]):
    """Frames that were read from TUN and not cut yet; as a sequence, the packets that they hold."""

    __slots__ = ("_count", "destination", "first", "frames", "memory", "room")

    def __init__(self, memory: Frames, run: tuple[Any, ...]) -> None:
        """run: as unpacked from the struct."""
        self.memory = memory
        self._count: int
        self.first, self.frames, self._count, self.room, destination, version = run
        self.destination = destination[:4] if version == 4 else destination

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Buffer]:
        for number in range(self.first, self.first + self.frames):
            yield from segment(self.memory.frame(number))

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


class Frames:
    """Where frames lie, by offset and length."""

    __slots__ = ("arena", "table")

    def __init__(self, size: int, most: int) -> None:
        self.arena = Memory(size)
        self.table = Memory(most * FRAME.size)

    @classmethod
    def of(cls, packets: Sequence[Buffer]) -> Frames:
        """Of packets that are complete as they are."""
        frames = cls(sum(map(len, packets)) + len(packets) * len(PLAIN), len(packets))
        at = 0
        for number, packet in enumerate(packets):
            end = at + len(PLAIN) + len(packet)
            frames.arena.buffer[at + len(PLAIN) : end] = packet
            FRAME.pack_into(frames.table.buffer, number * FRAME.size, at, end - at)
            at = end
        return frames

    def frame(self, number: int) -> bytes:
        offset, length = FRAME.unpack_from(self.table.buffer, number * FRAME.size)
        return bytes(self.arena.view[offset : offset + length])


class NativeArrivals:
    """What was received, and opened where it lies; and a table of the packets in it."""

    __slots__ = ("arena", "at", "count", "result", "table", "unknown")

    def __init__(self) -> None:
        self.arena = Memory(ARRIVAL_BYTES)
        self.table = Memory(MOST_ARRIVALS * _PACKET.size)
        self.unknown = Memory(MOST_ARRIVALS * NUMBER.size)
        self.result = Memory(OPENED.size)
        self.at = 0  # where the next receive goes
        self.count = 0

    def space(self) -> memoryview:
        return self.arena.view[self.at : self.at + RECEIVE_ROOM]

    def received(self, length: int, size: int) -> Sequence[Buffer]:
        datagrams = ReceivedDatagrams(self.arena, self.at, length, size if 0 < size < length else max(length, 1))
        self.at += (length + 15) & ~15
        return datagrams

    def hold(self, datagram: Buffer) -> ReceivedDatagrams:
        """A datagram that came some other way."""
        length = len(datagram)
        self.arena.buffer[self.at : self.at + length] = datagram
        datagrams = ReceivedDatagrams(self.arena, self.at, length, max(length, 1))
        self.at += (length + 15) & ~15
        return datagrams

    def full(self) -> bool:
        return self.at + RECEIVE_ROOM > ARRIVAL_BYTES

    def clear(self) -> None:
        self.at = self.count = 0

    def packets(self) -> list[bytes]:
        entries = (_PACKET.unpack_from(self.table.buffer, at * _PACKET.size) for at in range(self.count))
        return [bytes(self.arena.view[offset : offset + length]) for offset, length in entries if length]

    def source(self, number: int) -> tuple[bytes, int]:
        """Of an opened packet: the packed inner source address, and where the packet lies."""
        offset: int = _PACKET.unpack_from(self.table.buffer, number * _PACKET.size)[0]
        buffer = self.arena.buffer
        start, end = (12, 16) if buffer[offset] >> 4 == 4 else (8, 24)
        return bytes(buffer[offset + start : offset + end]), self.arena.address + offset

    def strike(self, number: int) -> None:
        _PACKET.pack_into(self.table.buffer, number * _PACKET.size, 0, 0)


class ReceivedDatagrams(Sequence[Buffer]):
    """Datagrams of one receive."""

    __slots__ = ("_count", "arena", "end", "size", "start")

    def __init__(self, arena: Memory, start: int, length: int, size: int) -> None:
        self.arena = arena
        self.start = start
        self.end = start + length
        self.size = size
        self._count = -(-length // size) if length else 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            return list(self)[index]
        if not 0 <= index < self._count:
            raise IndexError(index)
        at = self.start + index * self.size
        return self.arena.view[at : min(at + self.size, self.end)]
