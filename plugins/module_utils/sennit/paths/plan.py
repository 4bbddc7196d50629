# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done about the path to one peer. No I/O and no clock: what the datapath says goes in, what to do comes out.

Theory of operation. The datapath is looked at about once a second, and each look finds one of three cases.

    trouble   nothing answers handshakes, or what follows a rest; this host's address is another, or the peer is not
              where it was: ask for it everywhere at once, and have WireGuard's own handshakes go by a relay
    session   the path may be worse than what there is: ask for the peer at what is better, again and again, but less
              and less often. Its end does the same at about the same time, which opens both NATs
    neither   nobody wants the peer: it is left alone, and sent to by a relay unless the netmap says where it is

A probe moves nothing by itself: the path is another when the peer has answered there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Optional, Union

from ..wireguard.constants import (
    INITIATION_LENGTH,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSE_LENGTH,
    TRANSPORT_OVERHEAD,
)
from ..wireguard.events import Endpoint
from ..wireguard.peer import PeerStatus
from .candidates import RANKS, RELAY, Local, kind_of

# Seconds that a handshake may take before something else is tried, too.
PATIENCE = 0.8
# A session that carried something within so many seconds is in use.
ACTIVE_FOR = 30.0
# Handshakes follow each other every 5 s while a peer is wanted.
_WANTED_FOR = 3 * REKEY_TIMEOUT
FIRST_GAP, LAST_GAP = 1.0, 60.0
# A path that is not a relay's is left as it is when nothing better answered in so many rounds.
_ROUNDS_ON_DIRECT = 6
# Seconds after which a NAT may have forgotten a path that nothing goes by (RFC 4787, section 4.3), and those that an
# answer may take then.
_REST = 20.0
_SILENCE = 2.0
# Rounds of trouble before a session that nobody has proved to be dead goes by a relay.
_ROUNDS_OF_DOUBT = 2

_NEVER = float("-inf")


@dataclass(frozen=True)
class Probe:
    """Have the datapath ask for the peer at these endpoints, in this order."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Move:
    """Have the datapath send to this endpoint from now on."""

    endpoint: Endpoint


Action = Union[Probe, Move]


@dataclass(frozen=True)
class Ways:
    """To one peer, best first: ``direct`` endpoints, and ``relays`` at which both ends are attached.

    ``stated``: where the netmap says that it is. ``every_relay``: all that are known, also of no use for this peer.
    """

    direct: tuple[Endpoint, ...] = ()
    relays: tuple[Endpoint, ...] = ()
    stated: Optional[Endpoint] = None
    local: Local = field(default_factory=Local)
    every_relay: frozenset[Endpoint] = frozenset()

    def rank(self, endpoint: Optional[Endpoint]) -> int:
        if endpoint is None or endpoint in self.every_relay:
            return RANKS[RELAY]
        return RANKS[kind_of(endpoint, self.local)]


class _Rounds:
    """At 0, 1, 2, 4, 8 ... seconds, and then every LAST_GAP."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.number = 0
        self._next = _NEVER

    def due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + min(FIRST_GAP * 2 ** max(0, self.number - 1), LAST_GAP)
        self.number += 1
        return True


