# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Following the network by itself: maps that nobody delivers, but that beacons push or that are at a URL.

A map that Ansible delivers is confirmed by Ansible. One that comes by itself has nobody to confirm it, and under a bad
one this node might never hear of a better. So a node that has a stream to a beacon takes such a map on trial, and keeps
it when a beacon answers under it; otherwise it goes back to what it had. It tries again later, less and less often, as
the fault may have been somebody else's. A beacon keeps what it gets: others come to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, Optional, Protocol

from .api import ApiError
from .beacon.beacons import NO_BEACON, Beacons, PostponedError
from .beacon.last_seen import LastSeen
from .beacon.url import Poll
from .config import Config
from .in_force import InForce, Proposal
from .log import logger
from .netmap.model import NetmapError
from .relay.process import Relay
from .sessions import live_sessions
from .tasks import begin
from .wireguard.events import Endpoint
from .wireguard.peer import PeerStatus

# Seconds. For a beacon to answer under a new map: a handshake may take 15, and a connection after it some.
TRIAL_SECONDS = 30.0
# Until a map is tried again under which none did; doubled each time.
FIRST_RETRY = 300.0
LAST_RETRY = 3600.0
# Until one is that came while something else was on trial.
BUSY_RETRY = 10.0


class Changes(Protocol):
    """What the daemon does for it."""

    def adopt_by_itself(self, proposal: Proposal, seconds: Optional[float]) -> Awaitable[Any]:
        """Put it into force, while the lock is held. Raises ApiError."""

    def confirm_by_itself(self, identity: str) -> Awaitable[None]:
        """Keep what is on trial; takes the lock. Raises ApiError."""


