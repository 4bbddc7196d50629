# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one UDP socket of the underlay, for IPv4 and IPv6, sending and receiving batches (udp(7), socket(7), ipv6(7)).

UDP_SEGMENT hands the kernel up to 64 datagrams in one call, UDP_GRO takes as many; both since Linux 4.18 and 5.0.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

from ..wireguard.aead import Buffer
from ..wireguard.batch import MAX_PAYLOAD, Datagrams, Piece, cut, together
from ..wireguard.events import Endpoint, Path, endpoint_of
from . import sticky
from .base import DatapathError

_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SO_MARK = 36
_BUFFER_BYTES = 7 << 20  # as wireguard-go: enough for a few milliseconds at 10 Gb/s

_MAX_REMEMBERED = 4096
_ANCILLARY_SPACE = socket.CMSG_SPACE(4) + sticky.ANCILLARY_SPACE
_SEGMENT_SIZE = struct.Struct("=H")
_TIMEVAL = struct.Struct("@ll")
_SEND_TIMEOUT = 1  # seconds
_MAPPED = "::ffff:"
# What sending from an address or by an interface meets that the host no longer has.
_SOURCE_GONE = frozenset({errno.EINVAL, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN})

_Way = tuple[tuple[Any, ...], sticky.Ancillary]
"""An endpoint's address as this socket takes it, and where packets to it leave from."""

_log = logging.getLogger(__name__)
_told: set[str] = set()


def tell_once(what: str) -> None:
    """In the log. What the kernel lacks for one socket, it lacks for all that follow."""
    if what not in _told:
        _told.add(what)
        _log.info("%s", what)


