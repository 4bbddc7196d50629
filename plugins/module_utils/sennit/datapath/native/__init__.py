# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The native batch core: batch.h and what is beside it as a shared library, by ctypes, over the libcrypto of the host.

The library is built for an architecture, not for a distribution or a Python. It gets memory that lies here, and
functions of libcrypto; it opens nothing and remembers nothing but keys and replay windows. A call lets go of the GIL.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, Optional

from ...wireguard.aead import Buffer
from ...wireguard.batch import RECEIVE_ROOM, Allowed, Arrivals, Datagrams, Opened, Piece, destination_of
from ...wireguard.constants import KEY_LENGTH
from ..core import Intake, NativeError
from ..segment import segment
from ..tun import Tun
from ..vnet import MAX_FRAME, PLAIN

_ABI = 1

# The structs of C.
_FRAME = Struct("=II")
_RUN = Struct("=IIII16sI")
_INTAKE = Struct("=IIIIi")
_PIECE = Struct("=IIII")
_SEALED = Struct("=III")
_PACKET = Struct("=II")
_OPENED = Struct("=10I")
_JOINED_SIZE = 40
_NUMBER = Struct("=I")

# In the order of struct crypto: pointers to these functions of libcrypto.
_FUNCTIONS = (
    "EVP_chacha20_poly1305",
    "EVP_CIPHER_CTX_new",
    "EVP_CIPHER_CTX_free",
    "EVP_CipherInit_ex",
    "EVP_CipherUpdate",
    "EVP_CipherFinal_ex",
    "EVP_CIPHER_CTX_ctrl",
)
_SINCE_3 = (
    "EVP_CIPHER_fetch",
    "EVP_CIPHER_get0_provider",
    "OSSL_PROVIDER_get0_provider_ctx",
    "OSSL_PROVIDER_query_operation",
)
_LIBCRYPTO = ("libcrypto.so.3", "libcrypto.so.1.1")

_READ_BYTES = 4 * MAX_FRAME
_SEAL_BYTES = 1 << 20  # more than this are only super-packets of tiny segments
_MOST_PIECES = 4096
_ARRIVAL_BYTES = 4 * RECEIVE_ROOM
_MOST_ARRIVALS = _ARRIVAL_BYTES // 32 + 1

_OVERHEAD = 16 + 16 + 15  # what sealing adds, at most

# RFC 8439 has no vector for a nonce of WireGuard's; this is the tag of an empty packet under a key of zeros, counter 0.
_KNOWN_TAG = bytes.fromhex("4eb972c9a8fb3a1b382bb4d36f5ffad1")


class _Memory:
    """A buffer that C works on."""

    __slots__ = ("_hold", "address", "buffer", "view")

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self._hold = ctypes.c_char.from_buffer(self.buffer)
        self.address = ctypes.addressof(self._hold)


class _Packets(Sequence[Buffer]):
    """Frames that were read from TUN and not cut yet; as a sequence, the packets that they hold."""

    __slots__ = ("_count", "destination", "first", "frames", "memory", "room")

    def __init__(self, memory: _Frames, run: tuple[Any, ...]) -> None:
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


class _Frames:
    """Where frames lie, by offset and length."""

    __slots__ = ("arena", "table")

    def __init__(self, size: int, most: int) -> None:
        self.arena = _Memory(size)
        self.table = _Memory(most * _FRAME.size)

    @classmethod
    def of(cls, packets: Sequence[Buffer]) -> _Frames:
        """Of packets that are complete as they are."""
        frames = cls(sum(map(len, packets)) + len(packets) * len(PLAIN), len(packets))
        at = 0
        for number, packet in enumerate(packets):
            end = at + len(PLAIN) + len(packet)
            frames.arena.buffer[at + len(PLAIN) : end] = packet
            _FRAME.pack_into(frames.table.buffer, number * _FRAME.size, at, end - at)
            at = end
        return frames

    def frame(self, number: int) -> bytes:
        offset, length = _FRAME.unpack_from(self.table.buffer, number * _FRAME.size)
        return bytes(self.arena.view[offset : offset + length])


class _Arrivals:
    """What was received, and opened where it lies; and a table of the packets in it."""

    __slots__ = ("arena", "at", "count", "result", "table", "unknown")

    def __init__(self) -> None:
        self.arena = _Memory(_ARRIVAL_BYTES)
        self.table = _Memory(_MOST_ARRIVALS * _PACKET.size)
        self.unknown = _Memory(_MOST_ARRIVALS * _NUMBER.size)
        self.result = _Memory(_OPENED.size)
        self.at = 0  # where the next receive goes
        self.count = 0

    def space(self) -> memoryview:
        return self.arena.view[self.at : self.at + RECEIVE_ROOM]

    def received(self, length: int, size: int) -> Sequence[Buffer]:
        datagrams = _Received(self.arena, self.at, length, size if 0 < size < length else max(length, 1))
        self.at += (length + 15) & ~15
        return datagrams

    def hold(self, datagram: Buffer) -> _Received:
        """A datagram that came some other way."""
        length = len(datagram)
        self.arena.buffer[self.at : self.at + length] = datagram
        datagrams = _Received(self.arena, self.at, length, max(length, 1))
        self.at += (length + 15) & ~15
        return datagrams

    def full(self) -> bool:
        return self.at + RECEIVE_ROOM > _ARRIVAL_BYTES

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


