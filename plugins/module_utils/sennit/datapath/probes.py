# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying other endpoints of a peer of the kernel's WireGuard, which has one at a time.

The peer is given the other endpoint for a moment, and an empty packet of its session is sent there. It authenticates
us, so a peer that gets it sends to where it came from; and when something comes from there, the kernel has the endpoint
by itself. Otherwise the old one is put back: what was sent meanwhile, for a fraction of a second, is lost.

While much comes by the old path, each packet of it takes the endpoint back to there, on both sides. Then the two have
to be brought to the new one more than once.
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
_MOST_TRIES = 12


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
        import asyncio  # noqa: PLC0415

        public_key, working = peer.public_key, peer.endpoint
        now: Optional[LivePeer] = peer
        try:
            for _try in range(_MOST_TRIES):
                before = now
                self._kernel.rouse(public_key, endpoint)
                tried = self._kernel.peer(public_key)
                await asyncio.sleep(_TRY)
                now = self._kernel.peer(public_key)
                if before is None or tried is None or now is None:
                    return False
                if now.endpoint != endpoint:
                    working = now.endpoint  # something came from there
                elif now.rx_bytes > tried.rx_bytes:
                    working = endpoint
                    return True
                elif tried.rx_bytes == before.rx_bytes:
                    return False
                # Otherwise something came just then: by which path cannot be told.
            return False
        finally:
            now = self._kernel.peer(public_key) if public_key in self._running else None
            if working is not None and now is not None and now.endpoint == endpoint != working:
                self._kernel.set_endpoint(public_key, working)


def _has_session(peer: LivePeer) -> bool:
    return peer.latest_handshake is not None and time.time() - peer.latest_handshake < REJECT_AFTER_TIME
