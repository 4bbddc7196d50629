# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timers of one peer, and the queue of all peers' deadlines.

Nothing here acts. The methods of PeerTimers are named by what happened, and set deadlines (whitepaper section 6);
take_expired tells what is due. All times are on the caller's monotonic clock, in seconds.
"""

from __future__ import annotations

import heapq
from enum import Enum
from typing import Callable

from .constants import KEEPALIVE_TIMEOUT, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER, ZERO_KEYS_AFTER

NEVER = float("inf")


class Expired(Enum):
    """What a peer's timers ask for."""

    RETRANSMIT_HANDSHAKE = 0
    """The initiation was not answered in time."""
    SEND_KEEPALIVE = 1
    """The peer sent data and heard nothing back since."""
    NEW_HANDSHAKE = 2
    """We sent data and heard nothing back since."""
    ZERO_KEYS = 3
    """No new session for so long that the keys must go."""
    PERSISTENT_KEEPALIVE = 4
    """Nothing passed in either direction for the configured interval."""


class PeerTimers:
    """Five deadlines, each NEVER when its timer is not running.

    What happened may be told in another order than it happened in. So the two timers that wait for the other direction
    go by when the packets passed: one runs only while its own packet is not older than the newest of the other kind.
    """

    __slots__ = (
        "_data_received_at",
        "_data_sent_at",
        "_deadlines",
        "_random",
        "_received_at",
        "_sent_at",
        "persistent_keepalive",
    )

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.persistent_keepalive = 0
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all that happened; the first persistent keepalive, if there are any, is due at once."""
        self._deadlines = [NEVER] * len(Expired)
        self._sent_at = self._data_sent_at = self._received_at = self._data_received_at = -NEVER
        self.persistent_keepalive_configured(self.persistent_keepalive)

    def next_deadline(self) -> float:
        """The earliest of the deadlines, or NEVER."""
        return min(self._deadlines)

    def take_expired(self, now: float) -> list[Expired]:
        """The timers that are due, in the order of Expired. They stop running."""
        expired = [timer for timer in Expired if self._deadlines[timer.value] <= now]
        for timer in expired:
            self._stop(timer)
        return expired

    def data_sent(self, at: float) -> None:
        """Data went out: the peer must let us hear something before long."""
        self._data_sent_at = max(at, self._data_sent_at)
        if at >= self._received_at and not self._running(Expired.NEW_HANDSHAKE):
            self._set(Expired.NEW_HANDSHAKE, at + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self._jitter())

    def data_received(self, at: float) -> None:
        """Data came in: we must let the peer hear something before long."""
        self._data_received_at = max(at, self._data_received_at)
        if at >= self._sent_at and not self._running(Expired.SEND_KEEPALIVE):
            self._set(Expired.SEND_KEEPALIVE, at + KEEPALIVE_TIMEOUT)

    def authenticated_packet_sent(self, at: float) -> None:
        """Anything went out that shows the peer we are alive: data, a keepalive, a handshake message."""
        self._sent_at = max(at, self._sent_at)
        if at >= self._data_received_at:
            self._stop(Expired.SEND_KEEPALIVE)
        self._packet_passed()

    def authenticated_packet_received(self, at: float) -> None:
        """Anything came in that shows the peer is alive: data, a keepalive, a handshake message."""
        self._received_at = max(at, self._received_at)
        if at >= self._data_sent_at:
            self._stop(Expired.NEW_HANDSHAKE)
        self._packet_passed()

    def handshake_initiated(self, now: float) -> None:
        """An initiation went out."""
        self._set(Expired.RETRANSMIT_HANDSHAKE, now + REKEY_TIMEOUT + self._jitter())

    def handshake_postponed(self, until: float) -> None:
        """An initiation is wanted, and must wait, as the last handshake message is too fresh."""
        if not self._running(Expired.RETRANSMIT_HANDSHAKE):
            self._set(Expired.RETRANSMIT_HANDSHAKE, until + self._jitter())

    def handshake_complete(self) -> None:
        """Both sides hold the new session, and we know it."""
        self._stop(Expired.RETRANSMIT_HANDSHAKE)

    def session_derived(self, now: float) -> None:
        """A keypair was made."""
        self._set(Expired.ZERO_KEYS, now + ZERO_KEYS_AFTER)

    def gave_up(self) -> None:
        """The peer did not answer for so long that it is owed nothing. The keys it may have will go in their time."""
        self._stop(Expired.SEND_KEEPALIVE)

    def persistent_keepalive_configured(self, interval: int) -> None:
        """The interval is new, 0 for none. The first keepalive is due at once: since the clock's zero."""
        self.persistent_keepalive = interval
        self._set(Expired.PERSISTENT_KEEPALIVE, 0.0 if interval else NEVER)

    def persistent_keepalive_tried(self, now: float) -> None:
        """The next one is due an interval later, whether or not this one can go out."""
        self._set(Expired.PERSISTENT_KEEPALIVE, now + self.persistent_keepalive)

    def _packet_passed(self) -> None:
        if self.persistent_keepalive:
            newest = max(self._sent_at, self._received_at)
            self._set(Expired.PERSISTENT_KEEPALIVE, newest + self.persistent_keepalive)

    def _running(self, timer: Expired) -> bool:
        return self._deadlines[timer.value] != NEVER

    def _set(self, timer: Expired, deadline: float) -> None:
        self._deadlines[timer.value] = deadline

    def _stop(self, timer: Expired) -> None:
        self._deadlines[timer.value] = NEVER

    def _jitter(self) -> float:
        return int.from_bytes(self._random(2), "big") / 65536 * REKEY_TIMEOUT_JITTER