class Plan:
    """For one peer."""

    def __init__(self) -> None:
        self._before: Optional[PeerStatus] = None
        self._ways = Ways()
        self._active_at = _NEVER
        self._probed = 0
        """Endpoints since the last look: what was sent there is not the peer's traffic."""
        self._better: tuple[Endpoint, ...] = ()
        self._rounds = _Rounds()
        self._unanswered_since: Optional[float] = None
        self._unanswered_at = _NEVER
        self._gave_up = False
        self._doubted_at: Optional[float] = None
        """Since when, by the time of day, it must be proved anew that the session still has a path."""
        self._doubt = False
        self._moved_at = _NEVER
        self._target = 0
        self._heard_at = _NEVER
        self._spoke_at: Optional[float] = None
        """When the first was sent of what has not been answered by anything."""

    def doubt(self) -> None:
        """This host has other addresses: nobody may hear it at what the peers know."""
        self._doubt = True

    def look(self, now: float, wall: float, seen: PeerStatus, ways: Ways) -> Sequence[Action]:
        """What to do now. ``now`` is monotonic and ``wall`` the time of day, both in seconds."""
        if ways is not self._ways:
            self._know(ways, seen)
        self._notice(now, wall, seen)
        session = seen.latest_handshake is not None and wall - seen.latest_handshake < REJECT_AFTER_TIME
        if self._doubt or self._is_silent(now):
            self._doubt = False
            if session:
                self._doubted_at = wall
                self._rounds.restart()
        if self._in_trouble(now, session):
            return self._look_everywhere(now, seen)
        if self._unanswered_since is not None:
            return ()
        return self._improve(now, seen) if session else self._rest(seen)

    # --- what there is

    def _is_silent(self, now: float) -> bool:
        """Whether the peer is spoken to again after a rest, in which NATs forget, and does not answer."""
        if self._doubted_at is not None or self._spoke_at is None:
            return False
        return now - self._spoke_at >= _SILENCE and self._spoke_at - self._heard_at >= _REST

    def _know(self, ways: Ways, seen: PeerStatus) -> None:
        gone = seen.endpoint in self._ways.direct and seen.endpoint not in ways.direct
        if gone and seen.endpoint not in ways.every_relay:
            self._doubt = True
        self._ways = ways

    def _notice(self, now: float, wall: float, seen: PeerStatus) -> None:
        before, self._before = self._before, seen
        probed, self._probed = self._probed, 0
        if before is None:
            before = PeerStatus(None, None, seen.rx_bytes, seen.tx_bytes)
        received = seen.rx_bytes - before.rx_bytes
        sent = seen.tx_bytes - before.tx_bytes - probed * INITIATION_LENGTH
        if not _is_no_data(received) or sent > _MOST_WITHOUT_DATA:
            self._active_at = now
        if received > 0:
            self._heard_at, self._spoke_at = now, None
        elif self._spoke_at is None and not _is_no_data(sent):
            self._spoke_at = now
        self._notice_answers(now, before, seen)
        if self._doubted_at is not None:
            renewed = seen.latest_handshake is not None and seen.latest_handshake >= self._doubted_at
            # What was under way when the doubt began may still come in.
            if renewed or (received > 0 and wall - self._doubted_at > FIRST_GAP):
                self._doubted_at = None
                self._rounds.restart()

    def _notice_answers(self, now: float, before: PeerStatus, seen: PeerStatus) -> None:
        if seen.unanswered == 0:
            if self._unanswered_since is not None:
                self._rounds.restart()
            self._unanswered_since = None
        elif seen.unanswered > before.unanswered:
            self._unanswered_at = now
            if self._unanswered_since is None:
                self._unanswered_since = now
                self._target = 0
                self._moved_at = _NEVER
                self._rounds.restart()
        elif now - self._unanswered_at > _WANTED_FOR and self._unanswered_since is not None:
            self._unanswered_since = None
            self._gave_up = True
            self._rounds.restart()

    def _in_trouble(self, now: float, session: bool) -> bool:
        if self._unanswered_since is not None:
            return now - self._unanswered_since >= PATIENCE
        if self._doubted_at is not None and not session:
            self._doubted_at = None
        return self._doubted_at is not None

    # --- what to do

    def _look_everywhere(self, now: float, seen: PeerStatus) -> Sequence[Action]:
        if not self._rounds.due(now):
            return ()
        actions: list[Action] = []
        ways, current = self._ways, seen.endpoint
        proved = self._unanswered_since is not None
        if proved or self._rounds.number > _ROUNDS_OF_DOUBT:
            target = self._next_target(now, current, relays_only=not proved)
            if target is not None:
                actions.append(Move(target))
        everywhere = list(dict.fromkeys((*([current] if current else []), *ways.direct, *ways.relays)))
        # WireGuard itself asks where it sends to, and asks again in time.
        if not proved or everywhere != [current]:
            actions.append(self._probe(tuple(everywhere)))
        return actions

    def _next_target(self, now: float, current: Optional[Endpoint], relays_only: bool) -> Optional[Endpoint]:
        """Where WireGuard's next handshake is to go: to each in turn, and a relay first."""
        targets = [*self._ways.relays, *(() if relays_only else self._ways.direct)]
        if relays_only and current in targets:
            return None
        if now - self._moved_at < REKEY_TIMEOUT or not targets:
            return None
        for _target in targets:
            target = targets[self._target % len(targets)]
            self._target += 1
            if target != current:
                self._moved_at = now
                return target
        return None

    def _improve(self, now: float, seen: PeerStatus) -> Sequence[Action]:
        rank = self._ways.rank(seen.endpoint)
        better = tuple(endpoint for endpoint in self._ways.direct if self._ways.rank(endpoint) < rank)
        if better != self._better:
            self._better = better
            self._rounds.restart()
        if not better or now - self._active_at > ACTIVE_FOR:
            return ()
        if rank < RANKS[RELAY] and self._rounds.number >= _ROUNDS_ON_DIRECT:
            return ()
        return (self._probe(better),) if self._rounds.due(now) else ()

    def _rest(self, seen: PeerStatus) -> Sequence[Action]:
        """Where its next packet is to go: to a relay unless it is known where the peer is, or it has not been there."""
        self._better = ()
        ways, current = self._ways, seen.endpoint
        gave_up, self._gave_up = self._gave_up, False
        lost = gave_up or current is None or (current in ways.every_relay and current not in ways.relays)
        if ways.relays:
            home = ways.relays[0] if lost or ways.stated is None else current
        elif lost:
            home = ways.stated or (ways.direct[0] if ways.direct else None)
        else:
            home = current
        return (Move(home),) if home is not None and home != current else ()

    def _probe(self, endpoints: tuple[Endpoint, ...]) -> Probe:
        self._probed += len(endpoints)
        return Probe(endpoints)


# In one second there are no more of each, without data.
_NO_DATA = frozenset(
    map(
        sum,
        product(
            (0, TRANSPORT_OVERHEAD, 2 * TRANSPORT_OVERHEAD),
            (0, RESPONSE_LENGTH, 2 * RESPONSE_LENGTH),
            (0, INITIATION_LENGTH, 2 * INITIATION_LENGTH),
        ),
    )
)
_MOST_WITHOUT_DATA = 1000


def _is_no_data(size: int) -> bool:
    """Whether so many bytes may well be handshakes and empty packets alone."""
    return size in _NO_DATA