class _Received(Sequence[Buffer]):
    """Datagrams of one receive."""

    __slots__ = ("_count", "arena", "end", "size", "start")

    def __init__(self, arena: _Memory, start: int, length: int, size: int) -> None:
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


class _Sealer:
    __slots__ = ("_core", "_handle")

    def __init__(self, core: NativeCore, key: bytes, index: int, mtu: int) -> None:
        self._core = core
        self._handle = core.library.batch_sealer_new(_checked(key), index, mtu)
        if not self._handle:
            raise MemoryError("libcrypto gives no cipher")

    def seal(self, packets: Sequence[Buffer], counter: int) -> tuple[Sequence[Buffer], int]:
        core = self._core
        if isinstance(packets, _Packets):
            memory, first, frames = packets.memory, packets.first, packets.frames
            out, pieces = core.room_for(packets)
        else:
            # Few of these are sealed, and they may be kept.
            memory, first, frames = _Frames.of(packets), 0, len(packets)
            out, pieces = _Memory(sum(map(len, packets)) + frames * _OVERHEAD), _Memory(frames * _PIECE.size)
        done = core.library.batch_seal(
            self._handle,
            counter,
            memory.arena.address,
            memory.table.address + first * _FRAME.size,
            frames,
            out.address,
            pieces.address,
            core.result.address,
        )
        if not done:
            raise MemoryError("libcrypto does not seal")
        _length, count, size = _SEALED.unpack_from(core.result.buffer)
        view = out.view
        sealed = []
        for at in range(0, count * _PIECE.size, _PIECE.size):
            offset, length, each, number = _PIECE.unpack_from(pieces.buffer, at)
            sealed.append(Piece((view[offset : offset + length],), each, number))
        return Datagrams(sealed), size

    def __del__(self) -> None:
        if self._handle:
            self._core.library.batch_sealer_free(self._handle)


