# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The native core's flows: one call in which a worker sleeps, and sends or takes what is like what it has seen before.

See flow.py for what they are to a worker, outflow.c and inflow.c for what they do.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Optional

from ...wireguard.batch import Datagrams, Piece
from ...wireguard.cookie import cookie_key, mac1_key
from ...wireguard.errors import DropReason
from ...wireguard.events import AskForCookies, Path
from ...wireguard.inbound import KnownSource
from ...wireguard.outbound import KnownDestination
from ..channel import Channel
from ..flow import BUDGET, MOST_HELD, Incoming, Outgoing
from ..tun import Tun
from ..udp import UdpSocket
from .buffers import ARRIVAL_BYTES, PIECE, RUN, Frames, Memory, NativeArrivals, Packets
from .structs import CHANNELS, MAX_ADDRESS, GuardState, InflowState, Origin, OutflowState

if TYPE_CHECKING:
    from . import NativeCore

# enum stop
_COMMANDS, _UNKNOWN, _UNSENT, _FAILED = 1, 3, 4, 5

_ORIGIN = Struct("=IiiI")  # what comes before the address
_SOCKADDR_IN = Struct("=H2s4s8x")
_SOCKADDR_IN6 = Struct("=H2sI16sI")
_NO_LIMIT = 1 << 16


class NativeOutflow:
    """See flow.Outflow."""

    learns = True

    def __init__(self, core: NativeCore, tun: Tun, udp: UdpSocket, channels: Sequence[Channel], taking: bool) -> None:
        self._core = core
        self._udp = udp
        self._channels = channels
        self._frames = Frames(core.READ_BYTES, BUDGET)
        self._runs = Memory(BUDGET * RUN.size)
        self._out, self._pieces = core.out()
        state = self._state = OutflowState()
        state.tun, state.udp, state.taking = tun.fd, udp.socket.fileno(), taking
        state.arena, state.size = self._frames.arena.address, core.READ_BYTES
        state.frames, state.runs = self._frames.table.address, self._runs.address
        state.out, state.room = self._out.address, len(self._out.buffer)
        state.pieces, state.most = self._pieces.address, len(self._pieces.buffer) // PIECE.size
        self._counters = _watch(state, channels)
        self._address = ctypes.addressof(state)
        # By their addresses in C.
        self._held: dict[int, KnownDestination] = {}

    def take_packets(self) -> None:
        self._state.taking = 1

    def leave_packets(self) -> None:
        self._state.taking = 0

    def wait(self, timeout: Optional[float]) -> Outgoing:
        state = self._state
        _await(state, self._channels)
        stop = self._core.library.batch_outflow(self._address, _deadline(timeout))
        runs: Sequence[Any] = ()
        unsent = None
        if stop == _FAILED:
            if not state.error:
                raise MemoryError("libcrypto does not seal")
            raise OSError(state.error, os.strerror(state.error))
        if stop == _UNKNOWN:
            runs = (Packets(self._frames, RUN.unpack_from(self._runs.buffer, state.next * RUN.size)),)
            state.next += 1
        elif stop == _UNSENT:
            unsent = self._held[state.sealer].path, self._rest()
        found = Outgoing(stop == _COMMANDS, runs, state.malformed, unsent, bool(state.worked))
        state.malformed = state.worked = 0
        return found

    def learn(self, known: KnownDestination) -> None:
        way = self._udp.way(known.path)
        if way is None:
            return
        if len(self._held) >= MOST_HELD:
            self.forget()
        address, ancillary, below = way
        sealer = known.sealer
        state: Any = sealer.state  # type: ignore[attr-defined]
        _fill(state.way, _packed(address), ancillary)
        state.expires_at = known.expires_at
        state.below = min(below, _NO_LIMIT)
        handle: int = sealer.handle  # type: ignore[attr-defined]
        self._held[handle] = known
        version = 4 if len(known.destination) == 4 else 6
        self._core.library.batch_route(self._address, version, known.destination, handle)

    def forget(self) -> None:
        if self._held:
            self._core.library.batch_forget_routes(self._address)
            self._held.clear()

    def _rest(self) -> Datagrams:
        """The pieces that were sealed and are not sent."""
        rest = []
        for number in range(self._state.unsent, self._state.pieces_sealed):
            offset, length, size, count = PIECE.unpack_from(self._pieces.buffer, number * PIECE.size)
            rest.append(Piece((self._out.view[offset : offset + length],), size, count))
        return Datagrams(rest)


