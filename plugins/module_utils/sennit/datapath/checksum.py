# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Internet checksum (RFC 1071), by arithmetic on whole packets.

A ones-complement sum of 16-bit words is a remainder modulo 65535, since 65536 leaves 1. Taking a packet as one large
number and dividing it is the fastest way in pure Python: a loop over words costs twenty times as much.
"""

from __future__ import annotations

from typing import Union

# Halving the number first, by adding its upper to its lower part at a multiple of 16 bits, is cheaper than division.
_LOW_5760 = (1 << 5760) - 1
_LOW_2880 = (1 << 2880) - 1
_LOW_1440 = (1 << 1440) - 1


def words_sum(data: Union[bytes, memoryview]) -> int:
    """A number that leaves, divided by 65535, the sum of the big-endian 16-bit words; an odd length is padded."""
    return remainder(int.from_bytes(data, "little"))


def remainder(number: int) -> int:
    """The same of data that was taken as a little-endian number, or of several that were added up."""
    # Little-endian numbers pad an odd length by themselves; swapping the bytes of a sum is multiplying it by 256.
    if number > _LOW_2880:
        number = (number & _LOW_5760) + (number >> 5760)
        number = (number & _LOW_2880) + (number >> 2880)
        number = (number & _LOW_1440) + (number >> 1440)
    return number % 65535 * 256
