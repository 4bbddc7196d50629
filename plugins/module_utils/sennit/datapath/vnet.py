# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The header in front of every packet on a TUN device with IFF_VNET_HDR (linux/virtio_net.h, native byte order)."""

from __future__ import annotations

from struct import Struct

VNET_HEADER = Struct("=BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; lengths and offsets in bytes from the IP header."""

FLAG_NEEDS_CSUM = 1
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # a bit besides the TCP types: the first segment carries CWR

PLAIN = bytes(VNET_HEADER.size)
"""In front of a packet that is complete as it is."""

MAX_PACKET = 65535
MAX_FRAME = VNET_HEADER.size + MAX_PACKET
