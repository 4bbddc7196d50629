# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Under load: knowing when we are, and how much one source may then ask of us (whitepaper section 5.3)."""

from __future__ import annotations

from typing import Optional

from .addresses import packed_address
from .constants import (
    COOKIES_AT_ONCE,
    COOKIES_EACH,
    COOKIES_TIME,
    LIMITER_BURST,
    LIMITER_RATE,
    UNDER_LOAD_FAILURES,
    UNDER_LOAD_FOR,
    UNDER_LOAD_QUEUE_LENGTH,
    UNDER_LOAD_REPORTED_FOR,
)
from .events import Endpoint

# Far more sources than can be handled at once; beyond it new ones are refused rather than remembered.
_SOURCES = 8192


class LoadMonitor:
    """Whether we should ask for cookies: too many handshake messages wait, or cost their sums for nothing.

    Sticky, so that it does not flicker, and it lasts as long as cookies have to be given thick.
    """

    def __init__(self) -> None:
        self.until = float("-inf")
        """When we are under load no more, unless something more is told."""
        self._failures = _Burst()
        self._cookies = _Burst()

    def handshakes_waiting(self, count: int, now: float) -> None:
        """Tell how many handshake messages are waiting at this moment."""
        if count >= UNDER_LOAD_QUEUE_LENGTH:
            self._extend(now + UNDER_LOAD_FOR)

    def handshake_failed(self, now: float) -> None:
        """Tell of a handshake message that turned out to be no good after it had cost its sums."""
        if self._failures.add(now):
            self._extend(now + UNDER_LOAD_FOR)

    def cookie_given(self, now: float) -> None:
        """Tell of a handshake message that was answered with a cookie."""
        if self._cookies.add(now):
            self._extend(now + UNDER_LOAD_FOR)

    def cookies_given(self, count: int, now: float) -> None:
        """Tell how many they were, of somebody who tells of that about once a second."""
        if count >= UNDER_LOAD_FAILURES:
            self._extend(now + UNDER_LOAD_REPORTED_FOR)

    def under_load(self, now: float) -> bool:
        return now < self.until

    def _extend(self, until: float) -> None:
        self.until = max(self.until, until)


class _Burst:
    """Notices each time that UNDER_LOAD_FAILURES of something happen within UNDER_LOAD_FOR."""

    def __init__(self) -> None:
        self._count = 0
        self._until = float("-inf")

    def add(self, now: float) -> bool:
        """One more; whether they are so many with it."""
        if now >= self._until:
            self._count, self._until = 0, now + UNDER_LOAD_FOR
        self._count += 1
        if self._count < UNDER_LOAD_FAILURES:
            return False
        self._until = now
        return True


class CookieBudget:
    """How many handshake messages may still be given cookies, by kind and by source, which may be spoofed."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._given: dict[tuple[int, Optional[Endpoint]], int] = {}

    def has(self, kind: int, source: Endpoint, now: float) -> bool:
        """Whether there is one for such a message."""
        given = self._given
        if now >= self._until:
            given.clear()
            self._until = now + COOKIES_TIME
        return given.get((kind, None), 0) < COOKIES_AT_ONCE and given.get((kind, source), 0) < COOKIES_EACH

    def take(self, kind: int, source: Endpoint) -> None:
        """Take it; after has()."""
        for key in ((kind, None), (kind, source)):
            self._given[key] = self._given.get(key, 0) + 1


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
    packed = packed_address(address)
    return packed if len(packed) == 4 else packed[:8]
