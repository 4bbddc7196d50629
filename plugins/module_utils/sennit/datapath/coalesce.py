# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Joining TCP segments into super-packets, so that one write to TUN, and one walk through the kernel, carries many.

The rules are those of the kernel's own GRO (tcp_gro_receive) and of wireguard-go: only what TSO could have cut from one
packet is joined. A segment with a wrong checksum is never joined, because the super-packet gets a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Optional, Union

from .checksum import words_sum
from .vnet import FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, MAX_PACKET, PLAIN, VNET_HEADER

Frame = list[Union[bytes, memoryview]]
"""The parts of one write to TUN; the first begins with the vnet header."""

_TCP = 6
_UDP = 17
_ICMPV6 = 58
_PSH = 0x08
_ACK = 0x10
_CSUM_OFFSET = 16
_MAX_SEGMENTS = 512  # of one frame: one writev takes 1,024 parts
_WORD = Struct(">H")
_LONG = Struct(">I")


class _Family:
    """Where things are in a packet of this IP version that has no options or extension headers."""

    def __init__(self, ip_length: int, flow: slice, gso_type: int, varying: Iterable[int]) -> None:
        self.ip_length = ip_length
        self.flow = flow  # addresses and ports
        self.gso_type = gso_type
        self.sequence = ip_length + 4
        self.flags = ip_length + 13
        # By length of all headers: the number that clears what may differ between the segments of one super-packet.
        self.masks = {}
        for length in range(ip_length + 20, ip_length + 61, 4):
            keep = bytearray(b"\xff" * length)
            for position in varying:
                keep[position] = 0
            keep[self.flags] = 0xFF & ~_PSH
            self.masks[length] = int.from_bytes(keep, "big")


# Total length, identification and checksum of IPv4; payload length of IPv6; sequence number and checksum of TCP.
_V4 = _Family(20, slice(12, 24), GSO_TCPV4, (2, 3, 4, 5, 10, 11, 24, 25, 26, 27, 36, 37))
_V6 = _Family(40, slice(8, 44), GSO_TCPV6, (4, 5, 44, 45, 46, 47, 56, 57))