class NativeInflow:
    """See flow.Inflow."""

    learns = True

    def __init__(self, core: NativeCore, tun: Tun, udp: UdpSocket, channels: Sequence[Channel]) -> None:
        self.arrivals: NativeArrivals = core.arrivals()
        self._core = core
        self._udp = udp
        self._channels = channels
        self._next, self._queue = core.queue()
        state = self._state = InflowState()
        state.udp, state.tun, state.takes_udp = udp.socket.fileno(), tun.fd, tun.takes_udp
        state.arena, state.size = self.arrivals.arena.address, ARRIVAL_BYTES
        state.packets, state.unknown = self.arrivals.table.address, self.arrivals.unknown.address
        state.following, state.queue = self._next.address, self._queue.address
        state.left = BUDGET
        self._counters = _watch(state, channels)
        self._address = ctypes.addressof(state)
        self._origin = self._address + InflowState.origin.offset
        self._last: tuple[bytes, Path] = (b"", ("", 0))
        self._handed = False
        self._held: dict[int, KnownSource] = {}  # by the opener's address in C
        self._guard = _Guard(core.library)
        state.guard = self._guard.handle

    def wait(self, timeout: Optional[float]) -> Incoming:
        state, arrivals = self._state, self.arrivals
        _await(state, self._channels)
        if self._handed:
            # They are taken; what there is of this turn is written now.
            state.pending = state.left = 0
            state.at, state.count = arrivals.at, arrivals.count
            self._handed = False
        deadline = _deadline(timeout)
        while True:
            stop = self._core.library.batch_inflow(self._address, deadline)
            if stop != _UNSENT:
                break
            self._look_up()
        received = None
        if stop == _UNKNOWN:
            arrivals.at, arrivals.count = state.start, state.count
            received = arrivals.received(state.length, state.each), self._source()
            arrivals.at = state.at
            self._handed = True
        refused = self._guard.take_refused()
        found = Incoming(stop == _COMMANDS, received, state.failed, bool(state.worked), bool(state.urgent), refused)
        state.failed = state.worked = state.urgent = 0
        return found

    def learn(self, known: KnownSource) -> None:
        if len(self._held) >= MOST_HELD:
            self.forget()
        opener: Any = known.opener
        opener.state.expires_at = known.expires_at
        self._state.generation = known.generation
        self._held[opener.handle] = known
        self._core.library.batch_lane(self._address, opener.handle)

    def forget(self) -> None:
        if self._held:
            self._core.library.batch_forget_lanes(self._address)
            self._held.clear()

    def identify(self, public_key: bytes) -> None:
        self._guard.identify(public_key)

    def ask_for_cookies(self, command: AskForCookies) -> None:
        self._guard.ask(command)

    def _look_up(self) -> None:
        """Whether the peer may send from where the packets say that they are from."""
        known = self._held[self._state.opener]
        opener: Any = known.opener
        opener.not_allowed += opener.look_up(self.arrivals, self._state.unknowns, known.allowed)

    def _source(self) -> Path:
        raw = ctypes.string_at(self._origin, ctypes.sizeof(Origin))
        if raw != self._last[0]:
            length, level, _kind, info_length = _ORIGIN.unpack_from(raw)
            address = raw[_ORIGIN.size : _ORIGIN.size + length]
            info = raw[_ORIGIN.size + MAX_ADDRESS : _ORIGIN.size + MAX_ADDRESS + info_length]
            self._last = raw, self._udp.seen(_unpacked(address), level, info)
        return self._last[1]


class _Guard:
    """See guard.c."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.handle: int = library.batch_guard_new()
        if not self.handle:
            raise MemoryError("libcrypto gives no cipher")
        self._state = GuardState.from_address(self.handle)

    def identify(self, public_key: bytes) -> None:
        self._library.batch_guard_identify(self.handle, mac1_key(public_key), cookie_key(public_key))

    def ask(self, command: AskForCookies) -> None:
        self._library.batch_guard_ask(self.handle, command.secret, command.until)

    def take_refused(self) -> Sequence[tuple[DropReason, int]]:
        state = self._state
        counts = (
            (DropReason.INVALID_MAC1, state.invalid_mac1),
            (DropReason.COOKIE_REQUIRED, state.cookies),
            (DropReason.HANDSHAKE_QUEUE_FULL, state.unanswered),
            (DropReason.RATE_LIMITED, state.limited),
        )
        refused = [(reason, count) for reason, count in counts if count]
        if refused:
            state.invalid_mac1 = state.cookies = state.unanswered = state.limited = 0
        return refused

    def __del__(self) -> None:
        if self.handle:
            self._library.batch_guard_free(self.handle)


def _watch(state: Any, channels: Sequence[Channel]) -> list[Any]:
    """Have C look at the counters; returns what has to be kept for that."""
    counters = []
    if len(channels) > CHANNELS:
        raise ValueError(f"a worker has at most {CHANNELS} channels")
    for number, channel in enumerate(channels):
        counter = ctypes.c_uint32.from_buffer(channel.counter())
        counters.append(counter)
        state.channels[number].sent = ctypes.addressof(counter)
        state.channels[number].fd = channel.socket.fileno()
    return counters


def _await(state: Any, channels: Sequence[Channel]) -> None:
    for number, channel in enumerate(channels):
        state.channels[number].received = channel.messages


def _deadline(timeout: Optional[float]) -> float:
    return 0.0 if timeout is None else time.monotonic() + timeout / 1000


def _fill(origin: Origin, address: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
    origin.address_length = len(address)
    ctypes.memmove(origin.address, address, len(address))
    origin.pktinfo_length = 0
    for level, kind, data in ancillary:
        origin.pktinfo_level, origin.pktinfo_type, origin.pktinfo_length = level, kind, len(data)
        ctypes.memmove(origin.pktinfo, data, len(data))


def _packed(address: tuple[Any, ...]) -> bytes:
    """A struct sockaddr, of an address as Python's sockets have them."""
    host, port, *more = address
    if not more:
        return _SOCKADDR_IN.pack(socket.AF_INET, port.to_bytes(2, "big"), socket.inet_pton(socket.AF_INET, host))
    flow, scope = more
    packed = socket.inet_pton(socket.AF_INET6, host)
    return _SOCKADDR_IN6.pack(socket.AF_INET6, port.to_bytes(2, "big"), socket.htonl(flow), packed, scope)


def _unpacked(address: bytes) -> tuple[Any, ...]:
    if len(address) == _SOCKADDR_IN.size:
        _family, port, packed = _SOCKADDR_IN.unpack(address)
        return socket.inet_ntop(socket.AF_INET, packed), int.from_bytes(port, "big")
    _family, port, flow, packed, scope = _SOCKADDR_IN6.unpack(address)
    return socket.inet_ntop(socket.AF_INET6, packed), int.from_bytes(port, "big"), socket.ntohl(flow), scope
