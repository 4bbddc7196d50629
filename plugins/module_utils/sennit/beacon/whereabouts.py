# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where nodes are on the underlay, as far as a beacon knows, and what a node is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ..relay.offer import RelayOffer
from ..wireguard.events import Endpoint

# How a candidate is known. OBSERVED: the beacon's WireGuard hears the node there. RELAY_OBSERVED: its relay does.
# LOCAL: the node itself says so.
OBSERVED = 1
RELAY_OBSERVED = 2
LOCAL = 3
KINDS = frozenset((OBSERVED, RELAY_OBSERVED, LOCAL))

MAX_OWN_ADDRESSES = 16
MAX_CANDIDATES = 20


@dataclass(frozen=True)
class Candidate:
    """Where a node may be; ``kind`` is one of KINDS."""

    kind: int
    endpoint: Endpoint


@dataclass(frozen=True)
class Whereabouts:
    """Of one node; ``attached``: the beacon's relay can pass packets on to it now."""

    attached: bool
    candidates: tuple[Candidate, ...]

    def endpoint(self, kind: int) -> Optional[Endpoint]:
        """The first candidate's of this kind."""
        return next((candidate.endpoint for candidate in self.candidates if candidate.kind == kind), None)


@dataclass(frozen=True)
class Report:
    """What a beacon says: ``nodes`` by public key, the node that is told among them. ``rtt``: seconds."""

    relay: Optional[RelayOffer]
    nodes: Mapping[bytes, Whereabouts]
    rtt: Optional[float]
