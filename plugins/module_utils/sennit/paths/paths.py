# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plans of all peers, between what the datapath, the beacons and the host say and what the datapath is to do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from functools import partial
from itertools import zip_longest
from typing import Any, Callable, Optional, Protocol

from ..beacon.whereabouts import Report
from ..datapath.base import Datapath
from ..log import logger
from ..netmap.view import PeerView, View
from ..sessions import live_sessions
from ..waiting import within
from ..wireguard.events import Endpoint, PeerConfig
from ..wireguard.peer import PeerStatus
from .candidates import LAN, MAX_CANDIDATES, RELAY, Local, kind_of, ranked
from .local import LocalAddresses
from .plan import Move, Plan, Ways
from .relays import Relays

# Seconds between two looks, and the part of the time that they may take: a large mesh is looked at less often.
INTERVAL = 1.0
_SHARE = 0.01
# Datagrams that probes may send: so many at once, and so many a second.
_BURST = 256
_RATE = 512
_BUSY_INTERVAL = 0.05
# For how long after a change there may be more to see: an IPv6 address is used when nobody else has turned out to.
_UNSETTLED = 5.0
# Initiations without an answer after which a relay is asked at another address: 10 s after the first.
_UNANSWERED = 3
# Seconds in which a relay has told its beacon of a session, and the beacon this node.
_ATTACH_TIME = 10.0
# What the clock that counts suspended time may be ahead of before that was a suspend.
_SUSPEND = 2.0


class Whereabouts(Protocol):
    """What is needed of the beacons' streams."""

    @property
    def reports(self) -> Mapping[str, Report]: ...

    def announce(self, addresses: tuple[Endpoint, ...]) -> None: ...


