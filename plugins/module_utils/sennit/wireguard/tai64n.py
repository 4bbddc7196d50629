# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TAI64N timestamps, the proof in an initiation that it is not an old one (whitepaper section 5.1)."""

from __future__ import annotations

_EPOCH = 0x400000000000000A  # 1970-01-01 in TAI64: 2^62 and the ten leap seconds of that day
# Coarse on purpose: the fine part would tell an observer of many handshakes how our clock runs.
_RESOLUTION = 1 << 24  # nanoseconds, about 17 ms


def tai64n(wall: float) -> bytes:
    """The timestamp of a wall-clock time in seconds since the epoch: 12 bytes whose order is that of time."""
    seconds, nanoseconds = divmod(int(wall * 1_000_000_000), 1_000_000_000)
    nanoseconds -= nanoseconds % _RESOLUTION
    return (_EPOCH + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def later(wall: float, previous: bytes) -> bytes:
    """The timestamp of a time, or the one right after the previous when the clock did not move on or was set back."""
    timestamp = tai64n(wall)
    if timestamp > previous:
        return timestamp
    return (int.from_bytes(previous, "big") + 1).to_bytes(12, "big")