class Following:
    """One node's, with this public key. ``changing`` is held by whoever changes what is in force."""

    def __init__(
        self, config: Config, public_key: bytes, in_force: InForce, changing: asyncio.Lock, changes: Changes
    ) -> None:
        self._config = config
        self._in_force = in_force
        self._changing = changing
        self._changes = changes
        self.beacons = Beacons(config.interface, public_key, self.take)
        self._last_seen = LastSeen(config.whereabouts_path, self.beacons.whereabouts.registry)
        self._poll: Optional[Poll] = None
        self._fallen: Optional[Proposal] = None
        self._retry = FIRST_RETRY
        self._trying_again: Optional[asyncio.Future[None]] = None

    def load(self) -> None:
        """Take up what another run knew of other nodes."""
        self._last_seen.load()

    def start(self) -> None:
        if self._config.netmap_url:
            self._poll = Poll(self._config.netmap_url, self._take_from_url)

    async def close(self) -> None:
        if self._trying_again:
            self._trying_again.cancel()
            await asyncio.gather(self._trying_again, return_exceptions=True)
        if self._poll:
            await self._poll.close()
        await self.beacons.close()
        self._keep_last_seen()

    async def use(self) -> None:
        """What is in force, or kept, may have changed."""
        state = self._in_force.state
        version = state.netmap.version if state.netmap else 0
        await self.beacons.use(state.view, self._in_force.kept, version, self._in_force.former)

    def pass_on(self) -> None:
        """Offer the map that is kept to others, before this host has made all that follows from it."""
        self.beacons.offer(self._in_force.kept)

    def look_around(self) -> None:
        """The host's surroundings have changed."""
        self.beacons.probe()

    async def keep_house(self) -> None:
        """Try again what did not work."""
        self._in_force.save_again()
        await self.use()
        self.beacons.whereabouts.keep_house()
        self._keep_last_seen(time.monotonic())

    def observe(self, peers: Mapping[bytes, PeerStatus], relay: Relay, relay_endpoints: Collection[Endpoint]) -> None:
        """What the datapath says of the peers, and the relay of the nodes that are attached to it: this is a beacon's
        to tell others. ``relay_endpoints`` are those of other beacons' relays.
        """
        if not self._is_beacon:
            return
        sessions = live_sessions(peers, time.time()).items()
        # What comes by another beacon's relay says nothing of where its sender is.
        observed = {key: endpoint for key, endpoint in sessions if endpoint not in relay_endpoints}
        self.beacons.whereabouts.observe(observed, relay.attached, relay.offer)

    @property
    def _is_beacon(self) -> bool:
        view = self._in_force.state.view
        return view is not None and view.beacon is not None

    def _keep_last_seen(self, now: float = float("inf")) -> None:
        if self._is_beacon:
            self._last_seen.keep(now)
        elif self._in_force.state.view is not None:
            self._last_seen.forget()

    def status(self) -> dict[str, Any]:
        return {
            "beacons": self.beacons.status(),
            "beacon": self.beacons.service_status(),
            "netmap_url": self._poll.status() if self._poll else None,
        }

    def problems(self) -> list[str]:
        service = self.beacons.service_status()
        return [
            problem
            for problem in (
                service["problem"] if service else None,
                self._last_seen.problem if service else None,
                f"the netmap is kept in memory only: {self._in_force.unsaved}" if self._in_force.unsaved else None,
            )
            if problem
        ]

    async def take(self, signed: bytes, origin: str, again: bool = False) -> None:
        """Follow this map, from now on. Raises NetmapError, PostponedError."""
        async with self._changing:
            proposal = self._in_force.propose_netmap(signed, origin)
            if proposal.state is self._in_force.state:
                return
            seconds = self._trial_seconds(proposal, self.beacons.connected or again, origin)
            try:
                await self._changes.adopt_by_itself(proposal, seconds)
            except ApiError as error:
                raise PostponedError(error.message, BUSY_RETRY) from error
            trial = self._in_force.trial
        if seconds is None or trial is None:
            return
        if not await self._confirmed(trial.id, seconds):
            raise PostponedError("no beacon answered under it", self._try_again_later(proposal))
        self._retry = FIRST_RETRY

    def _trial_seconds(self, proposal: Proposal, connected: bool, origin: str) -> Optional[float]:
        """How long a beacon has to answer; None if there is none to wait for. Raises NetmapError no-beacon."""
        view = proposal.state.view
        if view is None or view.beacon is not None or not connected:
            return None
        if view.beacons:
            return TRIAL_SECONDS
        if self._config.netmap_url:
            return None
        what = f"{proposal.state.of(proposal.what)} from {origin}"
        raise NetmapError(NO_BEACON, f"{what} names no beacon: nothing would tell this host of a change any more")

    async def _confirmed(self, identity: str, seconds: float) -> bool:
        if not await self.beacons.answer_within(seconds):
            return False
        try:
            await self._changes.confirm_by_itself(identity)
        except ApiError as error:
            logger.error("%s", error)
            return False
        return True

    def _try_again_later(self, proposal: Proposal) -> float:
        """In how many seconds a beacon may offer this map anew. If there is none then, it is tried all the same."""
        if self._fallen is None or self._fallen.content != proposal.content:
            self._retry = FIRST_RETRY
        retry, self._retry = self._retry, min(2 * self._retry, LAST_RETRY)
        self._fallen = proposal
        if self._trying_again:
            self._trying_again.cancel()
        self._trying_again = begin("trying a netmap again", self._try_again(proposal, retry))
        return retry

    async def _try_again(self, proposal: Proposal, retry: float) -> None:
        await asyncio.sleep(retry)
        if self.beacons.connected:
            return
        self._trying_again = None
        try:
            await self.take(proposal.content, proposal.state.origin or "", again=True)
        except (NetmapError, PostponedError) as error:
            logger.warning("%s is not tried again: %s", proposal.state.of(proposal.what), error)

    async def _take_from_url(self, signed: bytes) -> None:
        try:
            await self.take(signed, "the netmap's URL")
        except PostponedError as error:
            raise OSError(str(error)) from error
