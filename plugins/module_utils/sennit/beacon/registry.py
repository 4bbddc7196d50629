# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a beacon knows of where nodes are. No I/O, and the clock is the caller's: seconds since the epoch.

Theory of operation. Every change of a node has a number, one more than the change before it, and the nodes are in the
order of their last change. So what is new to somebody who has all up to a number are the nodes at the end, each as it
is now: a reader, however slow, costs one number, and whoever has nothing has number 0.

A node speaks for itself alone: what it says goes in by the key of the stream that it came over.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ..wireguard.events import Endpoint
from .messages import MAX_NODES_BYTES, encode_entry, encode_nodes, is_reachable
from .whereabouts import LOCAL, MAX_OWN_ADDRESSES, OBSERVED, RELAY_OBSERVED, Candidate, Whereabouts

# Seconds for which it is worth trying where a node once was.
MAX_AGE = 7 * 86400.0
# Messages that are kept for the next who asks: after a change, thousands ask for the same.
_MAX_MESSAGES = 16


@dataclass(frozen=True)
class Sighting:
    """Where a node was, when that was last known to be so, and by what (OBSERVED, RELAY_OBSERVED or LOCAL)."""

    kind: int
    endpoint: Endpoint
    at: float


class _Node:
    def __init__(self) -> None:
        self.attached = False
        self.found: dict[int, tuple[tuple[Endpoint, ...], float]] = {}
        """By kind: where, and when that was last known to be so."""
        self.change = 0
        self.encoded = b""

    def whereabouts(self) -> Whereabouts:
        candidates = (Candidate(kind, endpoint) for kind in sorted(self.found) for endpoint in self.found[kind][0])
        return Whereabouts(self.attached, tuple(candidates))


class Registry:
    """Of the nodes that use() names."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, _Node] = {}
        self._known: frozenset[bytes] = frozenset()
        self._messages: dict[int, tuple[bytes, int]] = {}
        self.change = 0
        """The number of the last change."""

    def use(self, public_keys: Collection[bytes]) -> None:
        """These are the nodes; what is known of others is forgotten."""
        self._known = frozenset(public_keys)
        for key in self._nodes.keys() - self._known:
            del self._nodes[key]
        self._messages.clear()

    def observe(self, observed: Mapping[bytes, Endpoint], attached: Mapping[bytes, Endpoint], now: float) -> None:
        """Where WireGuard hears nodes now, and where the relay does. What is not in them any more was last there."""
        for key, endpoint in observed.items():
            self._found(key, OBSERVED, (endpoint,), now)
        for key, endpoint in attached.items():
            self._found(key, RELAY_OBSERVED, (endpoint,), now)
        for key in attached.keys() & self._known:
            self._nodes.setdefault(key, _Node())
        for key, node in [(key, node) for key, node in self._nodes.items() if node.attached != (key in attached)]:
            node.attached = not node.attached
            self._changed(key, node)

    def declare(self, public_key: bytes, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """Where this node says that it is: instead of all that it said before."""
        self._found(public_key, LOCAL, endpoints, now)

    def confirm(self, public_keys: Collection[bytes], now: float) -> None:
        """What these have declared is still so."""
        for key in public_keys:
            node = self._nodes.get(key)
            if node and LOCAL in node.found:
                node.found[LOCAL] = (node.found[LOCAL][0], now)

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        for key, node in list(self._nodes.items()):
            old = [kind for kind, (_endpoints, at) in node.found.items() if now - at > MAX_AGE]
            for kind in old:
                del node.found[kind]
            if old:
                self._changed(key, node)

    def whereabouts(self) -> dict[bytes, Whereabouts]:
        """All that is known, by public key."""
        return {key: node.whereabouts() for key, node in self._nodes.items()}

    def message_since(self, change: int) -> tuple[bytes, int]:
        """What is new to somebody who has all changes up to this one: the first message, of type Nodes, and up to which
        change it goes. Empty if there is nothing.
        """
        if change not in self._messages:
            if len(self._messages) >= _MAX_MESSAGES:
                self._messages.clear()
            self._messages[change] = self._message(change)
        return self._messages[change]

    # --- over a restart

    def sightings(self) -> Iterator[tuple[bytes, Sighting]]:
        """What is known of each, by public key."""
        for key, node in self._nodes.items():
            for kind, (endpoints, at) in node.found.items():
                for endpoint in endpoints:
                    yield key, Sighting(kind, endpoint, at)

    def restore(self, sightings: Collection[tuple[bytes, Sighting]], now: float) -> None:
        """Take up what another run knew, before use() is called."""
        self._known = frozenset(key for key, _sighting in sightings)
        of_kind: dict[tuple[bytes, int], list[Sighting]] = {}
        for key, sighting in sightings:
            of_kind.setdefault((key, sighting.kind), []).append(sighting)
        for (key, kind), found in of_kind.items():
            # A clock may have been wrong.
            at = min(now, *(sighting.at for sighting in found))
            self._found(key, kind, tuple(sighting.endpoint for sighting in found), at)
        self.expire(now)

    # ---

    def _found(self, key: bytes, kind: int, endpoints: tuple[Endpoint, ...], now: float) -> None:
        usable = tuple(filter(is_reachable, dict.fromkeys(endpoints)))[: MAX_OWN_ADDRESSES if kind == LOCAL else 1]
        if key not in self._known:
            return
        node = self._nodes.setdefault(key, _Node())
        before = node.found.get(kind, ((), now))[0]
        if usable:
            node.found[kind] = (usable, now)
        elif kind == LOCAL:
            node.found.pop(kind, None)
        else:
            return
        if usable != before or not node.change:
            self._changed(key, node)

    def _changed(self, key: bytes, node: _Node) -> None:
        self.change += 1
        node.change = self.change
        node.encoded = encode_entry(key, node.whereabouts())
        # To the end.
        self._nodes[key] = self._nodes.pop(key)
        self._messages.clear()

    def _message(self, change: int) -> tuple[bytes, int]:
        newer = list(itertools.takewhile(lambda node: node.change > change, reversed(self._nodes.values())))
        entries: list[bytes] = []
        size = 0
        while newer and size + len(newer[-1].encoded) <= MAX_NODES_BYTES:
            node = newer.pop()
            entries.append(node.encoded)
            size += len(node.encoded)
            change = node.change
        return (encode_nodes(entries) if entries else b""), change if newer else self.change
