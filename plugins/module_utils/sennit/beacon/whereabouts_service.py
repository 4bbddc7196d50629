# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where nodes are, over all streams of one: it tells its beacons where it is itself, and they tell it where the others
are. If it is a beacon, it tells its clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Callable, Optional, Union

from ..netmap.model import KIND_NODE
from ..netmap.view import View
from ..relay.offer import RelayOffer
from ..wireguard.events import Endpoint
from .messages import BeaconProtocolError, Nodes, Place, Relay
from .registry import Registry
from .stream import Stream
from .told import Told
from .whereabouts import MAX_OWN_ADDRESSES, Report, Whereabouts

# Seconds for which changes are gathered before they are told, to the clients of a beacon or to who uses the reports.
GATHER_TIME = 0.25


class WhereaboutsService:
    """Of the node with this public key."""

    def __init__(self, public_key: bytes) -> None:
        self.registry = Registry()
        """What this node knows as a beacon."""
        self.moved: Callable[[], None] = lambda: None
        """Called when the reports have changed."""
        self._public_key = public_key
        self._view: Optional[View] = None
        self._known: frozenset[bytes] = frozenset()
        self._told: dict[Stream, Told] = {}
        """By each beacon to which there is a stream."""
        self._served: set[Stream] = set()
        self._place = Place(())
        self._relay = Relay(None)
        self._passing_on = _Gathering(self._pass_on)
        self._moving = _Gathering(self._move)

    def use(self, view: Optional[View]) -> None:
        """There is another view."""
        self._view = view
        nodes = [peer.public_key for peer in (view.peers if view else ()) if peer.kind == KIND_NODE]
        self._known = frozenset([*nodes, self._public_key])
        for told in self._told.values():
            told.use(self._known)
        self.registry.use(self._known if view and view.beacon is not None else ())
        self._declare(self._public_key, self._place)
        self._moving.soon()

    def close(self) -> None:
        self._passing_on.close()
        self._moving.close()

    # --- streams

    def open_to_beacon(self, stream: Stream) -> None:
        self._told[stream] = Told(self._known)
        stream.tell(self._place)

    def open_to_client(self, stream: Stream) -> None:
        self._served.add(stream)
        if self._relay.offer:
            stream.tell(self._relay)

    def closed(self, stream: Stream) -> None:
        """It is over."""
        self._served.discard(stream)
        if self._told.pop(stream, None):
            self._moving.soon()

    def heard(self, stream: Stream, event: Union[Place, Nodes, Relay]) -> None:
        """Raises BeaconProtocolError."""
        if isinstance(event, Place):
            self._declare(stream.peer.public_key, event)
            return
        told = self._told[stream]
        if isinstance(event, Nodes):
            told.hear(event)
        else:
            # The datapath has one peer for each key, and this would be in a node's place.
            if event.offer and event.offer.public_key in self._known:
                raise BeaconProtocolError("a relay with the public key of a node")
            told.relay = event.offer
        self._moving.soon()

    # --- what there is to say

    def announce(self, addresses: tuple[Endpoint, ...]) -> None:
        """Tell the beacons that this node is at these endpoints: the first MAX_OWN_ADDRESSES of them."""
        place = Place(addresses[:MAX_OWN_ADDRESSES])
        if place != self._place:
            self._place = place
            for stream in self._told:
                stream.tell(place)
            self._declare(self._public_key, place)

    def observe(
        self, observed: Mapping[bytes, Endpoint], attached: Mapping[bytes, Endpoint], relay: Optional[RelayOffer]
    ) -> None:
        """This node is a beacon: its WireGuard hears these nodes there now, its relay those; by public key."""
        change = self.registry.change
        self.registry.observe(observed, attached, time.time())
        self._pass_on_since(change)
        if Relay(relay) != self._relay:
            self._relay = Relay(relay)
            for stream in self._served:
                stream.tell(self._relay)

    def keep_house(self) -> None:
        """From time to time: what is known of clients that are there does not age, and what is too old is forgotten."""
        here = [stream.peer.public_key for stream in self._served]
        change = self.registry.change
        self.registry.confirm([*here, self._public_key], time.time())
        self.registry.expire(time.time())
        self._pass_on_since(change)

    def _declare(self, public_key: bytes, place: Place) -> None:
        change = self.registry.change
        self.registry.declare(public_key, place.endpoints, time.time())
        self._pass_on_since(change)

    def _pass_on_since(self, change: int) -> None:
        if self.registry.change != change:
            self._passing_on.soon()

    def _pass_on(self) -> None:
        for stream in self._served:
            stream.look()
        self._moving.soon()

    def _move(self) -> None:
        self.moved()

    # --- what is known

    @property
    def reports(self) -> dict[str, Report]:
        """What each beacon says to which there is a stream, by its name. If this node is a beacon, its own is there
        too, without a relay and an RTT.
        """
        reports = {
            stream.peer.name: Report(told.relay, told.nodes, stream.exchange.rtt) for stream, told in self._told.items()
        }
        if self._view and self._view.beacon is not None:
            reports[self._view.name] = Report(None, self.registry.whereabouts(), None)
        return reports

    def own(self, stream: Stream) -> Optional[Whereabouts]:
        """How this node looks to the beacon at the other end."""
        told = self._told.get(stream)
        return told.of(self._public_key) if told else None


class _Gathering:
    """Calls ``do`` soon(), but once for all that comes within GATHER_TIME."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._waiting: Optional[asyncio.TimerHandle] = None
        self._closed = False

    def soon(self) -> None:
        if self._waiting is None and not self._closed:
            self._waiting = asyncio.get_running_loop().call_later(GATHER_TIME, self._now)

    def close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _now(self) -> None:
        self._waiting = None
        self._do()
