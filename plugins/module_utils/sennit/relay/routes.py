# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where messages go that name their recipient by a receiver index only: to the node that made the index up.

A node makes one up for each of its sessions and tells it the other side in the handshake, which came through here. An
index counts only in messages of the node it was made up for: two pairs of nodes with the same one do not meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ..wireguard.constants import REJECT_AFTER_TIME

EXPIRE_AFTER = REJECT_AFTER_TIME + 60
"""Seconds without a message: no keypair is as old as that."""
MOST_OF_A_NODE = 4096
MOST = 65536

_Key = tuple[bytes, int]


class Route(NamedTuple):
    """What the node ``other`` sends to this receiver index goes to ``owner``; both are public keys."""

    owner: bytes
    other: bytes
    receiver: int


class Routes:
    """Bounded. Nodes are named by their public keys. Whoever makes up too many indices loses its own oldest."""

    def __init__(self) -> None:
        self.change = 0
        """Another number whenever there are other routes."""
        self._owners: dict[_Key, bytes] = {}
        # Of each node that made indices up: when each was last used, the one that was not for longest first.
        self._used: dict[bytes, OrderedDict[_Key, float]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[Route]:
        return (Route(owner, other, index) for (other, index), owner in self._owners.items())

    def claim(self, owner: bytes, other: bytes, index: int, now: float) -> bool:
        """Have what ``other`` sends to this index go to ``owner``, who made it up.

        False when it goes to somebody else already: nobody can take another's messages.
        """
        key = other, index
        before = self._owners.get(key)
        if before not in (None, owner):
            return False
        if before is None:
            self.change += 1
        used = self._used.setdefault(owner, OrderedDict())
        used[key] = now
        used.move_to_end(key)
        self._owners[key] = owner
        if len(used) > MOST_OF_A_NODE:
            self._drop_oldest(owner)
        if len(self._owners) > MOST:
            self._drop_oldest(max(self._used, key=lambda node: len(self._used[node])))
        return True

    def find(self, source: bytes, index: int, now: float) -> Optional[bytes]:
        """Who gets what this node sends to the index."""
        key = source, index
        owner = self._owners.get(key)
        if owner is not None:
            used = self._used[owner]
            used[key] = now
            used.move_to_end(key)
        return owner

    def forget(self, node: bytes) -> None:
        """Neither to it nor from it."""
        for key in [key for key, owner in self._owners.items() if node in (owner, key[0])]:
            self._drop(self._owners[key], key)

    def expire(self, now: float) -> None:
        """Forget those that were not used for EXPIRE_AFTER."""
        for owner in list(self._used):
            used = self._used.get(owner)
            while used and now - next(iter(used.values())) >= EXPIRE_AFTER:
                self._drop_oldest(owner)

    def _drop_oldest(self, owner: bytes) -> None:
        self._drop(owner, next(iter(self._used[owner])))

    def _drop(self, owner: bytes, key: _Key) -> None:
        self.change += 1
        del self._owners[key]
        used = self._used[owner]
        del used[key]
        if not used:
            del self._used[owner]
