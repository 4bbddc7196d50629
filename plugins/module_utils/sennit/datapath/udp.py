# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one UDP socket of the underlay, for IPv4 and IPv6, sending and receiving batches (udp(7), socket(7), ipv6(7)).

UDP_SEGMENT hands the kernel up to 64 datagrams in one call, UDP_GRO takes as many; both since Linux 4.18 and 5.0.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ..wireguard.aead import Buffer
from ..wireguard.batch import Datagrams, Piece, cut
from ..wireguard.events import Endpoint
from .base import DatapathError

_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SO_MARK = 36
_BUFFER_BYTES = 7 << 20  # as wireguard-go: enough for a few milliseconds at 10 Gb/s

_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS until Linux 6.8
_MAX_PAYLOAD = 65535 - 20 - 8
_MAX_REMEMBERED = 4096
_ANCILLARY_SPACE = socket.CMSG_SPACE(4)
_SEGMENT_SIZE = struct.Struct("=H")
_MAPPED = "::ffff:"

_log = logging.getLogger(__name__)


class UdpSocket:
    """A bound socket. Nothing it does blocks for another process that shares it: only sends wait, for buffer space."""

    def __init__(self, port: int, fwmark: int) -> None:
        """Bind the port (0: any) on every address. Raises DatapathError."""
        try:
            self.socket, self.family = _open(port)
        except OSError as error:
            raise DatapathError(f"cannot listen on UDP port {port}: {error.strerror}") from error
        try:
            if fwmark:
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, fwmark)
        except OSError as error:
            self.socket.close()
            raise DatapathError(f"cannot mark the underlay's packets with {fwmark}: {error.strerror}") from error
        for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            except PermissionError:
                self.socket.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)
        self.port: int = self.socket.getsockname()[1]
        self._segments = self._has(_UDP_SEGMENT, 0, "UDP_SEGMENT")
        self._has(_UDP_GRO, 1, "UDP_GRO")
        # By endpoint: datagrams of this size and larger are sent one by one, as the way there cannot segment them.
        self._refused: dict[Endpoint, int] = {}
        self._source: tuple[Any, Endpoint] = (None, ("", 0))
        self._destination: tuple[Optional[Endpoint], Optional[tuple[Any, ...]]] = (None, None)

    def _has(self, option: int, value: int, name: str) -> bool:
        try:
            self.socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError:
            _log.info("this kernel has no %s; going on without it", name)
            return False
        return True

    def send(self, datagrams: Sequence[Buffer], endpoint: Endpoint) -> int:
        """Send the datagrams in order, waiting for buffer space. Return how many of them the kernel refused."""
        address = self._address(endpoint)
        if address is None:
            return len(datagrams)
        below = self._refused.get(endpoint, _MAX_PAYLOAD + 1) if self._segments else 0
        failed = 0
        for piece in datagrams.pieces if isinstance(datagrams, Datagrams) else pieces(datagrams):
            buffers, size, count = piece
            if count == 1:
                failed += not self._send_one(buffers[0], address)
                continue
            if size < below:
                ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
                try:
                    self.socket.sendmsg(buffers, ancillary, 0, address)
                    continue
                except OSError as error:
                    if error.errno not in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                        failed += count
                        continue
                    # EIO: the device cannot checksum segments. The others: they are longer than the way's MTU.
                    below = 0 if error.errno == errno.EIO else size
                    self._refuse(endpoint, below)
            failed += sum(not self._send_one(datagram, address) for datagram in cut(piece))
        return failed

    def send_now(self, datagram: bytes, endpoint: Endpoint) -> bool:
        """Send one datagram if there is room for it."""
        address = self._address(endpoint)
        return address is not None and self._send_one(datagram, address, socket.MSG_DONTWAIT)

    def receive(self, space: memoryview) -> Optional[tuple[int, int, Endpoint]]:
        """Receive what the kernel had joined of one source; None when nothing has come.

        Returns its length, and that of each datagram in it but for a shorter last one. `space` is of 65,536 bytes.
        """
        try:
            length, ancillary, _flags, address = self.socket.recvmsg_into(
                (space,), _ANCILLARY_SPACE, socket.MSG_DONTWAIT
            )
        except OSError:  # nothing there, or an error an earlier packet met, which is cleared by reading it
            return None
        if address != self._source[0]:
            self._source = (address, _endpoint(address))
        size = length
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                size = int.from_bytes(data, sys.byteorder)
        return length, size, self._source[1]

    def close(self) -> None:
        self.socket.close()

    def _refuse(self, endpoint: Endpoint, size: int) -> None:
        if endpoint not in self._refused:
            _log.info("the way to %s port %d does not segment datagrams of %d bytes or more", *endpoint, size)
            if len(self._refused) >= _MAX_REMEMBERED:
                self._refused.clear()
        self._refused[endpoint] = size

    def _send_one(self, datagram: Buffer, address: tuple[Any, ...], flags: int = 0) -> bool:
        try:
            self.socket.sendto(datagram, flags, address)
        except OSError:
            return False
        return True

    def _address(self, endpoint: Endpoint) -> Optional[tuple[Any, ...]]:
        """The endpoint as this socket takes it, or None where it cannot be reached from here."""
        known, address = self._destination
        if known != endpoint:
            address = _address(endpoint, self.family)
            self._destination = (endpoint, address)
        return address


def pieces(datagrams: Sequence[Buffer]) -> Iterator[Piece]:
    """What one call with UDP_SEGMENT can carry each: all of one size, but for a shorter last one."""
    start, count = 0, len(datagrams)
    while start < count:
        size = len(datagrams[start])
        end = start + 1
        most = min(count, start + min(_MAX_SEGMENTS, _MAX_PAYLOAD // size)) if size else end
        while end < most and len(datagrams[end]) == size:
            end += 1
        if end < most and len(datagrams[end]) < size:
            end += 1
        yield Piece(datagrams[start:end], size, end - start)
        start = end


def _open(port: int) -> tuple[socket.socket, int]:
    """A dual-stack socket or, on a host without IPv6, one for IPv4 only."""
    try:
        both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        _log.info("this host has no IPv6; the underlay is IPv4 only")
    else:
        try:
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both.bind(("::", port))
        except OSError as error:
            both.close()
            if error.errno != errno.EADDRNOTAVAIL:  # IPv6 compiled in, but disabled
                raise
            _log.info("IPv6 is disabled on this host; the underlay is IPv4 only")
        else:
            return both, socket.AF_INET6
    only = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        only.bind(("0.0.0.0", port))  # noqa: S104 (a peer may come from anywhere)
    except OSError:
        only.close()
        raise
    return only, socket.AF_INET


def _address(endpoint: Endpoint, family: int) -> Optional[tuple[Any, ...]]:
    host, port = endpoint
    if family == socket.AF_INET:
        return None if ":" in host else (host, port)
    if ":" not in host:
        return _MAPPED + host, port, 0, 0
    host, _percent, scope = host.partition("%")
    try:
        return host, port, 0, socket.if_nametoindex(scope) if scope else 0
    except OSError:
        return None


def _endpoint(address: tuple[Any, ...]) -> Endpoint:
    host, port = address[:2]
    if host.startswith(_MAPPED) and "." in host:
        return host[len(_MAPPED) :], port
    if len(address) == 4 and address[3]:
        try:
            return f"{host}%{socket.if_indextoname(address[3])}", port
        except OSError:  # the interface is gone since
            return host, port
    return host, port