class _Run:
    """Segments of one stream, each starting where the one before it ends."""

    __slots__ = (
        "_balance",
        "_closed",
        "_expected",
        "_family",
        "_intact",
        "_length",
        "_mask",
        "_masked",
        "_size",
        "_total",
        "packets",
    )

    def __init__(self, packet: bytes, family: _Family, header_length: int) -> None:
        self.packets = [packet]
        self._closed = bool(packet[family.flags] & _PSH)
        self._intact = False  # not known yet
        self._family = family
        self._length = header_length
        self._mask = family.masks[header_length]
        self._masked = int.from_bytes(packet[:header_length], "big") & self._mask
        self._size = len(packet) - header_length
        self._total = len(packet)
        self._expected = (_LONG.unpack_from(packet, family.sequence)[0] + self._size) & 0xFFFFFFFF
        # What the sum of a whole packet lacks to that of the TCP segment with its pseudo-header. In IPv4 the header by
        # itself sums up to zero, in IPv6 it holds all of the pseudo-header.
        self._balance = (
            words_sum(packet[12:20]) + _TCP - 20 if family is _V4 else _TCP - words_sum(packet[:4] + packet[6:8])
        )

    def take(self, packets: Sequence[bytes], at: int) -> int:
        """Append the packets from position `at` on, as long as they continue the run. Return where they stop to."""
        if self._closed:
            return at
        family, length, mask, masked = self._family, self._length, self._mask, self._masked
        sequence_at, flags_at, balance, ipv4 = family.sequence, family.flags, self._balance, family is _V4
        full, total, expected, mine = self._size, self._total, self._expected, self.packets
        for packet in packets[at:]:
            whole = len(packet)
            size = whole - length
            if (
                not 0 < size <= full
                or total + size > MAX_PACKET
                or int.from_bytes(packet[:length], "big") & mask != masked
                or _LONG.unpack_from(packet, sequence_at)[0] != expected
                or len(mine) == _MAX_SEGMENTS
                or (words_sum(packet) + balance + (whole if ipv4 else 0)) % 65535
                or not (self._intact or self._first_intact())
            ):
                break
            mine.append(packet)
            total += size
            expected = (expected + size) & 0xFFFFFFFF
            at += 1
            if size < full or packet[flags_at] & _PSH:
                self._closed = True
                break
        self._total, self._expected = total, expected
        return at

    def _first_intact(self) -> bool:
        """Look at the first packet's checksum, once there is something to append to it."""
        packet = self.packets[0]
        length = len(packet) if self._family is _V4 else 0
        self._intact = (words_sum(packet) + self._balance + length) % 65535 == 0
        self._closed = not self._intact
        return self._intact

    def frame(self) -> Frame:
        packets, family, length = self.packets, self._family, self._length
        if len(packets) == 1:
            return [PLAIN, packets[0]]
        head = bytearray(packets[0][:length])
        head[family.flags] |= packets[-1][family.flags] & _PSH
        ip_length, total = family.ip_length, self._total
        if family is _V4:
            _WORD.pack_into(head, 2, total)
            _WORD.pack_into(head, 10, 0)
            _WORD.pack_into(head, 10, 65535 - words_sum(bytes(head[:20])) % 65535)
            addresses = packets[0][12:20]
        else:
            _WORD.pack_into(head, 4, total - ip_length)
            addresses = packets[0][8:40]
        pseudo_header = (words_sum(addresses) + _TCP + total - ip_length) % 65535
        _WORD.pack_into(head, ip_length + _CSUM_OFFSET, pseudo_header)
        vnet = VNET_HEADER.pack(FLAG_NEEDS_CSUM, family.gso_type, length, self._size, ip_length, _CSUM_OFFSET)
        parts: Frame = [vnet + head]
        parts += [memoryview(packet)[length:] for packet in packets]
        return parts


def coalesce(packets: Sequence[bytes]) -> list[Frame]:
    """What to write to TUN for these IP packets. The packets of a stream stay in order."""
    queue: list[Union[_Run, bytes]] = []
    runs: dict[bytes, _Run] = {}  # by flow; whatever does not fit goes into the queue behind them
    at = 0
    while at < len(packets):
        packet = packets[at]
        family = _tcp_family(packet)
        if family is None:
            if not _surely_not_tcp(packet):
                runs.clear()
            queue.append(packet)
            at += 1
            continue
        flow = packet[family.flow]
        run = runs.get(flow)
        if run is not None:
            taken = run.take(packets, at)
            if taken > at:
                at = taken
                continue
        at += 1
        header_length = family.ip_length + (packet[family.ip_length + 12] >> 4) * 4
        if packet[family.flags] & ~_PSH == _ACK and header_length in family.masks and header_length < len(packet):
            run = runs[flow] = _Run(packet, family, header_length)
            queue.append(run)
            at = run.take(packets, at)
        else:
            runs.pop(flow, None)
            queue.append(packet)
    return [[PLAIN, entry] if isinstance(entry, bytes) else entry.frame() for entry in queue]


def _tcp_family(packet: bytes) -> Optional[_Family]:
    """Where the fields are, if this is TCP without IP options, extension headers or fragmentation."""
    if len(packet) < 40:
        return None
    if packet[0] == 0x45:
        return _V4 if packet[9] == _TCP and not packet[6] & 0x3F and not packet[7] else None
    return _V6 if packet[0] >> 4 == 6 and packet[6] == _TCP and len(packet) >= 60 else None


def _surely_not_tcp(packet: bytes) -> bool:
    """False also where TCP might hide behind an extension header."""
    if len(packet) < 20:
        return False
    return packet[6] in (_UDP, _ICMPV6) if packet[0] >> 4 == 6 else packet[9] != _TCP
