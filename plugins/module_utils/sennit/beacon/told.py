# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one beacon has said of where nodes are, at the node that it has told. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from ..relay.offer import RelayOffer
from .messages import Nodes
from .whereabouts import Whereabouts

# Nodes that are in no map here: a beacon may have a newer map, which is still on its way.
MAX_STRANGERS = 4096


class Told:
    """Since the stream was opened. ``known``: the public keys of all nodes of the map, this one among them."""

    def __init__(self, known: Collection[bytes]) -> None:
        self.relay: Optional[RelayOffer] = None
        self._known = known
        self._nodes: dict[bytes, Whereabouts] = {}
        self._strangers: dict[bytes, Whereabouts] = {}

    def use(self, known: Collection[bytes]) -> None:
        """There is another map."""
        self._known = known
        if self.relay and self.relay.public_key in known:
            self.relay = None
        both = {**self._strangers, **self._nodes}
        self._nodes, self._strangers = {}, {}
        self._hear(both.items())

    def hear(self, message: Nodes) -> None:
        """Never holds more than the nodes of the map, and MAX_STRANGERS."""
        self._hear(message.entries)

    def of(self, public_key: bytes) -> Optional[Whereabouts]:
        return self._nodes.get(public_key)

    @property
    def nodes(self) -> dict[bytes, Whereabouts]:
        """Those of the map, by public key."""
        return dict(self._nodes)

    def _hear(self, entries: Collection[tuple[bytes, Whereabouts]]) -> None:
        for key, whereabouts in entries:
            if key in self._known:
                self._nodes[key] = whereabouts
                continue
            self._strangers.pop(key, None)
            self._strangers[key] = whereabouts
            if len(self._strangers) > MAX_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
