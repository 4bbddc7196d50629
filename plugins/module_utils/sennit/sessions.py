# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sessions over a restart: an agent begins again with the peers that the one before it spoke with.

Those still have the old session and go on using it. By WireGuard's timers they need 15 s of silence to find out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from .datapath.base import Datapath, DatapathError
from .log import logger
from .state import SessionStore, StateError
from .wireguard.constants import REJECT_AFTER_TIME
from .wireguard.events import Endpoint
from .wireguard.peer import PeerStatus

# Seconds. For an agent that is killed: how often to look with whom there are sessions, and to write that down anew.
_LOOK_INTERVAL = 5.0
_WRITE_INTERVAL = 60.0


class Sessions:
    """Keeps them on file, and takes them up from there."""

    def __init__(self, path: str, datapath: Datapath) -> None:
        self._store = SessionStore(path)
        self._datapath = datapath
        self._kept: Mapping[bytes, Endpoint] = {}
        self._kept_at = float("-inf")

    def resume(self) -> None:
        """Begin with the peers of the last run, when these are configured."""
        try:
            self._kept = self._store.load(time.time())
        except StateError as error:
            logger.error("the sessions of the last run are not known: %s", error)
        self._datapath.resume(self._kept)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            self.keep(time.monotonic())

    def close(self) -> None:
        """The agent ends: it may be back soon."""
        with contextlib.suppress(DatapathError):  # perhaps it is that the interface is gone
            self.keep(float("inf"))

    def keep(self, now: float) -> None:
        """Write down what there is, unless the same was not long ago. Raises DatapathError."""
        current = live_sessions(self._datapath.status().peers, time.time())
        if current == self._kept and (not current or now - self._kept_at < _WRITE_INTERVAL):
            return
        try:
            self._store.keep(current, time.time())
        except StateError as error:
            logger.error("the next run will not know of the sessions: %s", error)
        self._kept, self._kept_at = current, now


def live_sessions(peers: Mapping[bytes, PeerStatus], now: float) -> dict[bytes, Endpoint]:
    """Where those peers are with which there is a session; now is the time of day."""
    return {
        public_key: peer.endpoint
        for public_key, peer in peers.items()
        if peer.endpoint and peer.latest_handshake is not None and now - peer.latest_handshake < REJECT_AFTER_TIME
    }