class UdpSocket:
    """A bound socket. Nothing it does blocks for another process that shares it: only sends wait, for buffer space."""

    def __init__(self, port: int, fwmark: int, beside: Optional[UdpSocket] = None) -> None:
        """Bind the port (0: any) on every address, beside one that shares it if told so. Raises DatapathError."""
        self.socket: socket.socket
        self.family: int
        try:
            self.socket, self.family = _open(port) if beside is None else _open_beside(beside.socket)
        except OSError as error:
            raise DatapathError(f"cannot listen on UDP port {port}: {error.strerror}") from error
        self._fwmark = fwmark
        self._ways: dict[Path, Optional[_Way]] = {}
        try:
            if fwmark:
                self.mark(fwmark)
        except DatapathError:
            self.socket.close()
            raise
        for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            except PermissionError:
                self.socket.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)
        # In a routing loop, what fills the buffer waits in our own device, for the very process that waits for room.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(_SEND_TIMEOUT, 0))
        self.port: int = self.socket.getsockname()[1]
        self._segments = self._has(_UDP_SEGMENT, 0, "UDP_SEGMENT")
        self._has(_UDP_GRO, 1, "UDP_GRO")
        sticky.ask_for_pktinfo(self.socket, self.family)
        # By endpoint: datagrams of this size and larger are sent one by one, as the way there cannot segment them.
        self._refused: dict[Endpoint, int] = {}
        self._source: tuple[Any, bytes, Path] = (None, b"", ("", 0))
        self._here: Union[tuple[()], sticky.Source] = ()
        # What came with the last datagrams, and what it says of the size of each, 0: nothing, and of their way to us.
        self._ancillary: Optional[list[tuple[int, int, bytes]]] = None
        self._size = 0
        self._info = 0, b""

    def _has(self, option: int, value: int, name: str) -> bool:
        try:
            self.socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError:
            tell_once(f"this kernel has no {name}; going on without it")
            return False
        return True

    def mark(self, fwmark: int) -> None:
        """Mark the packets that are sent from now on, by whichever process; 0: do not. Raises DatapathError."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, fwmark)
        except OSError as error:
            raise DatapathError(f"cannot mark the underlay's packets with {fwmark}: {error.strerror}") from error
        self._fwmark = fwmark
        self._ways.clear()

    def replace(self, other: socket.socket) -> None:
        """Go on with another bound socket, which is taken over. Its descriptor's number is that of the one before."""
        os.dup2(other.fileno(), self.socket.fileno(), inheritable=False)
        other.close()
        self.socket = socket.socket(fileno=self.socket.detach())
        self.family = self.socket.family
        self.port = self.socket.getsockname()[1]
        self._ways.clear()

    def unbind(self) -> None:
        """Let go of the port: nothing is received, nor sent, until replace(). Raises OSError."""
        self.replace(socket.socket(self.family, socket.SOCK_DGRAM))

    def send(self, datagrams: Sequence[Buffer], path: Path) -> int:
        """Send the datagrams in order, waiting a while for buffer space. Return how many the kernel refused."""
        way = self._way(path)
        if way is None:
            return len(datagrams)
        endpoint = endpoint_of(path)
        below = self._below(endpoint)
        failed = 0
        for piece in datagrams.pieces if isinstance(datagrams, Datagrams) else pieces(datagrams):
            buffers, size, count = piece
            if count == 1:
                failed += not self._send_one(buffers[0], path)
                continue
            if size < below:
                segments = (socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))
                try:
                    self._send_message(buffers, path, segments)
                    continue
                except OSError as error:
                    if error.errno not in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                        failed += count
                        continue
                    # EIO: the device cannot checksum segments. The others: they are longer than the way's MTU.
                    below = 0 if error.errno == errno.EIO else size
                    self._refuse(endpoint, below)
            failed += sum(not self._send_one(datagram, path) for datagram in cut(piece))
        return failed

    def send_now(self, datagram: bytes, path: Path) -> bool:
        """Send one datagram if there is room for it."""
        return self._send_one(datagram, path, socket.MSG_DONTWAIT)

    def routes_changed(self) -> None:
        """The host's links, addresses or routes are others now."""
        self._ways.clear()

    def receive(self, space: memoryview) -> Optional[tuple[int, int, Path]]:
        """Receive what the kernel had joined of one source; None when nothing has come.

        Returns its length, and that of each datagram in it but for a shorter last one. `space` is of 65,536 bytes.
        """
        try:
            length, ancillary, _flags, address = self.socket.recvmsg_into(
                (space,), _ANCILLARY_SPACE, socket.MSG_DONTWAIT
            )
        except OSError:  # nothing there, or an error an earlier packet met, which is cleared by reading it
            return None
        if ancillary == self._ancillary and address == self._source[0]:
            return length, self._size or length, self._source[2]
        if ancillary != self._ancillary:
            self._ancillary, self._size, self._info = ancillary, 0, (0, b"")
            for level, kind, data in ancillary:
                if level != socket.IPPROTO_UDP:
                    self._info = level, data
                elif kind == _UDP_GRO:
                    self._size = int.from_bytes(data, sys.byteorder)
        return length, self._size or length, self.seen(address, *self._info)

    def seen(self, address: tuple[Any, ...], info_level: int, info: bytes) -> Path:
        """Where a datagram is from, by what recvmsg told: the sender's address, and the packet's way to us, if any."""
        if address != self._source[0] or info != self._source[1]:
            if info != self._source[1]:
                self._here = sticky.parse(info_level, info) if info else ()
            self._source = address, info, (*_endpoint(address), *self._here)
        return self._source[2]

    def way(self, path: Path) -> Optional[tuple[tuple[Any, ...], sticky.Ancillary, int]]:
        """For sendmsg: the address and what goes with it; and from which size on datagrams are sent one by one.

        None where the path does not lead anywhere. It holds until something was sent in vain.
        """
        way = self._way(path)
        return None if way is None else (*way, self._below(endpoint_of(path)))

    def close(self) -> None:
        self.socket.close()

    def _below(self, endpoint: Endpoint) -> int:
        return self._refused.get(endpoint, MAX_PAYLOAD + 1) if self._segments else 0

    def _refuse(self, endpoint: Endpoint, size: int) -> None:
        if endpoint not in self._refused:
            _log.info("the way to %s port %d does not segment datagrams of %d bytes or more", *endpoint, size)
            if len(self._refused) >= _MAX_REMEMBERED:
                self._refused.clear()
        self._refused[endpoint] = size

    def _send_one(self, datagram: Buffer, path: Path, flags: int = 0) -> bool:
        try:
            self._send_message((datagram,), path, None, flags)
        except OSError:
            return False
        return True

    def _send_message(
        self, buffers: Sequence[Buffer], path: Path, segments: Optional[tuple[int, int, bytes]], flags: int = 0
    ) -> None:
        """Raises OSError."""
        way = self._way(path)
        while way is not None:
            address, ancillary = way
            try:
                self.socket.sendmsg(buffers, (*ancillary, segments) if segments else ancillary, flags, address)
            except OSError as error:
                self._ways.pop(path, None)
                if not ancillary or error.errno not in _SOURCE_GONE:
                    raise
                # Either the host has changed, and the packet can leave in another way, or it is the packet's fault.
                before, way = way, self._way(path)
                if way == before:
                    raise
            else:
                return
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    def _way(self, path: Path) -> Optional[_Way]:
        """How to send there, or None where it cannot be reached from here."""
        if not self.port:  # sending would bind another
            return None
        try:
            return self._ways[path]
        except KeyError:
            pass
        address = _address(endpoint_of(path), self.family)
        if len(path) == 4 and not path[3] and address is not None:
            return address, sticky.ancillary((path[2], 0), self.family)
        way = None
        if address is not None:
            source = sticky.source_for(path, self._fwmark)
            way = (address, sticky.ancillary(source, self.family) if source else ())
        if len(self._ways) >= _MAX_REMEMBERED:
            self._ways.clear()
        self._ways[path] = way
        return way


def pieces(datagrams: Sequence[Buffer]) -> Iterator[Piece]:
    """What one call with UDP_SEGMENT can carry each: all of one size, but for a shorter last one."""
    sizes = list(map(len, datagrams))
    for start, end in together(sizes):
        yield Piece(datagrams[start:end], sizes[start], end - start)


def _open(port: int) -> tuple[socket.socket, int]:
    """A dual-stack socket or, on a host without IPv6, one for IPv4 only."""
    try:
        both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        tell_once("this host has no IPv6; the underlay is IPv4 only")
    else:
        try:
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both.bind(("::", port))
        except OSError as error:
            both.close()
            if error.errno != errno.EADDRNOTAVAIL:  # IPv6 compiled in, but disabled
                raise
            tell_once("IPv6 is disabled on this host; the underlay is IPv4 only")
        else:
            return both, socket.AF_INET6
    only = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        only.bind(("0.0.0.0", port))  # noqa: S104 (a peer may come from anywhere)
    except OSError:
        only.close()
        raise
    return only, socket.AF_INET


def _open_beside(other: socket.socket) -> tuple[socket.socket, int]:
    """Another of the same family, on the same port."""
    another = socket.socket(other.family, socket.SOCK_DGRAM)
    try:
        if other.family == socket.AF_INET6:
            another.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        another.bind(other.getsockname())
    except OSError:
        another.close()
        raise
    return another, other.family


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
