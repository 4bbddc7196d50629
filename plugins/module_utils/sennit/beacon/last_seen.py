# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a beacon has last seen the nodes, over a restart: a node that has been silent meanwhile may still be there."""

from __future__ import annotations

import time
from typing import Optional

from ..log import logger
from ..state import StateError, WhereaboutsStore
from .registry import Registry

# Seconds. When nothing moves, only the times need to be kept.
_UNCHANGED_INTERVAL = 3600.0


class LastSeen:
    """Keeps what the registry knows on file. Without the file, or a disk that takes it, all goes on from memory."""

    def __init__(self, path: str, registry: Registry) -> None:
        self.problem: Optional[str] = None
        self._store = WhereaboutsStore(path)
        self._registry = registry
        self._kept_at = float("-inf")
        self._kept = 0

    def load(self) -> None:
        """Take up what another run knew."""
        try:
            self._store.remove_leftovers()
            self._registry.restore(self._store.load(), time.time())
        except StateError as error:
            logger.error("where nodes were is not known any more: %s", error)
        self._kept = self._registry.change

    def forget(self) -> None:
        """This node is no beacon any more: where others were is none of its business."""
        try:
            self._store.remove()
        except StateError as error:
            logger.error("where nodes were is still on file: %s", error)

    def keep(self, now: float = float("inf")) -> None:
        """Write down what is known, if it has changed or not been written for long; ``now`` is the caller's clock."""
        if self._registry.change == self._kept and now - self._kept_at < _UNCHANGED_INTERVAL:
            return
        try:
            self._store.keep(self._registry.sightings())
        except StateError as error:
            if self.problem is None:
                logger.error("where nodes are is kept in memory only: %s", error)
            self.problem = f"where nodes are is kept in memory only: {error}"
        else:
            self.problem = None
            self._kept, self._kept_at = self._registry.change, now
