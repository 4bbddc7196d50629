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
6       place    up to 16 endpoints: the underlay addresses of the sender itself, with its WireGuard port
7       nodes    up to 64 KiB of entries, where nodes are: 32 bytes, the public key; one byte of flags (bit 0:
                 attached to the beacon's relay); one byte, the number of candidates, up to 20; the candidates,
                 each one byte, the kind (of whereabouts.py), and an endpoint
8       relay    2 bytes, the UDP port of the beacon's relay, 0 if it has none; 32 bytes, its public key
======  =======  ====================================================================================

An endpoint is 16 bytes, an IPv6 address or an IPv4-mapped one (RFC 4291, section 2.5.5.2), and 2 bytes, the UDP port.

Only nodes send "place", and only beacons the two after it; what the other end is not to send ends the stream.
Messages of other types are skipped, up to 64 KiB of each, so that a newer end can say more; so are candidates of other
kinds, and endpoints at which no other host is reached: of an unspecified, loopback, link-local, multicast or reserved
address, or of port 0.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

from ..netmap.model import MAX_VERSION
from ..netmap.signing import MAX_SIGNED_BYTES
from ..relay.offer import RelayOffer
from ..wireguard.events import Endpoint
from .whereabouts import KINDS, MAX_CANDIDATES, MAX_OWN_ADDRESSES, Candidate, Whereabouts

PREFACE = b"sennit\x00\x01"

HAVE = 1
WANT = 2
NETMAP = 3
PING = 4
PONG = 5
PLACE = 6
NODES = 7
RELAY = 8

# What each end takes from the other beside the first five.
FROM_NODES = frozenset((PLACE,))
FROM_BEACONS = frozenset((NODES, RELAY))

MAX_UNKNOWN_BYTES = 64 * 1024
MAX_NODES_BYTES = 64 * 1024
# What cannot be compressed grows by five bytes in each 16 KiB, and by six (RFC 1950, RFC 1951).
MAX_PACKED_BYTES = MAX_SIGNED_BYTES + MAX_SIGNED_BYTES // 1024 + 64

_HEADER = struct.Struct("!BI")
_HAVE = struct.Struct("!Q32s")
_ENDPOINT = struct.Struct("!16sH")
_ENTRY = struct.Struct("!32sBB")
_CANDIDATE = struct.Struct("!B16sH")
_RELAY = struct.Struct("!H32s")
_SIZES = {HAVE: _HAVE.size, WANT: 32, PING: 8, PONG: 8, RELAY: _RELAY.size}
_LIMITS = {NETMAP: MAX_PACKED_BYTES, PLACE: MAX_OWN_ADDRESSES * _ENDPOINT.size, NODES: MAX_NODES_BYTES}

_ATTACHED = 1
_MAPPED = bytes(10) + b"\xff\xff"


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


@dataclass(frozen=True)
class Place:
    """Where the sender itself is, as it says."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Nodes:
    """Where nodes are, by public key, as a beacon says: what is new of each replaces what was."""

    entries: tuple[tuple[bytes, Whereabouts], ...]


@dataclass(frozen=True)
class Relay:
    """The relay of a beacon, None if it has none."""

    offer: Optional[RelayOffer]


@dataclass(frozen=True)
class Unknown:
    """Something that a newer end says; its content is skipped."""

    kind: int


Message = Union[Have, Want, Packed, Ping, Pong, Place, Nodes, Relay]


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
    if isinstance(message, Place):
        packed = filter(None, map(_pack_endpoint, message.endpoints))
        return _frame(PLACE, b"".join(packed)[: _LIMITS[PLACE]])
    if isinstance(message, Nodes):
        return encode_nodes([encode_entry(*entry) for entry in message.entries])
    if isinstance(message, Relay):
        offer = message.offer
        return _frame(RELAY, _RELAY.pack(offer.port, offer.public_key) if offer else bytes(_RELAY.size))
    return _frame(PING if isinstance(message, Ping) else PONG, message.content)


def netmap_header(packed: bytes) -> bytes:
    """What goes before a map that is as large as this one."""
    return _HEADER.pack(NETMAP, len(packed))


def encode_entry(public_key: bytes, whereabouts: Whereabouts) -> bytes:
    """One entry of Nodes. Endpoints that would be skipped are left out, and candidates that are too many."""
    packed = ((candidate.kind, _pack_endpoint(candidate.endpoint)) for candidate in whereabouts.candidates)
    candidates = [bytes((kind,)) + endpoint for kind, endpoint in packed if endpoint][:MAX_CANDIDATES]
    flags = _ATTACHED if whereabouts.attached else 0
    return _ENTRY.pack(public_key, flags, len(candidates)) + b"".join(candidates)


def encode_nodes(entries: list[bytes]) -> bytes:
    """A message of these entries, which are up to MAX_NODES_BYTES together."""
    return _frame(NODES, b"".join(entries))


def is_reachable(endpoint: Endpoint) -> bool:
    """Whether another host may reach this one there; not so by a name, nor by an address with a scope."""
    return _pack_endpoint(endpoint) is not None


def _pack_endpoint(endpoint: Endpoint) -> Optional[bytes]:
    host, port = endpoint
    try:
        if ":" in host:
            address = socket.inet_pton(socket.AF_INET6, host)
        else:
            address = _MAPPED + socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return None
    return _ENDPOINT.pack(address, port) if _reachable(address, port) else None


def _unpack_endpoint(address: bytes, port: int) -> Optional[Endpoint]:
    if not _reachable(address, port):
        return None
    if address.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:]), port
    return socket.inet_ntop(socket.AF_INET6, address), port


def _reachable(address: bytes, port: int) -> bool:
    """By RFC 6890 and IANA's registry of IPv6 addresses. There may be thousands: too many for the module ipaddress."""
    if address.startswith(_MAPPED):
        first, second = address[12], address[13]
        return port > 0 and first not in (0, 127) and first < 224 and (first, second) != (169, 254)
    # 2000::/3, fc00::/7; all others are reserved, or of one link.
    return port > 0 and (address[0] & 0xE0 == 0x20 or address[0] & 0xFE == 0xFC)


def _frame(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(kind, len(content)) + content


class Parser:
    """From the bytes of a stream to its messages. It holds one message that is not complete, and no more.

    ``takes``: FROM_NODES or FROM_BEACONS, by what the other end is.
    """

    def __init__(self, takes: frozenset[int]) -> None:
        self._takes = takes
        self._buffer = bytearray()
        self._begun = False
        self._skip = 0

    def feed(self, data: bytes, netmap_expected: bool = False) -> Iterator[Union[Message, Unknown]]:
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
            self._check(kind, length, netmap_expected)
            if kind not in _SIZES and kind not in _LIMITS:
                self._skip = _HEADER.size + length
                yield Unknown(kind)
                continue
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            content = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            if kind == NETMAP:
                netmap_expected = False
            yield _message(kind, content)

    def _check(self, kind: int, length: int, netmap_expected: bool) -> None:
        if kind == NETMAP and not netmap_expected:
            raise BeaconProtocolError("a netmap that was not asked for")
        if kind in FROM_NODES | FROM_BEACONS and kind not in self._takes:
            raise BeaconProtocolError(f"a message of type {kind}, which is not for this end")
        good = length == _SIZES[kind] if kind in _SIZES else length <= _LIMITS.get(kind, MAX_UNKNOWN_BYTES)
        if not good:
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
    if kind == PLACE:
        return _place(content)
    if kind == NODES:
        return Nodes(tuple(_entries(content)))
    if kind == RELAY:
        port, public_key = _RELAY.unpack(content)
        return Relay(RelayOffer(port, public_key) if port else None)
    return Ping(content) if kind == PING else Pong(content)


def _place(content: bytes) -> Place:
    if len(content) % _ENDPOINT.size:
        raise BeaconProtocolError(f"addresses in {len(content)} bytes")
    endpoints = (_unpack_endpoint(*packed) for packed in _ENDPOINT.iter_unpack(content))
    return Place(tuple(endpoint for endpoint in endpoints if endpoint))


def _entries(content: bytes) -> Iterator[tuple[bytes, Whereabouts]]:
    at = 0
    while at < len(content):
        if len(content) - at < _ENTRY.size:
            raise BeaconProtocolError("an entry that is cut short")
        public_key, flags, count = _ENTRY.unpack_from(content, at)
        start, at = at + _ENTRY.size, at + _ENTRY.size + count * _CANDIDATE.size
        if count > MAX_CANDIDATES or at > len(content):
            raise BeaconProtocolError(f"an entry of {count} candidates, which is cut short or too long")
        yield public_key, Whereabouts(bool(flags & _ATTACHED), tuple(_candidates(content[start:at])))


def _candidates(content: bytes) -> Iterator[Candidate]:
    for kind, address, port in _CANDIDATE.iter_unpack(content):
        endpoint = _unpack_endpoint(address, port) if kind in KINDS else None
        if endpoint:
            yield Candidate(kind, endpoint)
