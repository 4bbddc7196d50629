# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel left to the device: cutting super-packets into segments and completing checksums.

With TUNSETOFFLOAD a read from TUN gives up to 64 kB of one TCP stream at once. Cutting it here is much cheaper than 45
reads, and what is cut belongs to one destination: it is the batch the rest of the way out works on.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from ..wireguard.errors import DropReason, PacketError
from .checksum import words_sum
from .vnet import FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VNET_HEADER

_FIN_PSH = 0x09
_CWR = 0x80
_UDP_HEADER = 8
_VNET = VNET_HEADER.size
_SHORTEST = {4: 20, 6: 40}  # header bytes by IP version
_UDP_V4 = Struct(">2sHH4sH")
_UDP_V6 = Struct(">4sH")
_UDP_END = Struct(">HH")


def segment(frame: bytes) -> list[bytes]:
    """The IP packets in one read from TUN, in order, each complete with its checksums.

    Raises PacketError for a frame that does not hold what its header says.
    """
    if len(frame) < _VNET + 20:
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    flags, gso_type, _hdr_len, size, start, offset = VNET_HEADER.unpack_from(frame)
    if gso_type == GSO_NONE:
        packet = frame[_VNET:]
        return [_complete(packet, start, offset)] if flags & FLAG_NEEDS_CSUM else [packet]
    kind = gso_type & ~GSO_ECN
    version = frame[_VNET] >> 4
    # The transport header starts where its checksum does. hdr_len is not to be trusted: in a packet that was forwarded
    # it may be the length of the whole first segment.
    if not flags & FLAG_NEEDS_CSUM or not size or start < _SHORTEST.get(version, 65536) or start % 2:
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    if kind == (GSO_TCPV4 if version == 4 else GSO_TCPV6):
        return _cut_tcp(frame, version, start, size)
    if kind == GSO_UDP_L4:
        return _cut_udp(frame, version, start, size)
    raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)


def _complete(packet: bytes, start: int, offset: int) -> bytes:
    """Finish a checksum whose field holds the sum of the pseudo-header."""
    field = start + offset
    if field + 2 > len(packet) or start < _SHORTEST.get(packet[0] >> 4, 65536):
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    # Never 0, which UDP reads as "no checksum"; 65535 is as good, and what the kernel writes here for TCP, too.
    checksum = 65535 - words_sum(packet[start:]) % 65535
    return b"".join((packet[:field], checksum.to_bytes(2, "big"), packet[field + 2 :]))


def _ip_parts(frame: bytes, version: int, start: int) -> tuple[bytes, int, bytes, int, bytes]:
    """What the headers of all segments have in common, around the length and, in IPv4, identification and checksum.

    These are the parts before, between and after them, the first identification, and the sum of the parts.
    """
    header = frame[_VNET : _VNET + start]
    if version == 6:
        return header[:4], 0, b"", 0, header[6:]
    head, middle, tail = header[:2], header[6:10], header[12:]
    return head, int.from_bytes(header[4:6], "big"), middle, words_sum(head + middle + tail), tail


@lru_cache(maxsize=256)
def _tcp_layout(version: int, tail: int, rest: int, payload: int) -> Struct:
    """A whole packet: the fields that vary between segments, and in one piece each what lies between them."""
    return Struct(f">{'2sHH4sH' if version == 4 else '4sH'}{tail}sI5sB2sH{rest}s{payload}s")


def _cut_tcp(frame: bytes, version: int, start: int, size: int) -> list[bytes]:
    """Segments as tcp_gso_segment of the kernel makes them: FIN and PSH only on the last one, CWR only on the first."""
    base, end = _VNET + start, len(frame)
    if end < base + 20:
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    header_length = (frame[base + 12] >> 4) * 4
    first = base + header_length
    if header_length < 20 or end <= first:
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    ports, acknowledgement, window = frame[base : base + 4], frame[base + 8 : base + 13], frame[base + 14 : base + 16]
    sequence, flags = int.from_bytes(frame[base + 4 : base + 8], "big"), frame[base + 13]
    rest = frame[base + 18 : first]
    # Its checksum field holds the sum of the pseudo-header, in which the length is that of the whole.
    pseudo_header = int.from_bytes(frame[base + 16 : base + 18], "big") - (end - base)
    constant = pseudo_header + words_sum(b"".join((ports, acknowledgement, b"\0", window, rest)))
    head, identification, middle, ip_sum, tail = _ip_parts(frame, version, start)
    tail += ports
    payloads = [frame[offset : offset + size] for offset in range(first, end, size)]
    # All segments but the last one are of one length; CWR is for the first, FIN and PSH are for the last.
    all_flags = [flags & ~_CWR & ~_FIN_PSH] * len(payloads)
    all_flags[0] |= flags & _CWR
    all_flags[-1] |= flags & _FIN_PSH
    segments: list[bytes] = []
    length = 0
    for payload, own_flags in zip(payloads, all_flags):
        if header_length + len(payload) != length:
            length = header_length + len(payload)
            total = start + length
            pack = _tcp_layout(version, len(tail), len(rest), len(payload)).pack
        checksum = -(constant + length + sequence + own_flags + words_sum(payload)) % 65535
        if version == 4:
            segments.append(
                pack(
                    head, total, identification, middle, -(ip_sum + total + identification) % 65535, tail,
                    sequence, acknowledgement, own_flags, window, checksum, rest, payload,
                )
            )  # fmt: skip
            identification = (identification + 1) & 0xFFFF
        else:
            segments.append(
                pack(
                    head, total - 40, tail,
                    sequence, acknowledgement, own_flags, window, checksum, rest, payload,
                )
            )  # fmt: skip
        sequence = (sequence + size) & 0xFFFFFFFF
    return segments


def _cut_udp(frame: bytes, version: int, start: int, size: int) -> list[bytes]:
    """Datagrams of `size` bytes of payload each, the last one of what is left."""
    base, end = _VNET + start, len(frame)
    first = base + _UDP_HEADER
    if end <= first:
        raise PacketError(DropReason.MALFORMED_OUTGOING_PACKET)
    ports = frame[base : base + 4]
    pseudo_header = int.from_bytes(frame[base + 6 : base + 8], "big") - (end - base)
    constant = pseudo_header + words_sum(ports)
    head, identification, middle, ip_sum, tail = _ip_parts(frame, version, start)
    tail += ports
    segments = []
    for offset in range(first, end, size):
        payload = frame[offset : offset + size]
        length = _UDP_HEADER + len(payload)
        # The length counts twice: in the pseudo-header and in the header.
        # Not 0, as in _complete().
        checksum = 65535 - (constant + 2 * length + words_sum(payload)) % 65535
        if version == 4:
            total = start + length
            ip_checksum = -(ip_sum + total + identification) % 65535
            ip = _UDP_V4.pack(head, total, identification, middle, ip_checksum)
            identification = (identification + 1) & 0xFFFF
        else:
            ip = _UDP_V6.pack(head, start - 40 + length)
        segments.append(b"".join((ip, tail, _UDP_END.pack(length, checksum), payload)))
    return segments
