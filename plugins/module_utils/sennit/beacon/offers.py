# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of the maps that are offered is asked for, and of whom. The clock is the caller's.

What an offer says is not believed before the map is here and verified. So whoever offers in vain is left alone for a
while, longer each time, and never keeps another from being asked: of different maps that claim to be newer, each is
asked for, the same map only of one at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator
from typing import Generic, Optional, TypeVar

from .exchange import Offered

FIRST_PENALTY = 60.0
LAST_PENALTY = 3600.0
# Maps that are remembered as no good.
MAX_AVOIDED = 256
# Maps that may be on their way from nodes at the same time, each in memory: what all of them together may cost.
# Beacons are few, and known by the map; they do not count.
MAX_FROM_NODES = 4

Source = TypeVar("Source", bound=Hashable)


@dataclasses.dataclass
class _Source:
    beacon: bool
    offer: Optional[Offered] = None
    asked: Optional[bytes] = None


@dataclasses.dataclass
class _Penalty:
    seconds: float
    until: float


class Offers(Generic[Source]):
    """Sources are streams, each of a peer with a name; penalties are the peer's, and outlive its stream."""

    def __init__(self) -> None:
        self._sources: dict[Source, _Source] = {}
        self._penalties: dict[str, _Penalty] = {}
        self._avoided: dict[bytes, float] = {}
        self._names: dict[Source, str] = {}

    def open(self, source: Source, name: str, beacon: bool) -> None:
        self._sources[source], self._names[source] = _Source(beacon), name

    def close(self, source: Source, now: float) -> None:
        closed, name = self._sources.pop(source, None), self._names.pop(source, "")
        # With a few nodes that come again and again, nobody else would be asked.
        if closed and closed.asked and not closed.beacon and self._trusted(name, now):
            self.penalise(name, now)

    def offered(self, source: Source, offer: Offered) -> None:
        self._sources[source].offer = offer

    def finished(self, source: Source) -> None:
        """What this source was asked for has been dealt with."""
        if source in self._sources:
            self._sources[source].asked = None

    def avoid(self, sha256: bytes, until: float) -> None:
        """Do not ask for this map until then."""
        self._avoided.pop(sha256, None)
        self._avoided[sha256] = until
        while len(self._avoided) > MAX_AVOIDED:
            del self._avoided[next(iter(self._avoided))]

    def penalise(self, name: str, now: float) -> None:
        """This peer has offered what is no map of this network."""
        before = self._penalties.get(name)
        seconds = min(2 * before.seconds, LAST_PENALTY) if before else FIRST_PENALTY
        self._penalties[name] = _Penalty(seconds, now + seconds)

    def forgive(self, name: str) -> None:
        """This peer has brought a map that is good, or is another one than before."""
        self._penalties.pop(name, None)

    def next(self, version: int, now: float) -> Iterator[tuple[Source, Offered]]:
        """Whom to ask for which map, if ``version`` is in force (0: none). Each that is given counts as asked."""
        newer = [
            (key, source, source.offer)
            for key, source in self._sources.items()
            if source.offer is not None and source.offer.version > version and source.asked is None
        ]
        if not newer:
            return
        under_way = {source.asked for source in self._sources.values() if source.asked is not None}
        from_nodes = sum(source.asked is not None and not source.beacon for source in self._sources.values())
        # Beacons first.
        for key, source, offer in sorted(newer, key=lambda item: not item[1].beacon):
            avoided = self._avoided.get(offer.sha256, 0.0) > now
            if avoided or offer.sha256 in under_way or not self._trusted(self._names[key], now):
                continue
            if not source.beacon:
                if from_nodes >= MAX_FROM_NODES:
                    continue
                from_nodes += 1
            source.asked = offer.sha256
            under_way.add(offer.sha256)
            yield key, offer

    def _trusted(self, name: str, now: float) -> bool:
        penalty = self._penalties.get(name)
        return penalty is None or penalty.until <= now
