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
from collections.abc import Sequence
from struct import Struct
from typing import Optional

from ...wireguard.aead import Buffer
from ...wireguard.batch import Allowed, Arrivals, Datagrams, Opened, Piece, Received, Sent, destination_of
from ...wireguard.constants import KEY_LENGTH
from ...wireguard.queues import ALL, Counters
from ..channel import Channel
from ..core import Intake, NativeError
from ..tun import Tun
from ..udp import UdpSocket
from ..vnet import MAX_FRAME
from .buffers import (
    FRAME,
    MOST_ARRIVALS,
    NUMBER,
    OPENED,
    PIECE,
    RUN,
    Frames,
    Memory,
    NativeArrivals,
    Packets,
    ReceivedDatagrams,
)
from .flows import NativeInflow, NativeOutflow
from .structs import InflowState, OpenerState, OutflowState, SealerState

_ABI = 3

# The structs of C.
_INTAKE = Struct("=IIIIi")
_SEALED = Struct("=III")
_JOINED_SIZE = 40

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

_SEAL_BYTES = 1 << 20  # more than this are only super-packets of tiny segments
_MOST_PIECES = 4096

_OVERHEAD = 16 + 16 + 15  # what sealing adds, at most

# RFC 8439 has no vector for a nonce of WireGuard's; this is the tag of an empty packet under a key of zeros, counter 0.
_KNOWN_TAG = bytes.fromhex("4eb972c9a8fb3a1b382bb4d36f5ffad1")


