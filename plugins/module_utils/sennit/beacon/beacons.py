# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All streams of a node: those to its beacons and, if it is a beacon itself, those of the others to it.

They are equal: over each, the map that this node keeps is offered, and a newer one is taken. Beside maps, a node tells
its beacons where it is, and they tell it where the others are.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Callable, Optional, Union

from ..log import logger
from ..netmap.endpoint import join_endpoint
from ..netmap.model import KIND_NODE, NO_SUCH_NODE, OLDER, UNKNOWN_FORMAT, NetmapError
from ..netmap.view import PeerView, View
from ..relay.offer import RelayOffer
from ..tasks import begin
from ..waiting import within
from ..wireguard.events import Endpoint
from .client import Client
from .exchange import NEVER, Answered, Delivered, Event, Offered
from .former import NO_FORMER, Former
from .messages import BeaconProtocolError, Kept, Nodes, Place, Relay
from .offers import Offers
from .registry import Registry
from .server import Connection, Server
from .stream import Stream, StreamClosed
from .told import Told
from .whereabouts import MAX_OWN_ADDRESSES, OBSERVED, RELAY_OBSERVED, Report

# Seconds of silence after which a node asks its beacon whether it is there, and a beacon its client: nodes first.
CLIENT_INTERVAL = 15.0
SERVER_INTERVAL = 60.0

# Seconds for which changes are gathered before they are told, to the clients of a beacon or to who uses the reports.
GATHER_TIME = 0.25

# Why this host does not follow a map that others may well follow.
NO_BEACON = "no-beacon"
NOBODYS_FAULT = (NO_SUCH_NODE, UNKNOWN_FORMAT, NO_BEACON)


