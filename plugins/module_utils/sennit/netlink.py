# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Netlink's framing, and a socket for one request at a time (netlink(7); linux/netlink.h).

The kernel's WireGuard is driven from the resident agent, which polls it, so this is spoken directly and not by
pyroute2, as routes are: that would add 13 MB to an agent that has 36 MB otherwise, takes 6 to 9 times as long to read
the peers, and since 0.9 its sockets cannot be opened or used while an asyncio loop runs, as the agent's does. A child
that imports it at every look, as for routes, would cost 3% of a core at rest.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from struct import Struct

ACK = 0x4
EXCL = 0x200
CREATE = 0x400
DUMP = 0x300

NESTED = 0x8000
_KIND_MASK = 0x3FFF

_REQUEST = 0x1
_DUMP_INTERRUPTED = 0x10
_ERROR = 2
_DONE = 3
_MESSAGE = Struct("=IHHII")  # length, type, flags, sequence number, port
_ATTRIBUTE = Struct("=HH")  # length, type
_CODE = Struct("=i")
_MAX_ATTRIBUTE = 0xFFFF
_TIMEOUT = 10.0
_TRIES = 10  # to read what somebody changes meanwhile


class NetlinkError(OSError):
    """The kernel's answer makes no sense. The only exception that reading one raises."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EPROTO, f"an answer of the kernel with {what}")


class _InterruptedError(Exception):
    """What was read changed meanwhile."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded. Raises ValueError when it is too long."""
    length = _ATTRIBUTE.size + len(value)
    if length > _MAX_ATTRIBUTE:
        raise ValueError(f"a netlink attribute of {length} bytes")
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each. Raises NetlinkError."""
    at, end = 0, len(data)
    while at < end:
        try:
            length, kind = _ATTRIBUTE.unpack_from(data, at)
        except struct.error:
            raise NetlinkError("half an attribute") from None
        if not _ATTRIBUTE.size <= length <= end - at:
            raise NetlinkError(f"an attribute of {length} bytes where there are {end - at}")
        yield kind & _KIND_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3


def unpack(layout: Struct, value: memoryview) -> tuple[int, ...]:
    """The numbers at the beginning of a value. Raises NetlinkError when it is too short."""
    try:
        return layout.unpack_from(value)
    except struct.error:
        raise NetlinkError(f"{len(value)} bytes where {layout.size} belong") from None


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
    """Type, flags, sequence number and body of each message. Raises NetlinkError."""
    view = memoryview(datagram)
    at, end = 0, len(view)
    while at < end:
        length, kind, flags, sequence, _port = unpack(_MESSAGE, view[at:])
        if not _MESSAGE.size <= length <= end - at:
            raise NetlinkError(f"a message of {length} bytes where there are {end - at}")
        yield kind, flags, sequence, view[at + _MESSAGE.size : at + length]
        at += length + 3 & ~3


class Netlink:
    """A socket to one of the kernel's netlink families. It answers at once: a call does not wait."""

    def __init__(self, family: int) -> None:
        """family: socket.NETLINK_ROUTE and others. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, 0))
        self._socket.settimeout(_TIMEOUT)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Raises OSError with the kernel's reason."""
        self._request(kind, ACK | flags, body)

    def get(self, kind: int, body: bytes) -> memoryview:
        """The one object that is asked for. Raises OSError when there is none."""
        found = self._request(kind, ACK, body)
        if len(found) != 1:
            raise NetlinkError(f"{len(found)} objects where one was asked for")
        return found[0]

    def dump(self, kind: int, body: bytes) -> list[memoryview]:
        """All objects, as they were at one moment. Raises OSError."""
        for _try in range(_TRIES):
            try:
                return self._request(kind, DUMP, body)
            except _InterruptedError:
                continue
        raise NetlinkError("objects that never stop to change")

    def _request(self, kind: int, flags: int, body: bytes) -> list[memoryview]:
        self._sequence += 1
        header = _MESSAGE.pack(_MESSAGE.size + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)
        found: list[memoryview] = []
        interrupted = False
        while True:
            # The kernel never puts more than 32 KiB into one datagram.
            datagram, (sender, _groups) = self._socket.recvfrom(65536)
            if sender:
                continue  # somebody else's
            for answer, answer_flags, sequence, answer_body in messages(datagram):
                if sequence != self._sequence:
                    continue  # to a request that was given up
                interrupted |= bool(answer_flags & _DUMP_INTERRUPTED)
                if answer in (_ERROR, _DONE):
                    (code,) = unpack(_CODE, answer_body)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    if interrupted:
                        raise _InterruptedError
                    return found
                found.append(answer_body)
