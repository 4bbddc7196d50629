# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying other endpoints of a peer of the kernel's WireGuard, which has one at a time.

The peer is given the other endpoint for a moment, and an empty packet of its session is sent there. It authenticates
us, so a peer that gets it sends to where it came from; and when something comes from there, the kernel has the endpoint
by itself. Otherwise the old one is put back: what was sent meanwhile, for a fraction of a second, is lost.

While much comes by the old path, each packet of it takes the endpoint back to there, on both sides: what is under way
by either path reaches the other end, is answered by the same path, and so on. Then the endpoint is held, which is to
set it again and again: for moments at first, until it is seen there without having been set, since that is by a packet
from there; and from then on for as long as it takes until nothing is under way by the old path any more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional, Protocol

from ..wireguard.constants import REJECT_AFTER_TIME
from ..wireguard.events import Endpoint
from .wireguard_netlink import LivePeer

if TYPE_CHECKING:
    import asyncio

# Seconds that one try takes: for a packet there and one back. As long, the old endpoint is in use before the next.
_TRY = 0.1
# Seconds that it takes at most while much is under way, which waits in queues then.
_BUSY_TRY = 0.2
_MOST_TRIES = 12
# Seconds, and times that the endpoint is set at least, of the first hold; and how many times longer the next one is, up
# to the longest.
_HOLD = 0.01
_HOLD_SETS = 8
_LONGER = 4
_LONGEST = 64
# Holds that an endpoint from where nothing comes is worth.
_HOLDS_IN_VAIN = 2
# Seconds between two looks, or as many times as long as a look takes: reading a large mesh takes long.
_LOOK = 0.005
_LOOK_RESTS = 2


class Kernel(Protocol):
    """What is needed of the datapath."""

    def peer(self, public_key: bytes) -> Optional[LivePeer]: ...

    def set_endpoint(self, public_key: bytes, endpoint: Endpoint) -> None: ...

    def rouse(self, public_key: bytes, endpoint: Endpoint) -> None: ...


class Probes:
    """Those under way, at most one a peer. All methods are for the event loop's thread."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._running: dict[bytes, asyncio.Task[None]] = {}

    def start(self, public_key: bytes, endpoints: Sequence[Endpoint]) -> None:
        """Try these in turn until one works, instead of those that are being tried."""
        import asyncio  # noqa: PLC0415

        before = self._running.pop(public_key, None)
        if before is not None:
            before.cancel()
        probing = self._running[public_key] = asyncio.ensure_future(self._probe(public_key, tuple(endpoints), before))
        probing.add_done_callback(lambda done: self._ended(public_key, done))

    def end(self, public_key: bytes) -> None:
        """Try nothing more with this peer, and leave its endpoint as it is."""
        probing = self._running.pop(public_key, None)
        if probing is not None:
            probing.cancel()

    def close(self) -> None:
        for public_key in list(self._running):
            self.end(public_key)

    def _ended(self, public_key: bytes, probing: asyncio.Task[None]) -> None:
        if self._running.get(public_key) is probing:
            del self._running[public_key]
        if not probing.cancelled():
            probing.result()

    async def _probe(
        self, public_key: bytes, endpoints: Sequence[Endpoint], before: Optional[asyncio.Task[None]]
    ) -> None:
        import asyncio  # noqa: PLC0415

        if before is not None:
            await asyncio.wait({before})
        for number, endpoint in enumerate(endpoints):
            if number:
                await asyncio.sleep(_TRY)
            peer = self._kernel.peer(public_key)
            if peer is None or not _has_session(peer):
                return
            if peer.endpoint == endpoint:
                # So that it learns where we are.
                self._kernel.rouse(public_key, endpoint)
            elif await self._found(peer, endpoint):
                return

    async def _found(self, peer: LivePeer, endpoint: Endpoint) -> bool:
        """Whether the peer is at this endpoint, which it has from then on."""
        public_key, working, before = peer.public_key, peer.endpoint, peer
        answers = False
        holds = 0
        try:
            for _try in range(_MOST_TRIES):
                self._kernel.rouse(public_key, endpoint)
                if holds:
                    await self._hold(public_key, endpoint, min(_LONGER ** (holds - 1), _LONGEST))
                looks = await self._watch(public_key, endpoint, _BUSY_TRY if holds and not answers else _TRY)
                if looks is None:
                    return False
                elsewhere = [look for look in looks if look.endpoint != endpoint]
                if elsewhere:
                    working = elsewhere[-1].endpoint  # something came from there
                    answers = answers or _came_back(looks, endpoint)
                    if holds == _HOLDS_IN_VAIN and not answers:
                        return False
                    holds += 1
                elif answers or looks[-1].rx_bytes > looks[0].rx_bytes:
                    working = endpoint
                    return True
                elif looks[0].rx_bytes == before.rx_bytes:
                    return False
                # Otherwise something came just then: by which path cannot be told.
                before = looks[-1]
            return False
        finally:
            now = self._kernel.peer(public_key) if public_key in self._running else None
            if working is not None and now is not None and now.endpoint == endpoint != working:
                if holds:
                    # It followed us there, and might have nothing else to follow us back by.
                    self._kernel.rouse(public_key, working)
                else:
                    self._kernel.set_endpoint(public_key, working)

    async def _hold(self, public_key: bytes, endpoint: Endpoint, length: int) -> None:
        """Have it there, whatever comes by another path meanwhile. ``length``: of first holds."""
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        end = loop.time() + length * _HOLD
        times = 0
        while times < length * _HOLD_SETS or loop.time() < end:
            self._kernel.set_endpoint(public_key, endpoint)
            times += 1
            await asyncio.sleep(0)

    async def _watch(self, public_key: bytes, endpoint: Endpoint, seconds: float) -> Optional[list[LivePeer]]:
        """What is seen of it meanwhile, or until it came back to the endpoint: two or more looks. None: it is gone."""
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        looks: list[LivePeer] = []
        end = loop.time() + seconds
        while True:
            began = loop.time()
            look = self._kernel.peer(public_key)
            if look is None:
                return None
            looks.append(look)
            now = loop.time()
            if (now >= end and len(looks) > 1) or _came_back(looks, endpoint):
                return looks
            await asyncio.sleep(max(_LOOK, _LOOK_RESTS * (now - began)))


def _came_back(looks: Sequence[LivePeer], endpoint: Endpoint) -> bool:
    """Whether it was seen at this endpoint, where nobody had set it, after it was elsewhere: it has sent from there."""
    return looks[-1].endpoint == endpoint and any(look.endpoint != endpoint for look in looks)


def _has_session(peer: LivePeer) -> bool:
    return peer.latest_handshake is not None and time.time() - peer.latest_handshake < REJECT_AFTER_TIME
