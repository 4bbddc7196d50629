# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three handshake messages on the wire (whitepaper sections 5.4.2, 5.4.3, 5.4.7).

Parsers take a whole datagram and raise PacketError, nothing else. All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .constants import (
    COOKIE_REPLY_LENGTH,
    INITIATION_LENGTH,
    RESPONSE_LENGTH,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)
from .errors import DropReason, PacketError

_TYPE = struct.Struct("<I")
_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")


@dataclass(frozen=True)
class Initiation:
    """The first message: our index, our ephemeral key, our sealed static key and the sealed timestamp."""

    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes

    def to_bytes(self) -> bytes:
        """The message up to its MACs."""
        return _INITIATION.pack(TYPE_INITIATION, self.sender, self.ephemeral, self.sealed_static, self.sealed_timestamp)

    @classmethod
    def parse(cls, datagram: bytes) -> Initiation:
        """Read all but the MACs, which cookie.py checks on the datagram."""
        _check(datagram, TYPE_INITIATION, INITIATION_LENGTH)
        return cls(*_INITIATION.unpack_from(datagram)[1:])


@dataclass(frozen=True)
class Response:
    """The second message: both indices, the responder's ephemeral key, and the proof that it knows its static key."""

    sender: int
    receiver: int
    ephemeral: bytes
    sealed_nothing: bytes

    def to_bytes(self) -> bytes:
        """The message up to its MACs."""
        return _RESPONSE.pack(TYPE_RESPONSE, self.sender, self.receiver, self.ephemeral, self.sealed_nothing)

    @classmethod
    def parse(cls, datagram: bytes) -> Response:
        """Read all but the MACs, which cookie.py checks on the datagram."""
        _check(datagram, TYPE_RESPONSE, RESPONSE_LENGTH)
        return cls(*_RESPONSE.unpack_from(datagram)[1:])


@dataclass(frozen=True)
class CookieReply:
    """What a host under load answers: a sealed cookie that proves, in the next try, who owns the source address."""

    receiver: int
    nonce: bytes
    sealed_cookie: bytes

    def to_bytes(self) -> bytes:
        """The whole message; it bears no MACs."""
        return _COOKIE_REPLY.pack(TYPE_COOKIE_REPLY, self.receiver, self.nonce, self.sealed_cookie)

    @classmethod
    def parse(cls, datagram: bytes) -> CookieReply:
        """Read the whole message."""
        _check(datagram, TYPE_COOKIE_REPLY, COOKIE_REPLY_LENGTH)
        return cls(*_COOKIE_REPLY.unpack(datagram)[1:])


def message_type(datagram: bytes) -> int:
    """The type of a datagram, with the three reserved bytes in it: anything in them makes the type an unknown one."""
    if len(datagram) < _TYPE.size:
        raise PacketError(DropReason.WRONG_LENGTH)
    (kind,) = _TYPE.unpack_from(datagram)
    return int(kind)


def _check(datagram: bytes, expected_type: int, expected_length: int) -> None:
    if message_type(datagram) != expected_type:
        raise PacketError(DropReason.UNKNOWN_TYPE)
    if len(datagram) != expected_length:
        raise PacketError(DropReason.WRONG_LENGTH)