class Paths:
    """For the node with this public key.

    ``stated``: where an endpoint of the netmap is, as far as known. ``relays_changed``: called when there are other
    ``relay_peers`` than before.
    """

    def __init__(
        self,
        datapath: Datapath,
        public_key: bytes,
        whereabouts: Whereabouts,
        *,
        stated: Callable[[Optional[str]], Optional[Endpoint]],
        relays_changed: Callable[[], None],
    ) -> None:
        self._datapath = datapath
        self._whereabouts = whereabouts
        self._stated = stated
        self._relays_changed = relays_changed
        self._relays = Relays(public_key)
        self._addresses = LocalAddresses()
        self._local = Local()
        self._looked_at_host = False
        self._port = 0
        self._view: Optional[View] = None
        self._plans: dict[bytes, Plan] = {}
        self._ways: dict[bytes, Ways] = {}
        self._known: dict[bytes, tuple[Any, ...]] = {}
        """What the ways of each peer were made of."""
        self._reached: dict[str, str] = {}
        """The address at which each beacon was last heard directly, by name."""
        self._waiting: dict[bytes, tuple[Endpoint, ...]] = {}
        self._asked_elsewhere: dict[bytes, int] = {}
        """Initiations to each relay without an answer, but at another address than now."""
        self._denied: dict[bytes, float] = {}
        """The session with each relay that its beacon did not know of, by the time of its handshake."""
        self._budget = float(_BURST)
        self._budget_at = 0.0
        self._suspended = _suspended()
        self._changed_at = time.monotonic()
        self._awake = asyncio.Event()
        self.relay_peers: dict[bytes, PeerConfig] = {}
        """The relays, as peers that the datapath must have beside those of the view."""

    # --- what may have changed

    def use(self, view: Optional[View]) -> None:
        """There is another view."""
        self._view = view
        self.look_again()

    def look_again(self) -> None:
        """What beacons say of nodes has changed, or where the name of an endpoint leads."""
        peers = self._view.peers if self._view else ()
        reports = self._whereabouts.reports
        self._relays.use(reports, self._relay_addresses(reports), {peer.public_key for peer in peers})
        every_relay = self._relays.endpoints
        for peer in peers:
            self._renew_ways(peer, reports, every_relay)
        relays = self._relays.peers
        for key, config in relays.items():
            self._renew(key, (config.endpoint, self._local), partial(_only, config.endpoint, self._local))
        for key in self._plans.keys() - {peer.public_key for peer in peers} - relays.keys():
            del self._plans[key], self._ways[key], self._known[key]
            self._waiting.pop(key, None)
            self._asked_elsewhere.pop(key, None)
            self._denied.pop(key, None)
        if relays != self.relay_peers:
            self.relay_peers = relays
            self._relays_changed()
        self._awake.set()

    def host_changed(self) -> None:
        """The host's addresses may be others."""
        self._changed_at = time.monotonic()
        self._awake.set()

    def _look_at_host(self) -> None:
        try:
            found = self._addresses.look()
        except OSError as error:
            logger.error("cannot read this host's addresses: %s", error.strerror)
            return
        if found == self._local:
            return
        first, self._looked_at_host = not self._looked_at_host, True
        self._local = found
        self._announce()
        if not first:
            logger.info("this host has other addresses: %s", ", ".join(found.addresses) or "none")
            self._doubt()

    def _announce(self) -> None:
        self._whereabouts.announce(self._local.endpoints(self._port)[:MAX_CANDIDATES])
        self.look_again()

    def _doubt(self) -> None:
        for plan in self._plans.values():
            plan.doubt()
        self._awake.set()

    # --- what is told

    @property
    def relay_endpoints(self) -> frozenset[Endpoint]:
        """Where the relays of other beacons are, and were."""
        return self._relays.endpoints

    def path_of(self, public_key: bytes, endpoint: Optional[Endpoint]) -> Optional[dict[str, Optional[str]]]:
        """For the status: how packets go to a peer whose endpoint this is."""
        if endpoint is None or public_key not in self._plans:
            return None
        relay = self._relays.name_at(endpoint)
        return {"kind": RELAY if relay else kind_of(endpoint, self._local), "relay": relay}

    # --- what goes on by itself

    async def run(self) -> None:
        """Until cancelled. Raises DatapathError when there is no interface any more."""
        while True:
            began, worked = time.monotonic(), time.thread_time()
            self._awake.clear()
            suspended = _suspended()
            if suspended - self._suspended > _SUSPEND:
                logger.info("this host has been asleep")
                self.host_changed()
                self._doubt()
            self._suspended = suspended
            if began - self._changed_at < _UNSETTLED:
                self._look_at_host()
            self._look()
            pause = _BUSY_INTERVAL if self._waiting else max(INTERVAL, (time.thread_time() - worked) / _SHARE)
            await asyncio.sleep(min(_BUSY_INTERVAL, pause))
            with contextlib.suppress(asyncio.TimeoutError):
                await within(pause - _BUSY_INTERVAL, self._awake.wait())

    def close(self) -> None:
        self._addresses.close()

    def _look(self) -> None:
        status = self._datapath.status()
        if status.listen_port != self._port:
            self._port = status.listen_port
            self._announce()
        now, wall = time.monotonic(), time.time()
        self._see_beacons(live_sessions(status.peers, wall))
        self._see_relays(status.peers, wall)
        for key, plan in self._plans.items():
            seen = status.peers.get(key)
            if seen is None:
                continue
            for action in plan.look(now, wall, seen, self._ways[key]):
                if isinstance(action, Move):
                    self._datapath.move(key, action.endpoint)
                else:
                    self._waiting[key] = action.endpoints
        self._probe(now)

    def _probe(self, now: float) -> None:
        """Send what probes there are, but not more than the limit; the rest waits its turn."""
        self._budget = min(_BURST, self._budget + (now - self._budget_at) * _RATE)
        self._budget_at = now
        for key in list(self._waiting):
            if self._budget <= 0:
                return
            endpoints = self._waiting.pop(key)
            self._budget -= len(endpoints)
            self._datapath.probe(key, endpoints)

    # --- beacons, and the ways to a peer

    def _relay_addresses(self, reports: Mapping[str, Report]) -> dict[str, tuple[str, ...]]:
        """Where the relay of each beacon may be: first by the other family than the beacon itself is reached by."""
        found: dict[str, tuple[str, ...]] = {}
        pools = self._view.network.pools if self._view else ()
        for beacon in self._view.beacons if self._view else ():
            stated = self._stated(beacon.endpoint)
            address = self._reached.get(beacon.name) or (stated[0] if stated else None)
            if address is None:
                continue
            report = reports.get(beacon.name)
            told = report.nodes.get(beacon.public_key) if report else None
            candidates = told.candidates if told else ()
            others = [
                endpoint[0]
                for endpoint in ranked((each.endpoint for each in candidates), self._local, self._port, pools)
                if (":" in endpoint[0]) != (":" in address) and kind_of(endpoint, self._local) != LAN
            ]
            found[beacon.name] = (*others[:1], address)
        return found

    def _see_beacons(self, sessions: Mapping[bytes, Endpoint]) -> None:
        """Their relays are where they themselves are heard, which may be in the LAN; unless that is by a relay."""
        reached = dict(self._reached)
        for beacon in self._view.beacons if self._view else ():
            endpoint = sessions.get(beacon.public_key)
            if endpoint is not None and self._relays.name_at(endpoint) is None:
                reached[beacon.name] = endpoint[0]
        if reached != self._reached:
            self._reached = reached
            self.look_again()

    def _see_relays(self, peers: Mapping[bytes, PeerStatus], wall: float) -> None:
        """One that does not answer may at another address, and one that knows nothing of a session has lost it.

        This node has a session with it for two minutes more, and would say nothing meanwhile that has to be answered.
        """
        for key in self.relay_peers.keys() & peers.keys():
            seen = peers[key]
            session = wall if seen.latest_handshake is None else seen.latest_handshake
            if wall - session > _ATTACH_TIME and session != self._denied.get(key) and self._relays.denies(key):
                self._denied[key] = session
                self._plans[key].doubt()
            # Counted since the last answer, of which there may be none yet when the address is another already.
            before = min(self._asked_elsewhere.get(key, 0), seen.unanswered)
            self._asked_elsewhere[key] = before
            if seen.endpoint is None or seen.unanswered - before < _UNANSWERED:
                continue
            if self._relays.no_answer(key, seen.endpoint):
                self._asked_elsewhere[key] = seen.unanswered
                self.look_again()

    def _renew_ways(self, peer: PeerView, reports: Mapping[str, Report], every_relay: frozenset[Endpoint]) -> None:
        stated = self._stated(peer.endpoint)
        told = tuple(report.nodes.get(peer.public_key) for report in reports.values())
        relays = self._relays.between(peer.public_key)

        def ways() -> Ways:
            said = [[candidate.endpoint for candidate in each.candidates] for each in told if each]
            # In turn, so that no beacon has its own tried instead of what all others say.
            found = [each for turn in zip_longest([stated], *said) for each in turn if each]
            pools = self._view.network.pools if self._view else ()
            direct = ranked((each for each in found if each not in every_relay), self._local, self._port, pools)
            return Ways(direct, relays, stated, self._local, every_relay)

        self._renew(peer.public_key, (stated, told, relays, every_relay, self._local, self._port), ways)

    def _renew(self, key: bytes, known: tuple[Any, ...], ways: Callable[[], Ways]) -> None:
        """Make a peer's ways anew if what is known is not the same as before."""
        if self._known.get(key) == known:
            return
        self._known[key], self._ways[key] = known, ways()
        self._plans.setdefault(key, Plan())


def _only(endpoint: Optional[Endpoint], local: Local) -> Ways:
    """To a peer that is in one place."""
    return Ways((endpoint,) if endpoint else (), (), endpoint, local)


def _suspended() -> float:
    """For how many seconds this host has been asleep since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
