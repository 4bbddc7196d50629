# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All streams of a node: those to its beacons and, if it is a beacon itself, those of the others to it.

They are equal: over each, the map that this node keeps is offered, and a newer one is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable
from typing import Any, Callable, Optional

from ..log import logger
from ..netmap.endpoint import join_endpoint
from ..netmap.model import NO_SUCH_NODE, OLDER, UNKNOWN_FORMAT, NetmapError
from ..netmap.view import PeerView, View
from ..tasks import begin
from ..waiting import within
from .client import Client
from .exchange import NEVER, Answered, Delivered, Event, Offered
from .former import NO_FORMER, Former
from .messages import Kept
from .offers import Offers
from .server import Connection, Server
from .stream import Stream, StreamClosed
from .whereabouts import OBSERVED, RELAY_OBSERVED
from .whereabouts_service import WhereaboutsService

# Seconds of silence after which a node asks its beacon whether it is there, and a beacon its client: nodes first.
CLIENT_INTERVAL = 15.0
SERVER_INTERVAL = 60.0

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
        self._take = take
        self.whereabouts = WhereaboutsService(public_key)
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
        self.whereabouts.use(view)
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

    async def close(self) -> None:
        self.whereabouts.close()
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
        own = self.whereabouts.own(stream) if stream else None
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
        self.whereabouts.open_to_beacon(stream)
        return stream

    async def _serve(self, peer: PeerView, connection: Connection) -> None:
        stream = Stream(peer, connection, self._kept, SERVER_INTERVAL, self._heard, registry=self.whereabouts.registry)
        self.whereabouts.open_to_client(stream)
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
            self.whereabouts.closed(stream)
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
        else:
            self.whereabouts.heard(stream, event)

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


def _same_place(before: PeerView, after: Optional[PeerView]) -> bool:
    """Whether a stream to a peer is still one to it."""
    return after is not None and (before.public_key, before.addresses, before.beacon) == (
        after.public_key,
        after.addresses,
        after.beacon,
    )
