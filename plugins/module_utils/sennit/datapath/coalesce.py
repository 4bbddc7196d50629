# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Joining TCP segments and UDP datagrams into super-packets: one write to TUN and one walk through the kernel for many.

The rules are those of the kernel's own GRO (tcp_gro_receive, udp_gro_receive) and of wireguard-go: only what TSO or USO
could have cut from one packet is joined. What has a wrong checksum, or none, is never joined, because the super-packet
gets a new one; such packets were wrong already when the peer forwarded them, and the receiver is to see it. First the
checksums of a run are looked at together, which finds out what the super-packet's own would, had it come as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Optional, Union

from .checksum import remainder, words_sum
from .vnet import FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, MAX_PACKET, PLAIN, VNET_HEADER

Frame = list[Union[bytes, memoryview]]
"""The parts of one write to TUN; the first begins with the vnet header."""

_TCP = 6
_UDP = 17
_ICMPV6 = 58
_PSH = 0x08
_ACK = 0x10
_UDP_HEADER = 8
_WORD = Struct(">H")


class _Family:
    """Where things are in a packet of this IP version and protocol that has no options or extension headers."""

    def __init__(self, version: int, protocol: int, gso_type: int) -> None:
        ip = self.ip_length = 20 if version == 4 else 40
        self.ipv4 = version == 4
        self.tcp = protocol == _TCP
        self.protocol = protocol
        self.gso_type = gso_type
        self.flow = slice(12, 24) if version == 4 else slice(8, 44)  # addresses and ports
        self.flags = ip + 13  # in TCP
        self.udp_length = ip + 4
        self.checksum_offset = 16 if self.tcp else 6
        self.checksum = ip + self.checksum_offset
        # Of one frame: one writev takes 1,024 parts, and the kernel joins as many datagrams.
        self.most = 512 if self.tcp else 64
        # Total length, identification and checksum of IPv4; payload length of IPv6; checksum of TCP; of UDP, length and
        # checksum.
        varying = [2, 3, 4, 5, 10, 11] if version == 4 else [4, 5]
        varying += (self.checksum, self.checksum + 1) if self.tcp else range(ip + 4, ip + 8)
        # By length of all headers: the number that clears what may differ between the segments of one super-packet, and
        # the lowest bit of the sequence number, 0 without one.
        self.masks = {}
        for length in range(ip + 20, ip + 61, 4) if self.tcp else (ip + _UDP_HEADER,):
            keep = bytearray(b"\xff" * length)
            for position in varying:
                keep[position] = 0
            if self.tcp:
                keep[self.flags] = 0xFF & ~_PSH
            self.masks[length] = int.from_bytes(keep, "big"), 1 << 8 * (length - ip - 8) if self.tcp else 0

    def pushes(self, packet: bytes) -> int:
        return packet[self.flags] & _PSH if self.tcp else 0


_TCP_V4, _TCP_V6 = _Family(4, _TCP, GSO_TCPV4), _Family(6, _TCP, GSO_TCPV6)
_UDP_V4, _UDP_V6 = _Family(4, _UDP, GSO_UDP_L4), _Family(6, _UDP, GSO_UDP_L4)


class _Run:
    """Packets of one flow that one super-packet could be cut into; TCP segments start where the one before ends.

    checked: only packets with right checksums are taken. Without it, whole() tells of all of them together.
    """

    __slots__ = ("_balance", "_checked", "_closed", "_family", "_header", "_length", "_size", "_total", "packets")

    def __init__(self, packet: bytes, family: _Family, header_length: int, checked: bool) -> None:
        self.packets = [packet]
        self._checked = checked
        self._closed = bool(family.pushes(packet))
        self._family = family
        self._length = header_length
        self._size = len(packet) - header_length
        self._total = len(packet)
        # That of the last one, as a number, without what may differ.
        self._header = int.from_bytes(packet[:header_length], "big") & family.masks[header_length][0]
        # What the sum of a whole packet lacks to that of the transport's part with its pseudo-header. In IPv4 the
        # header by itself sums up to zero, in IPv6 it holds all of the pseudo-header.
        self._balance = (
            words_sum(packet[12:20]) + family.protocol - 20
            if family.ipv4
            else family.protocol - words_sum(packet[:4] + packet[6:8])
        )

    def take(self, packets: Sequence[bytes], at: int) -> int:
        """Append the packets from position `at` on, as long as they continue the run. Return where they stop to."""
        if self._closed:
            return at
        family, length, full, total, mine = self._family, self._length, self._size, self._total, self.packets
        tcp, flags_at, number_of = family.tcp, family.flags, int.from_bytes
        mask, one = family.masks[length]
        # What the next header is, too: the sequence number has moved on by a segment, and may have begun anew at 0.
        step, around = full * one, one << 32
        highest = self._header | around - one
        header = self._header
        for packet in packets[at:]:
            size = len(packet) - length
            following = header + step if header + step <= highest else header + step - around
            # One comparison for all that must be the same and for the sequence number.
            if (
                number_of(packet[:length], "big") & mask != following
                or not 0 < size <= full
                or total + size > MAX_PACKET
                or not (tcp or _whole_udp(packet, family))
                or len(mine) == family.most
                or (self._checked and not self._may_join(packet))
            ):
                break
            mine.append(packet)
            total += size
            header = following
            at += 1
            if size < full or (tcp and packet[flags_at] & _PSH):
                self._closed = True
                break
        self._total, self._header = total, header
        return at

    def _may_join(self, packet: bytes) -> bool:
        """Whether its checksum is right, and that of the first."""
        return self._intact((packet,)) and (len(self.packets) > 1 or self._intact(self.packets))

    def whole(self) -> bool:
        """Whether the checksums of several packets are right, all together as in the super-packet's own would be."""
        return len(self.packets) == 1 or self._intact(self.packets)

    def _intact(self, packets: Sequence[bytes]) -> bool:
        # Little-endian, as in words_sum(); most of the time is in making numbers of the packets.
        number = sum(int.from_bytes(packet, "little") for packet in packets)
        total = remainder(number) + self._balance * len(packets)
        return (total + sum(map(len, packets)) if self._family.ipv4 else total) % 65535 == 0

    def frame(self) -> Frame:
        packets, family, length = self.packets, self._family, self._length
        if len(packets) == 1:
            return [PLAIN, packets[0]]
        head = bytearray(packets[0][:length])
        ip_length, total = family.ip_length, self._total
        if family.ipv4:
            _WORD.pack_into(head, 2, total)
            _WORD.pack_into(head, 10, 0)
            _WORD.pack_into(head, 10, -words_sum(bytes(head[:20])) % 65535)
            addresses = packets[0][12:20]
        else:
            _WORD.pack_into(head, 4, total - ip_length)
            addresses = packets[0][8:40]
        if family.tcp:
            head[family.flags] |= packets[-1][family.flags] & _PSH
        else:
            _WORD.pack_into(head, family.udp_length, total - ip_length)
        pseudo_header = (words_sum(addresses) + family.protocol + total - ip_length) % 65535
        _WORD.pack_into(head, family.checksum, pseudo_header)
        vnet = VNET_HEADER.pack(FLAG_NEEDS_CSUM, family.gso_type, length, self._size, ip_length, family.checksum_offset)
        parts: Frame = [vnet + head]
        parts += [packet[length:] for packet in packets]  # cheaper than views
        return parts


