# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Token buckets: how much of something may pass in a second, and at once after a pause."""

from __future__ import annotations


class TokenBucket:
    """Full at the start. Amounts in a unit of the caller's, times in seconds."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        """rate: tokens a second; burst: how many there are at most."""
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def take(self, number: int, size: float, now: float) -> int:
        """Take tokens for things of this size each; return for how many of them there were enough."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        taken = min(number, int(self._tokens // size))
        self._tokens -= taken * size
        return taken