class _Opener:
    __slots__ = ("_handle", "_library")

    def __init__(self, library: ctypes.CDLL, key: bytes, index: int) -> None:
        self._library = library
        self._handle = library.batch_opener_new(_checked(key), index)
        if not self._handle:
            raise MemoryError("libcrypto gives no cipher")

    def open(
        self, datagrams: Sequence[Buffer], at: int, arrivals: Arrivals, allowed: Allowed, generation: int
    ) -> Opened:
        if not isinstance(arrivals, _Arrivals):
            raise TypeError("arrivals of another core")
        if not isinstance(datagrams, _Received):
            opened = self.open(arrivals.hold(datagrams[at]), 0, arrivals, allowed, generation)
            return opened._replace(end=at + 1)
        self._library.batch_open(
            self._handle,
            arrivals.arena.address,
            datagrams.start + at * datagrams.size,
            datagrams.end,
            datagrams.size,
            generation,
            arrivals.table.address,
            arrivals.count,
            arrivals.unknown.address,
            arrivals.result.address,
        )
        end, packets, keepalives, size, unauthentic, replayed, beyond, malformed, count, unknown = _OPENED.unpack_from(
            arrivals.result.buffer
        )
        not_allowed = 0
        for number in range(unknown):
            entry: int = _NUMBER.unpack_from(arrivals.unknown.buffer, number * _NUMBER.size)[0]
            source, address = arrivals.source(entry)
            if allowed(source):
                self._library.batch_know(self._handle, address)
            else:
                arrivals.strike(entry)
                not_allowed += 1
        arrivals.count = count
        looked_at = -(-(end - datagrams.start) // datagrams.size)
        return Opened(looked_at, packets, keepalives, size, unauthentic, replayed, beyond, malformed, not_allowed)

    def __del__(self) -> None:
        if self._handle:
            self._library.batch_opener_free(self._handle)


class NativeCore:
    """See DatapathCore."""

    name = "native"

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.result = _Memory(max(_INTAKE.size, _SEALED.size))
        self._intake: Optional[tuple[_Frames, _Memory]] = None
        self._out: Optional[tuple[_Memory, _Memory]] = None
        self._queue: Optional[tuple[_Memory, _Memory]] = None

    def sealer(self, key: bytes, remote_index: int, mtu: int) -> _Sealer:
        return _Sealer(self, key, remote_index, mtu)

    def opener(self, key: bytes, local_index: int) -> _Opener:
        return _Opener(self.library, key, local_index)

    def arrivals(self) -> _Arrivals:
        return _Arrivals()

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        return packets.destination if isinstance(packets, _Packets) else destination_of(packets[0])

    def read(self, tun: Tun, budget: int) -> Intake:
        if self._intake is None:
            self._intake = _Frames(_READ_BYTES, budget), _Memory(budget * _RUN.size)
        intake, runs = self._intake
        self.library.batch_read(
            tun.fd, intake.arena.address, _READ_BYTES, budget, intake.table.address, runs.address, self.result.address
        )
        _frames, count, malformed, _packets, error = _INTAKE.unpack_from(self.result.buffer)
        if error not in (0, errno.EAGAIN, errno.EINTR):
            raise OSError(error, os.strerror(error))
        found = [_Packets(intake, _RUN.unpack_from(runs.buffer, number * _RUN.size)) for number in range(count)]
        return Intake(found, malformed)

    def write(self, tun: Tun, arrivals: Arrivals) -> int:
        if not isinstance(arrivals, _Arrivals):
            raise TypeError("arrivals of another core")
        if self._queue is None:
            self._queue = _Memory(_MOST_ARRIVALS * _NUMBER.size), _Memory(_MOST_ARRIVALS * _JOINED_SIZE)
        following, queue = self._queue
        failed: int = self.library.batch_write(
            tun.fd,
            arrivals.arena.address,
            arrivals.table.address,
            arrivals.count,
            tun.takes_udp,
            following.address,
            queue.address,
        )
        return failed

    def room_for(self, packets: _Packets) -> tuple[_Memory, _Memory]:
        """For them sealed, and for the table of pieces."""
        if self._out is None:
            self._out = _Memory(_SEAL_BYTES), _Memory(_MOST_PIECES * _PIECE.size)
        out, pieces = self._out
        if packets.room > _SEAL_BYTES:
            out = _Memory(packets.room)
        if len(packets) > _MOST_PIECES:
            pieces = _Memory(len(packets) * _PIECE.size)
        return out, pieces


def load(path: str) -> NativeCore:
    """The core whose library is there. Raises NativeError when it, or libcrypto, does not do here."""
    try:
        library = ctypes.CDLL(path)
        if library.batch_abi() != _ABI:
            raise NativeError(f"{path} is of another version")
    except (OSError, AttributeError) as error:
        raise NativeError(f"{path}: {error}") from error
    libcrypto = _libcrypto()
    try:
        addresses = [_address(libcrypto, name) for name in _FUNCTIONS]
    except AttributeError as error:
        raise NativeError(f"libcrypto: {error}") from error
    try:
        addresses += [_address(libcrypto, name) for name in _SINCE_3]
    except AttributeError:
        addresses += [None] * len(_SINCE_3)
    functions = (ctypes.c_void_p * len(addresses))(*addresses)
    _declare(library)
    library.batch_use(functions)
    # A libcrypto may be there and refuse the cipher, as in FIPS mode.
    core = NativeCore(library)
    try:
        sealed, _size = core.sealer(bytes(KEY_LENGTH), 0, 0).seal((b"",), 0)
    except MemoryError as error:
        raise NativeError(str(error)) from error
    if bytes(sealed[0])[-16:] != _KNOWN_TAG:
        raise NativeError("libcrypto seals wrongly")
    return core


def _libcrypto() -> ctypes.CDLL:
    for name in _LIBCRYPTO:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NativeError(f"this host has none of {', '.join(_LIBCRYPTO)}")


def _address(library: ctypes.CDLL, name: str) -> Optional[int]:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _declare(library: ctypes.CDLL) -> None:
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    for name, result, *arguments in (
        ("batch_use", None, pointer),
        ("batch_read", None, ctypes.c_int, pointer, number, number, pointer, pointer, pointer),
        ("batch_sealer_new", pointer, ctypes.c_char_p, number, number),
        ("batch_sealer_free", None, pointer),
        ("batch_seal", ctypes.c_int, pointer, ctypes.c_uint64, pointer, pointer, number, pointer, pointer, pointer),
        ("batch_opener_new", pointer, ctypes.c_char_p, number),
        ("batch_opener_free", None, pointer),
        (
            *("batch_open", None, pointer, pointer, number, number, number, number),
            *(pointer, number, pointer, pointer),
        ),
        ("batch_know", None, pointer, pointer),
        ("batch_write", number, ctypes.c_int, pointer, pointer, number, ctypes.c_int, pointer, pointer),
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_LENGTH:
        raise ValueError(f"a key has {KEY_LENGTH} bytes, not {len(key)}")
    return key