class DeadlineQueue:
    """The next deadline of every peer, earliest first.

    Traffic moves a peer's deadlines later all the time, so a deadline that moves later leaves its place in the heap
    as it is; the place is corrected when its time comes. The queue may thus wake its owner early, never late.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, bytes]] = []
        self._deadlines: dict[bytes, float] = {}
        self._queued: dict[bytes, float] = {}

    def set(self, peer: bytes, deadline: float) -> None:
        """The peer's earliest deadline is this now; NEVER for none."""
        if deadline == NEVER:
            self._deadlines.pop(peer, None)
            return
        self._deadlines[peer] = deadline
        if deadline < self._queued.get(peer, NEVER):
            self._push(peer, deadline)

    def remove(self, peer: bytes) -> None:
        """Forget the peer."""
        self._deadlines.pop(peer, None)
        self._queued.pop(peer, None)

    def next_deadline(self) -> float | None:
        """When take_due has to be called next; None when nothing is waiting."""
        heap = self._heap
        while heap:
            when, peer = heap[0]
            if self._queued.get(peer) == when and peer in self._deadlines:
                return when
            self._pop()
        return None

    def take_due(self, now: float) -> list[bytes]:
        """The peers whose deadline is over. Their places are free until set is called again."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            peer = self._pop()
            deadline = self._deadlines.get(peer) if peer is not None else None
            if peer is None or deadline is None:
                continue
            if deadline <= now:
                del self._deadlines[peer]
                due.append(peer)
            else:
                self._push(peer, deadline)
        return due

    def _push(self, peer: bytes, deadline: float) -> None:
        self._queued[peer] = deadline
        heapq.heappush(self._heap, (deadline, peer))
        if len(self._heap) > 4 * len(self._queued) + 64:
            self._heap = [(when, peer) for peer, when in self._queued.items()]
            heapq.heapify(self._heap)

    def _pop(self) -> bytes | None:
        """Take the first place off the heap: its peer, or None when an earlier place has replaced it."""
        when, peer = heapq.heappop(self._heap)
        if self._queued.get(peer) != when:
            return None
        del self._queued[peer]
        return peer