class PostponedError(Exception):
    """The map may be good, but not now. ``seconds``: for how long it is not to be offered again."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


Take = Callable[[bytes, str], Awaitable[None]]
"""Given a signed map and where it is from. Raises NetmapError, PostponedError."""


class Beacons:
    """``interface``: the tunnel's. ``public_key``: this node's. ``take``: what becomes of a map that was asked for."""

    def __init__(self, interface: str, public_key: bytes, take: Take) -> None:
        self._interface = interface
        self._public_key = public_key
        self._take = take
        self.registry = Registry()
        """What this node knows as a beacon."""
        self.moved: Callable[[], None] = lambda: None
        """Called when the reports have changed."""
        self._told: dict[Stream, Told] = {}
        self._known: frozenset[bytes] = frozenset()
        self._place = Place(())
        self._relay = Relay(None)
        self._passing_on = _Gathering(self._pass_on)
        self._moving = _Gathering(self._move)
        self._server = Server(interface, self._serve)
        self._clients: dict[str, Client] = {}
        self._served: dict[str, Stream] = {}
        self._streams: set[Stream] = set()
        self._offers: Offers[Stream] = Offers()
        self._refused: dict[str, dict[str, Any]] = {}
        self._view: Optional[View] = None
        self._kept: Optional[Kept] = None
        self._version = 0
        self._taking: set[asyncio.Future[None]] = set()
        self._answer = asyncio.Event()
        self._answered_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a stream to any beacon."""
        return any(client.stream for client in self._clients.values())

    async def use(self, view: Optional[View], kept: Optional[Kept], version: int, former: Former = NO_FORMER) -> None:
        """Have streams as this view says, and offer this map over each. ``version`` is that in force, 0 if none is;
        ``former``: what a beacon serves beside the view's addresses.
        """
        self._forget_others(view)
        self._view, self._version = view, version
        self._use_nodes(view)
        peers = {peer.name: peer for peer in (view.peers if view else ())}
        beacons = {peer.name: peer for peer in (view.beacons if view else ())}
        for name, client in list(self._clients.items()):
            if not _same_place(client.beacon, beacons.get(name)):
                await self._clients.pop(name).close()
        for stream in list(self._served.values()):
            if not _same_place(stream.peer, peers.get(stream.peer.name)):
                stream.close()
        await self._server.use(view, former)
        for name, peer in beacons.items():
            if name not in self._clients:
                self._clients[name] = Client(self._interface, peer, self._open_client, self._run)
        self.offer(kept)
        self._ask()

    def offer(self, kept: Optional[Kept]) -> None:
        """Offer this map over each stream."""
        self._kept = kept
        if kept is not None:
            for stream in self._streams:
                stream.keep(kept)

    def probe(self) -> None:
        """Find out now which beacons are there, as this host's surroundings have changed."""
        for client in self._clients.values():
            if client.stream:
                client.stream.ping()

    async def answer_within(self, seconds: float) -> bool:
        """Whether a beacon answers something that it is asked from now on."""
        asked_at = time.monotonic()
        self.probe()
        with contextlib.suppress(asyncio.TimeoutError):
            await within(seconds, self._wait_for_answer(asked_at))
        return self._answered_at >= asked_at

    def announce(self, addresses: tuple[Endpoint, ...]) -> None:
        """Tell the beacons that this node is at these endpoints: the first MAX_OWN_ADDRESSES of them."""
        place = Place(addresses[:MAX_OWN_ADDRESSES])
        if place != self._place:
            self._place = place
            for client in self._clients.values():
                if client.stream:
                    client.stream.tell(place)
            self._declare(self._public_key, place)

    def observe(
        self, observed: Mapping[bytes, Endpoint], attached: Mapping[bytes, Endpoint], relay: Optional[RelayOffer]
    ) -> None:
        """This node is a beacon: its WireGuard hears these nodes there now, its relay those; by public key."""
        change = self.registry.change
        self.registry.observe(observed, attached, time.time())
        if self.registry.change != change:
            self._passing_on.soon()
        if Relay(relay) != self._relay:
            self._relay = Relay(relay)
            for stream in self._served.values():
                stream.tell(self._relay)

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

    def keep_house(self) -> None:
        """From time to time: what is known of clients that are there does not age, and what is too old is forgotten."""
        here = [stream.peer.public_key for stream in self._served.values()]
        change = self.registry.change
        self.registry.confirm([*here, self._public_key], time.time())
        self.registry.expire(time.time())
        if self.registry.change != change:
            self._passing_on.soon()

    async def close(self) -> None:
        self._passing_on.close()
        self._moving.close()
        for taking in self._taking:
            taking.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        await self._server.close()

    def status(self) -> list[dict[str, Any]]:
        """Each beacon: name, connected since (seconds since the epoch, or None), the version of its map, problem; the
        RTT of its stream in seconds; as which endpoints it and its relay see this node, and whether the relay does.
        """
        return [self._client_status(client) for _name, client in sorted(self._clients.items())]

    def service_status(self) -> Optional[dict[str, Any]]:
        """This node's own service if it is a beacon: its TCP port, the clients' names, what it refused of whom."""
        if self._view is None or self._view.beacon is None:
            return None
        return {
            "port": self._view.beacon,
            "clients": sorted(self._served),
            "refused": {name: refused for name, refused in self._refused.items() if name not in self._clients},
            "problem": self._server.problem,
        }

    def _client_status(self, client: Client) -> dict[str, Any]:
        stream = client.stream
        told = self._told.get(stream) if stream else None
        own = told.of(self._public_key) if told else None
        seen = {"observed": OBSERVED, "by_relay": RELAY_OBSERVED}
        endpoints = {what: own.endpoint(kind) if own else None for what, kind in seen.items()}
        return {
            "name": client.beacon.name,
            "since": stream.opened_at if stream else None,
            "version": stream.version if stream else None,
            "refused": self._refused.get(client.beacon.name),
            "problem": client.problem,
            "rtt": stream.exchange.rtt if stream else None,
            "seen_as": {what: join_endpoint(*found) if found else None for what, found in endpoints.items()},
            "relay": own.attached if own else False,
        }

    # --- streams

    def _open_client(self, beacon: PeerView, connection: Connection) -> Stream:
        # So that a thousand nodes do not ask all at once.
        interval = CLIENT_INTERVAL * random.uniform(0.7, 1.0)  # noqa: S311 (to be spread, not to be secret)
        stream = Stream(beacon, connection, self._kept, interval, self._heard)
        self._told[stream] = Told(self._known)
        stream.tell(self._place)
        return stream

    async def _serve(self, peer: PeerView, connection: Connection) -> None:
        stream = Stream(peer, connection, self._kept, SERVER_INTERVAL, self._heard, registry=self.registry)
        if self._relay.offer:
            stream.tell(self._relay)
        before = self._served.get(peer.name)
        if before is not None:
            # It has come back; what it had is dead or a waste.
            before.close()
        self._served[peer.name] = stream
        try:
            await self._run(stream)
        except StreamClosed as closed:
            if closed.faulty:
                logger.warning("node %s: %s", peer.name, closed)
        finally:
            if self._served.get(peer.name) is stream:
                del self._served[peer.name]

    async def _run(self, stream: Stream) -> None:
        """Raises StreamClosed."""
        self._streams.add(stream)
        self._offers.open(stream, stream.peer.name, stream.peer.beacon is not None)
        if self._kept is not None:
            # What changed while the connection was being made.
            stream.keep(self._kept)
        try:
            await stream.run()
        except StreamClosed as closed:
            if closed.faulty:
                self._refuse(stream, "protocol", str(closed))
            raise
        finally:
            self._streams.discard(stream)
            self._offers.close(stream, time.monotonic())
            if self._told.pop(stream, None):
                self._moving.soon()
            # What it was asked for, another may have.
            self._ask()

    def _heard(self, stream: Stream, event: Event) -> None:
        if isinstance(event, Offered):
            stream.version = event.version
            self._offers.offered(stream, event)
            self._answered(stream, stream.exchange.opened_at)
            if event.version > self._version:
                self._ask()
        elif isinstance(event, Answered):
            self._answered(stream, event.asked_at)
            self._ask()
        elif isinstance(event, Delivered):
            taking = begin(f"taking the netmap of {stream.peer.name}", self._took(stream, event))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)
        elif isinstance(event, Place):
            self._declare(stream.peer.public_key, event)
        else:
            self._hear(self._told[stream], event)

    def _answered(self, stream: Stream, asked_at: float) -> None:
        if any(client.stream is stream for client in self._clients.values()):
            self._answered_at = max(self._answered_at, asked_at)
            self._answer.set()

    async def _wait_for_answer(self, asked_at: float) -> None:
        while self._answered_at < asked_at:
            self._answer.clear()
            await self._answer.wait()

    def _forget_others(self, view: Optional[View]) -> None:
        """A peer that is no more, or has another key by now, is not blamed for what it did."""
        keys = {peer.name: peer.public_key for peer in (view.peers if view else ())}
        for peer in self._view.peers if self._view else ():
            if keys.get(peer.name) != peer.public_key:
                self._refused.pop(peer.name, None)
                self._offers.forgive(peer.name)

    # --- whereabouts

    def _use_nodes(self, view: Optional[View]) -> None:
        nodes = [peer.public_key for peer in (view.peers if view else ()) if peer.kind == KIND_NODE]
        self._known = frozenset([*nodes, self._public_key])
        for told in self._told.values():
            told.use(self._known)
        self.registry.use(self._known if view and view.beacon is not None else ())
        self._declare(self._public_key, self._place)
        self._moving.soon()

    def _declare(self, public_key: bytes, place: Place) -> None:
        change = self.registry.change
        self.registry.declare(public_key, place.endpoints, time.time())
        if self.registry.change != change:
            self._passing_on.soon()

    def _pass_on(self) -> None:
        for stream in self._served.values():
            stream.look()
        self._moving.soon()

    def _move(self) -> None:
        self.moved()

    def _hear(self, told: Told, event: Union[Nodes, Relay]) -> None:
        """Raises BeaconProtocolError."""
        if isinstance(event, Nodes):
            told.hear(event)
        else:
            # The datapath has one peer for each key, and this would be in a node's place.
            if event.offer and event.offer.public_key in self._known:
                raise BeaconProtocolError("a relay with the public key of a node")
            told.relay = event.offer
        self._moving.soon()

    # --- maps

    def _ask(self) -> None:
        for stream, offer in self._offers.next(self._version, time.monotonic()):
            stream.ask(offer)

    async def _took(self, stream: Stream, event: Delivered) -> None:
        name = stream.peer.name
        kind = "node" if stream.peer.beacon is None else "beacon"
        try:
            await self._take(event.signed, f"{kind} {name}")
        except NetmapError as error:
            self._offers.avoid(event.offer.sha256, NEVER)
            # Another beacon's map may have come before this one, which was newer when it was asked for.
            overtaken = error.reason == OLDER and event.offer.version <= self._version
            if not overtaken:
                self._refuse(stream, error.reason, str(error), blamed=error.reason not in NOBODYS_FAULT)
        except PostponedError as error:
            logger.warning("netmap version %d from %s %s: %s", event.offer.version, kind, name, error)
            self._offers.avoid(event.offer.sha256, time.monotonic() + error.seconds)
        else:
            self._offers.avoid(event.offer.sha256, NEVER)
            self._offers.forgive(name)
        self._offers.finished(stream)
        self._ask()

    def _refuse(self, stream: Stream, reason: str, message: str, blamed: bool = True) -> None:
        name = stream.peer.name
        count = self._refused[name]["count"] + 1 if name in self._refused else 1
        self._refused[name] = {"count": count, "reason": reason, "message": message, "at": time.time()}
        if blamed:
            self._offers.penalise(name, time.monotonic())
        logger.error("refused what %s sends (%s): %s", name, reason, message)


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


def _same_place(before: PeerView, after: Optional[PeerView]) -> bool:
    """Whether a stream to a peer is still one to it."""
    return after is not None and (before.public_key, before.addresses, before.beacon) == (
        after.public_key,
        after.addresses,
        after.beacon,
    )