class _Sealer:
    __slots__ = ("_core", "_mark", "handle", "state")

    def __init__(self, core: NativeCore, key: bytes, index: int, mtu: int, counters: Counters) -> None:
        self._core = core
        self.handle: int = core.library.batch_sealer_new(_checked(key), index, mtu)
        if not self.handle:
            raise MemoryError("libcrypto gives no cipher")
        self.state = SealerState.from_address(self.handle)
        self.state.counter, self.state.stride, mark = counters
        if mark is not None:
            self._mark = ctypes.c_uint64.from_buffer(mark)  # kept as long as C has its address
            self.state.mark = ctypes.addressof(self._mark)

    @property
    def counter(self) -> int:
        return int(self.state.counter)

    @counter.setter
    def counter(self, counter: int) -> None:
        self.state.counter = counter

    @property
    def mtu(self) -> int:
        return int(self.state.mtu)

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self.state.mtu = mtu

    def ready(self, number: int) -> bool:
        return bool(self._core.library.batch_ready(self.handle, number))

    def seal(self, packets: Sequence[Buffer]) -> tuple[Sequence[Buffer], int]:
        core = self._core
        if isinstance(packets, Packets):
            memory, first, frames = packets.memory, packets.first, packets.frames
            out, pieces = core.room_for(packets)
        else:
            # Few of these are sealed, and they may be kept.
            memory, first, frames = Frames.of(packets), 0, len(packets)
            out, pieces = Memory(sum(map(len, packets)) + frames * _OVERHEAD), Memory(frames * PIECE.size)
        done = core.library.batch_seal(
            self.handle,
            memory.arena.address,
            memory.table.address + first * FRAME.size,
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
        for at in range(0, count * PIECE.size, PIECE.size):
            offset, length, each, number = PIECE.unpack_from(pieces.buffer, at)
            sealed.append(Piece((view[offset : offset + length],), each, number))
        return Datagrams(sealed), size

    def sent(self) -> Optional[Sent]:
        state = self.state
        if not state.packets:
            return None
        sent = Sent(state.packets, state.bytes, state.at)
        state.packets = state.bytes = 0
        return sent

    def __del__(self) -> None:
        if self.handle:
            self._core.library.batch_sealer_free(self.handle)


class _Opener:
    __slots__ = ("_library", "handle", "not_allowed", "state")

    def __init__(self, library: ctypes.CDLL, key: bytes, index: int) -> None:
        self._library = library
        self.handle: int = library.batch_opener_new(_checked(key), index)
        if not self.handle:
            raise MemoryError("libcrypto gives no cipher")
        self.state = OpenerState.from_address(self.handle)
        self.not_allowed = 0  # by the inflow

    def open(
        self, datagrams: Sequence[Buffer], at: int, arrivals: Arrivals, allowed: Allowed, generation: int
    ) -> Opened:
        if not isinstance(arrivals, NativeArrivals):
            raise TypeError("arrivals of another core")
        if not isinstance(datagrams, ReceivedDatagrams):
            opened = self.open(arrivals.hold(datagrams[at]), 0, arrivals, allowed, generation)
            return opened._replace(end=at + 1)
        self._library.batch_open(
            self.handle,
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
        end, packets, keepalives, size, unauthentic, replayed, beyond, malformed, count, unknown = OPENED.unpack_from(
            arrivals.result.buffer
        )
        not_allowed = self.look_up(arrivals, unknown, allowed)
        arrivals.count = count
        looked_at = -(-(end - datagrams.start) // datagrams.size)
        return Opened(looked_at, packets, keepalives, size, unauthentic, replayed, beyond, malformed, not_allowed)

    def look_up(self, arrivals: NativeArrivals, unknown: int, allowed: Allowed) -> int:
        """Remember which sources of so many packets are allowed, and strike out the others; returns how many."""
        not_allowed = 0
        for number in range(unknown):
            entry: int = NUMBER.unpack_from(arrivals.unknown.buffer, number * NUMBER.size)[0]
            source, address = arrivals.source(entry)
            if allowed(source):
                self._library.batch_know(self.handle, address)
            else:
                arrivals.strike(entry)
                not_allowed += 1
        return not_allowed

    def received(self) -> Optional[Received]:
        state = self.state
        counts = (
            *(state.packets, state.keepalives, state.bytes),
            *(state.unauthentic, state.replayed, state.beyond, state.malformed),
        )
        if not any(counts):
            return None
        received = Received(Opened(0, *counts, self.not_allowed), state.at)
        state.packets = state.keepalives = state.bytes = 0
        state.unauthentic = state.replayed = state.beyond = state.malformed = self.not_allowed = 0
        return received

    def __del__(self) -> None:
        if self.handle:
            self._library.batch_opener_free(self.handle)


class NativeCore:
    """See DatapathCore."""

    name = "native"
    singly = False
    READ_BYTES = 4 * MAX_FRAME

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.result = Memory(max(_INTAKE.size, _SEALED.size))
        self._intake: Optional[tuple[Frames, Memory]] = None
        self._out: Optional[tuple[Memory, Memory]] = None
        self._queue: Optional[tuple[Memory, Memory]] = None

    def sealer(self, key: bytes, remote_index: int, mtu: int, counters: Counters = ALL) -> _Sealer:
        return _Sealer(self, key, remote_index, mtu, counters)

    def opener(self, key: bytes, local_index: int) -> _Opener:
        return _Opener(self.library, key, local_index)

    def arrivals(self) -> NativeArrivals:
        return NativeArrivals()

    def destination(self, packets: Sequence[Buffer]) -> bytes:
        return packets.destination if isinstance(packets, Packets) else destination_of(packets[0])

    def read(self, tun: Tun, budget: int) -> Intake:
        if self._intake is None:
            self._intake = Frames(self.READ_BYTES, budget), Memory(budget * RUN.size)
        intake, runs = self._intake
        self.library.batch_read(
            tun.fd,
            intake.arena.address,
            self.READ_BYTES,
            budget,
            intake.table.address,
            runs.address,
            self.result.address,
        )
        _frames, count, malformed, _packets, error = _INTAKE.unpack_from(self.result.buffer)
        if error not in (0, errno.EAGAIN, errno.EINTR):
            raise OSError(error, os.strerror(error))
        found = [Packets(intake, RUN.unpack_from(runs.buffer, number * RUN.size)) for number in range(count)]
        return Intake(found, malformed)

    def write(self, tun: Tun, arrivals: Arrivals) -> int:
        if not isinstance(arrivals, NativeArrivals):
            raise TypeError("arrivals of another core")
        following, queue = self.queue()
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

    def room_for(self, packets: Packets) -> tuple[Memory, Memory]:
        """For them sealed, and for the table of pieces."""
        out, pieces = self.out()
        if packets.room > _SEAL_BYTES:
            out = Memory(packets.room)
        if len(packets) > _MOST_PIECES:
            pieces = Memory(len(packets) * PIECE.size)
        return out, pieces

    def out(self) -> tuple[Memory, Memory]:
        """For packets sealed, and for the table of pieces."""
        if self._out is None:
            self._out = Memory(_SEAL_BYTES), Memory(_MOST_PIECES * PIECE.size)
        return self._out

    def queue(self) -> tuple[Memory, Memory]:
        """For what is joined in batch_write."""
        if self._queue is None:
            self._queue = Memory(MOST_ARRIVALS * NUMBER.size), Memory(MOST_ARRIVALS * _JOINED_SIZE)
        return self._queue

    def outflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel], taking: bool) -> NativeOutflow:
        return NativeOutflow(self, tun, udp, channels, taking)

    def inflow(self, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> NativeInflow:
        return NativeInflow(self, tun, udp, channels)


def load(path: str) -> NativeCore:
    """The core whose library is there. Raises NativeError when it, or libcrypto, does not do here."""
    try:
        library = ctypes.CDLL(path)
        if library.batch_abi() != _ABI:
            raise NativeError(f"{path} is of another version")
        sizes = library.batch_outflow_size(), library.batch_inflow_size()
        if sizes != (ctypes.sizeof(OutflowState), ctypes.sizeof(InflowState)):
            raise NativeError(f"{path} is of another layout")
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
        sealed, _size = core.sealer(bytes(KEY_LENGTH), 0, 0).seal((b"",))
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
        ("batch_ready", ctypes.c_int, pointer, number),
        ("batch_seal", ctypes.c_int, pointer, pointer, pointer, number, pointer, pointer, pointer),
        ("batch_opener_new", pointer, ctypes.c_char_p, number),
        ("batch_opener_free", None, pointer),
        (
            *("batch_open", None, pointer, pointer, number, number, number, number),
            *(pointer, number, pointer, pointer),
        ),
        ("batch_know", None, pointer, pointer),
        ("batch_outflow", ctypes.c_int, pointer, ctypes.c_double),
        ("batch_route", None, pointer, number, ctypes.c_char_p, pointer),
        ("batch_forget_routes", None, pointer),
        ("batch_inflow", ctypes.c_int, pointer, ctypes.c_double),
        ("batch_lane", None, pointer, pointer),
        ("batch_forget_lanes", None, pointer),
        ("batch_guard_new", pointer),
        ("batch_guard_free", None, pointer),
        ("batch_guard_identify", None, pointer, ctypes.c_char_p, ctypes.c_char_p),
        ("batch_guard_ask", None, pointer, ctypes.c_char_p, ctypes.c_double),
        ("batch_write", number, ctypes.c_int, pointer, pointer, number, ctypes.c_int, pointer, pointer),
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_LENGTH:
        raise ValueError(f"a key has {KEY_LENGTH} bytes, not {len(key)}")
    return key
