# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Under load: knowing when we are, and how much one source may then ask of us (whitepaper section 5.3)."""

from __future__ import annotations

from ipaddress import ip_address

from .constants import LIMITER_BURST, LIMITER_RATE, UNDER_LOAD_FAILURES, UNDER_LOAD_FOR, UNDER_LOAD_QUEUE_LENGTH

# Far more sources than can be handled at once; beyond it new ones are refused rather than remembered.
_SOURCES = 8192


class LoadMonitor:
    """Whether we should ask for cookies: too many handshake messages wait, or cost their sums for nothing.

    Sticky, so that it does not flicker.
    """

    def __init__(self) -> None:
        self._until = float("-inf")
        self._failures = 0
        self._counting_until = float("-inf")

    def handshakes_waiting(self, count: int, now: float) -> None:
        """Tell how many handshake messages are waiting at this moment."""
        if count >= UNDER_LOAD_QUEUE_LENGTH:
            self._until = now + UNDER_LOAD_FOR

    def handshake_failed(self, now: float) -> None:
        """Tell of a handshake message that turned out to be no good after it had cost its sums."""
        if now >= self._counting_until:
            self._failures, self._counting_until = 0, now + UNDER_LOAD_FOR
        self._failures += 1
        if self._failures >= UNDER_LOAD_FAILURES:
            self._until = now + UNDER_LOAD_FOR

    def under_load(self, now: float) -> bool:
        return now < self._until


class RateLimiter:
    """A token bucket for each source: an IPv4 address, or the /64 of an IPv6 one, all of which one host may own.

    For each source only the time is kept at which its bucket will be full again (the generic cell rate algorithm).
    It is asked only after a valid mac2, so its sources are not spoofed.
    """

    _INTERVAL = 1.0 / LIMITER_RATE
    _TOLERANCE = (LIMITER_BURST - 1) * _INTERVAL + 1e-6  # sums of floats may be off by a little

    def __init__(self) -> None:
        self._full_at: dict[bytes, float] = {}
        self._next_sweep = float("-inf")

    def allow(self, address: str, now: float) -> bool:
        """Take a token of this address, given as text. False when there is none left."""
        source = _limited_source(address)
        full_at = max(self._full_at.get(source, now), now)
        if full_at - now > self._TOLERANCE:
            return False
        if source not in self._full_at and not self._make_room(now):
            return False
        self._full_at[source] = full_at + self._INTERVAL
        return True

    def _make_room(self, now: float) -> bool:
        """Whether there is room for another source. When there is none, full buckets go, but not at every call."""
        if len(self._full_at) >= _SOURCES and now >= self._next_sweep:
            self._full_at = {source: at for source, at in self._full_at.items() if at > now}
            self._next_sweep = now + self._INTERVAL
        return len(self._full_at) < _SOURCES


def _limited_source(address: str) -> bytes:
    packed = ip_address(address.partition("%")[0]).packed
    return packed if len(packed) == 4 else packed[:8]
