# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes over a stream between a node and a beacon. Both ends speak alike.

First the preface, 8 bytes, and then messages: one byte of type, four of length, the content. Numbers are unsigned and
in network byte order.

======  =======  ====================================================================================
type    name     content
======  =======  ====================================================================================
1       have     8 bytes, the version of the map that the sender keeps; 32 bytes, the SHA-256 of its signed file
2       want     32 bytes, the SHA-256 of the map that the other end is to send
3       netmap   the signed file, compressed (RFC 1950)
4       ping     8 bytes
5       pong     the 8 bytes of a ping
======  =======  ====================================================================================

Messages of other types are skipped, up to 64 KiB of each, so that a newer end can say more.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from ..netmap.model import MAX_VERSION
from ..netmap.signing import MAX_SIGNED_BYTES

PREFACE = b"sennit\x00\x01"

HAVE = 1
WANT = 2
NETMAP = 3
PING = 4
PONG = 5

MAX_UNKNOWN_BYTES = 64 * 1024
# What cannot be compressed grows by five bytes in each 16 KiB, and by six (RFC 1950, RFC 1951).
MAX_PACKED_BYTES = MAX_SIGNED_BYTES + MAX_SIGNED_BYTES // 1024 + 64

_HEADER = struct.Struct("!BI")
_HAVE = struct.Struct("!Q32s")
_SIZES = {HAVE: _HAVE.size, WANT: 32, PING: 8, PONG: 8}


class BeaconProtocolError(Exception):
    """The other end does not keep to the protocol; the message says how."""


@dataclass(frozen=True)
class Have:
    version: int
    sha256: bytes


@dataclass(frozen=True)
class Want:
    sha256: bytes


@dataclass(frozen=True)
class Packed:
    """A netmap on its way."""

    content: bytes


@dataclass(frozen=True)
class Ping:
    content: bytes


@dataclass(frozen=True)
class Pong:
    content: bytes


Message = Union[Have, Want, Packed, Ping, Pong]


@dataclass(frozen=True)
class Kept:
    """A map that this host keeps, as it is passed on."""

    version: int
    sha256: bytes
    packed: bytes

    @classmethod
    def of(cls, signed: bytes, version: int) -> Kept:
        return cls(version, hashlib.sha256(signed).digest(), zlib.compress(signed))


def unpack(packed: bytes) -> bytes:
    """The signed file. Raises BeaconProtocolError, however much it would be."""
    inflate = zlib.decompressobj()
    try:
        signed = inflate.decompress(packed, MAX_SIGNED_BYTES)
    except zlib.error:
        raise BeaconProtocolError("a netmap that cannot be decompressed") from None
    if not inflate.eof or inflate.unused_data:
        raise BeaconProtocolError(f"a netmap that is cut short, or longer than {MAX_SIGNED_BYTES} bytes")
    return signed


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    if isinstance(message, Have):
        return _frame(HAVE, _HAVE.pack(message.version, message.sha256))
    if isinstance(message, Want):
        return _frame(WANT, message.sha256)
    if isinstance(message, Packed):
        return netmap_header(message.content) + message.content
    return _frame(PING if isinstance(message, Ping) else PONG, message.content)


def netmap_header(packed: bytes) -> bytes:
    """What goes before a map that is as large as this one."""
    return _HEADER.pack(NETMAP, len(packed))


def _frame(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(kind, len(content)) + content


class Parser:
    """From the bytes of a stream to its messages. It holds one message that is not complete, and no more."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False
        self._skip = 0

    def feed(self, data: bytes, netmap_expected: bool = False) -> Iterator[Message]:
        """The messages that are complete with these bytes.

        Raises BeaconProtocolError, and nothing else, for what is none, by its header alone: also for a netmap while
        none is expected. After that the stream is of no more use.
        """
        self._buffer += data
        if not self._begun:
            if not PREFACE.startswith(bytes(self._buffer[: len(PREFACE)])):
                raise BeaconProtocolError("no stream of a beacon or its clients")
            if len(self._buffer) < len(PREFACE):
                return
            del self._buffer[: len(PREFACE)]
            self._begun = True
        while True:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
            if self._skip or len(self._buffer) < _HEADER.size:
                return
            kind, length = _HEADER.unpack_from(self._buffer)
            _check(kind, length, netmap_expected)
            if kind not in _SIZES and kind != NETMAP:
                self._skip = _HEADER.size + length
                continue
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            content = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            if kind == NETMAP:
                netmap_expected = False
            yield _message(kind, content)


def _check(kind: int, length: int, netmap_expected: bool) -> None:
    if kind == NETMAP:
        if not netmap_expected:
            raise BeaconProtocolError("a netmap that was not asked for")
        if length > MAX_PACKED_BYTES:
            raise BeaconProtocolError(f"a netmap of {length} bytes")
    elif kind in _SIZES:
        if length != _SIZES[kind]:
            raise BeaconProtocolError(f"a message of type {kind} with {length} bytes")
    elif length > MAX_UNKNOWN_BYTES:
        raise BeaconProtocolError(f"a message of type {kind} with {length} bytes")


def _message(kind: int, content: bytes) -> Message:
    if kind == HAVE:
        version, sha256 = _HAVE.unpack(content)
        if not 0 < version <= MAX_VERSION:
            raise BeaconProtocolError(f"a netmap of version {version}")
        return Have(version, sha256)
    if kind == WANT:
        return Want(content)
    if kind == NETMAP:
        return Packed(content)
    return Ping(content) if kind == PING else Pong(content)