def coalesce(packets: Sequence[bytes], *, udp: bool = True) -> list[Frame]:
    """What to write to TUN for these IP packets. The packets of a flow stay in order.

    udp: the device takes datagrams joined, too.
    """
    queue = _join(packets, udp, checked=False)
    # To look at the checksums of a run together takes half the time. If that tells of a wrong one, each is looked at.
    if not all(isinstance(entry, bytes) or entry.whole() for entry in queue):
        queue = _join(packets, udp, checked=True)
    return [[PLAIN, entry] if isinstance(entry, bytes) else entry.frame() for entry in queue]


def _join(packets: Sequence[bytes], udp: bool, *, checked: bool) -> list[Union[_Run, bytes]]:
    queue: list[Union[_Run, bytes]] = []
    runs: dict[tuple[_Family, bytes], _Run] = {}  # by flow; whatever does not fit goes into the queue behind them
    at = 0
    while at < len(packets):
        packet = packets[at]
        family = _family(packet)
        if family is None:
            if not _surely_neither(packet):
                runs.clear()
            queue.append(packet)
            at += 1
            continue
        flow = (family, packet[family.flow])
        run = runs.get(flow)
        if run is not None:
            taken = run.take(packets, at)
            if taken > at:
                at = taken
                continue
        at += 1
        header_length = _header_length(packet, family, udp)
        if 0 < header_length < len(packet):
            run = runs[flow] = _Run(packet, family, header_length, checked)
            queue.append(run)
            at = run.take(packets, at)
        else:
            runs.pop(flow, None)
            queue.append(packet)
    return queue


def _header_length(packet: bytes, family: _Family, udp: bool) -> int:
    """Of all headers together; 0 where this is no packet that others could be joined to."""
    if family.tcp:
        length = family.ip_length + (packet[family.ip_length + 12] >> 4) * 4
        return length if packet[family.flags] & ~_PSH == _ACK and length in family.masks else 0
    return family.ip_length + _UDP_HEADER if udp and _whole_udp(packet, family) else 0


def _whole_udp(packet: bytes, family: _Family) -> bool:
    """Whether the datagram is as long as it says, and has a checksum."""
    length: int = _WORD.unpack_from(packet, family.udp_length)[0]
    return length == len(packet) - family.ip_length and packet[family.checksum : family.checksum + 2] != b"\0\0"


def _family(packet: bytes) -> Optional[_Family]:
    """Where the fields are, if this is TCP or UDP without IP options, extension headers or fragmentation."""
    length = len(packet)
    if length < 28:
        return None
    if packet[0] == 0x45:
        if packet[6] & 0x3F or packet[7]:
            return None
        if packet[9] == _TCP:
            return _TCP_V4 if length >= 40 else None
        return _UDP_V4 if packet[9] == _UDP else None
    if packet[0] >> 4 != 6 or length < 48:
        return None
    if packet[6] == _TCP:
        return _TCP_V6 if length >= 60 else None
    return _UDP_V6 if packet[6] == _UDP else None


def _surely_neither(packet: bytes) -> bool:
    """False also where TCP or UDP might hide behind an extension header."""
    if len(packet) < 20:
        return False
    return packet[6] == _ICMPV6 if packet[0] >> 4 == 6 else packet[9] not in (_TCP, _UDP)
