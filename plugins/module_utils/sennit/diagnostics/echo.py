# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ICMP echo (RFC 792, RFC 4443 section 4) to several addresses of both families at once."""

from __future__ import annotations

import dataclasses
import os
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, TypeVar

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_TOKEN_LENGTH = 16
_SO_MARK = 36  # asm-generic/socket.h
# More packets than the sockets' buffers hold.
_MANY = 4096

Sockets = TypeVar("Sockets", bound="EchoSockets")
Received = tuple[socket.AddressFamily, str, bytes]
"""Family, source and packet."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of one request: a round-trip time in seconds, or why there is none."""

    address: str
    sequence: int
    rtt: Optional[float]
    problem: str = ""


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class EchoSockets:
    """Raw sockets for these families, with an identifier and a token that no other program's echoes have.

    Needs CAP_NET_RAW; raises OSError when they cannot be had. ``mark``: the requests' firewall mark, if it is not 0.
    """

    def __init__(self, families: Iterable[socket.AddressFamily], mark: int) -> None:
        self._identifier = secrets.randbelow(1 << 16)
        self._token = os.urandom(_TOKEN_LENGTH)
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        try:
            for family in sorted(set(families)):
                channel = self._sockets[family] = socket.socket(family, socket.SOCK_RAW, _PROTOCOL[family])
                channel.setblocking(False)
                if mark:
                    channel.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
                self._selector.register(channel, selectors.EVENT_READ, family)
        except OSError:
            self.__exit__()
            raise

    def __enter__(self: Sockets) -> Sockets:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._selector.close()
        for channel in self._sockets.values():
            channel.close()

    def _send(self, address: str, sequence: int, payload: bytes) -> float:
        """When it went, by time.perf_counter(). Raises OSError."""
        family = family_of(address)
        request = echo_request(family, self._identifier, sequence, payload)
        # Before it is sent: on a short way, the answer is there when sending returns.
        sent_at = time.perf_counter()
        self._sockets[family].sendto(request, (address, 0))
        return sent_at

    def _receive(self, seconds: float) -> Iterator[Received]:
        """What has come after at most so long, of which any may be somebody else's."""
        for key, _events in self._selector.select(seconds):
            try:
                packet, source = self._sockets[key.data].recvfrom(65536)
            except BlockingIOError:
                continue
            yield key.data, source[0], packet

    def _receive_until(self, deadline: float) -> Iterator[Received]:
        """What comes until then, by time.perf_counter(), and what is there then: a busy host may keep who asks from
        looking for longer than an answer takes.
        """
        late = 0
        while late < _MANY:
            remaining = max(0.0, deadline - time.perf_counter())
            found = list(self._receive(remaining))
            if not remaining:
                if not found:
                    return
                late += 1
            yield from found


class Pinger(EchoSockets):
    """Asks these addresses. What it needs and raises is as with EchoSockets."""

    def __init__(self, addresses: Sequence[str], mark: int = 0) -> None:
        super().__init__(map(family_of, addresses), mark)
        self._addresses = addresses

    def round(self, sequence: int, timeout: float) -> Iterator[Answer]:
        """Ask every address once, and yield each answer as it comes; after ``timeout`` seconds those that did not."""
        waiting: dict[str, float] = {}
        for address in self._addresses:
            try:
                waiting[address] = self._send(address, sequence, self._token)
            except OSError as error:
                yield Answer(address, sequence, None, os.strerror(error.errno or 0))
            # With hundreds to ask, the answers of the first would overflow the sockets' buffers.
            yield from self._answers(self._receive(0), sequence, waiting)
        if waiting:
            yield from self._answers(self._receive_until(time.perf_counter() + timeout), sequence, waiting)
        for address in waiting:
            yield Answer(address, sequence, None, f"no answer within {timeout:g} s")

    def _answers(self, received: Iterable[Received], sequence: int, waiting: dict[str, float]) -> Iterator[Answer]:
        """Those that are waited for, until none is any more."""
        for family, address, packet in received:
            now = time.perf_counter()
            if address in waiting and is_reply(family, packet, self._identifier, sequence, self._token):
                yield Answer(address, sequence, now - waiting.pop(address))
                if not waiting:
                    return


def echo_request(family: int, identifier: int, sequence: int, token: bytes) -> bytes:
    """An echo request. For IPv6 the kernel puts in the checksum, for it covers addresses that we do not know."""
    message = _HEADER.pack(_REQUEST[socket.AddressFamily(family)], 0, 0, identifier, sequence & 0xFFFF) + token
    if family == socket.AF_INET6:
        return message
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def is_reply(family: int, packet: bytes, identifier: int, sequence: int, token: bytes) -> bool:
    """Whether what a raw socket received (IPv4: with the IP header) answers the request of these numbers."""
    if family == socket.AF_INET:
        if not packet:
            return False
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) != _HEADER.size + len(token):
        return False
    kind, code, _checksum, found_identifier, found_sequence = _HEADER.unpack_from(packet)
    expected = (_REPLY[socket.AddressFamily(family)], 0, identifier, sequence & 0xFFFF)
    return (kind, code, found_identifier, found_sequence) == expected and packet[_HEADER.size :] == token


def checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071): ones' complement of the ones' complement sum of 16-bit words."""
    total = int.from_bytes(message + bytes(len(message) % 2), "big")
    # Modulo 0xFFFF a big-endian number is the ones' complement sum of its words; only 0xFFFF itself comes out as 0.
    remainder = total % 0xFFFF
    return (0xFFFF - remainder) if remainder or not total else 0
