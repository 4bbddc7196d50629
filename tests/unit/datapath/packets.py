"""Packets for the tests, and the checksum as RFC 1071 describes it: slow, and written independently."""

from __future__ import annotations

import struct

ACK, PSH, FIN, CWR, SYN = 0x10, 0x08, 0x01, 0x80, 0x02
TCP, UDP = 6, 17
VNET = struct.Struct("=BBHHHH")


def ones_complement_sum(data: bytes) -> int:
    total = 0
    for position in range(0, len(data), 2):
        high = data[position]
        low = data[position + 1] if position + 1 < len(data) else 0
        total += (high << 8) | low
        total = (total & 0xFFFF) + (total >> 16)
    return total


def addresses(version: int, stream: int = 0) -> tuple[bytes, bytes]:
    if version == 4:
        return bytes([10, 0, stream, 1]), bytes([10, 0, stream, 2])
    return b"\xfd" + bytes(13) + bytes([stream, 1]), b"\xfd" + bytes(13) + bytes([stream, 2])


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """For both versions: what IPv6 has besides (RFC 8200 section 8.1) are zeros, which add nothing."""
    return source + destination + struct.pack(">xBH", protocol, length)


def ip_header(  # noqa: PLR0917
    version: int, protocol: int, length: int, stream: int = 0, identification: int = 7, tos: int = 0, ttl: int = 64
) -> bytes:
    source, destination = addresses(version, stream)
    if version == 6:
        return struct.pack(">IHBB", 6 << 28 | tos << 20 | 0x12345, length, protocol, ttl) + source + destination
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, tos, 20 + length, identification, 0x4000, ttl, protocol, 0, source, destination
    )
    return header[:10] + (0xFFFF - ones_complement_sum(header)).to_bytes(2, "big") + header[12:]


def tcp(
    version: int,
    payload: bytes,
    sequence: int = 1000,
    flags: int = ACK,
    *,
    stream: int = 0,
    acknowledgement: int = 5,
    window: int = 500,
    options: bytes = b"",
    identification: int = 7,
    tos: int = 0,
    ttl: int = 64,
) -> bytes:
    """A whole TCP packet with right checksums."""
    offset = (20 + len(options)) // 4 << 4
    segment = struct.pack(
        ">HHIIBBHHH", 1024 + stream, 80, sequence % 2**32, acknowledgement, offset, flags, window, 0, 0
    )
    segment += options + payload
    source, destination = addresses(version, stream)
    total = ones_complement_sum(pseudo_header(source, destination, TCP, len(segment)) + segment)
    segment = segment[:16] + (0xFFFF - total).to_bytes(2, "big") + segment[18:]
    return ip_header(version, TCP, len(segment), stream, identification, tos, ttl) + segment


def udp(version: int, payload: bytes, stream: int = 0, identification: int = 7) -> bytes:
    source, destination = addresses(version, stream)
    datagram = struct.pack(">HHHH", 1024 + stream, 53, 8 + len(payload), 0) + payload
    total = ones_complement_sum(pseudo_header(source, destination, UDP, len(datagram)) + datagram)
    checksum = 0xFFFF - total or 0xFFFF
    datagram = datagram[:6] + checksum.to_bytes(2, "big") + datagram[8:]
    return ip_header(version, UDP, len(datagram), stream, identification) + datagram


def offloaded(packet: bytes, gso_type: int, size: int, offset: int) -> bytes:
    """The packet as the kernel hands it to a device that does its checksum, and its segmentation if gso_type is set."""
    version = packet[0] >> 4
    start = 20 if version == 4 else 40
    source, destination = (packet[12:16], packet[16:20]) if version == 4 else (packet[8:24], packet[24:40])
    protocol = packet[9] if version == 4 else packet[6]
    partial = ones_complement_sum(pseudo_header(source, destination, protocol, len(packet) - start))
    field = start + offset
    vnet = VNET.pack(1, gso_type, field + 4, size, start, offset)
    return vnet + packet[:field] + partial.to_bytes(2, "big") + packet[field + 2 :]


def is_intact(packet: bytes) -> bool:
    """Whether lengths and checksums of a TCP or UDP packet are right."""
    version = packet[0] >> 4
    if version == 4:
        start, protocol, source, destination = 20, packet[9], packet[12:16], packet[16:20]
        if int.from_bytes(packet[2:4], "big") != len(packet) or ones_complement_sum(packet[:20]) != 0xFFFF:
            return False
    else:
        start, protocol, source, destination = 40, packet[6], packet[8:24], packet[24:40]
        if int.from_bytes(packet[4:6], "big") + 40 != len(packet):
            return False
    transport = packet[start:]
    if protocol == UDP and (int.from_bytes(transport[4:6], "big") != len(transport) or transport[6:8] == bytes(2)):
        return False
    total = pseudo_header(source, destination, protocol, len(transport)) + transport
    return ones_complement_sum(total) == 0xFFFF


def reader(packet: bytes) -> tuple[int, int, bytes]:
    """Sequence number, flags and payload of a TCP packet without IP options."""
    start = 20 if packet[0] >> 4 == 4 else 40
    sequence = int.from_bytes(packet[start + 4 : start + 8], "big")
    return sequence, packet[start + 13], packet[start + (packet[start + 12] >> 4) * 4 :]
