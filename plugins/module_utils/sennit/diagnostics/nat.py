# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kind of NAT a node is behind, by how its one UDP port looks from several destinations. Pure.

The mapping behaviours of RFC 4787, section 4.1, as far as they matter: one outside port for all destinations, which
others can be told; or another one for each, which nobody can know before (commonly called symmetric).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

NONE = "none"
INDEPENDENT = "endpoint-independent"
SYMMETRIC = "symmetric"
UNKNOWN = "unknown"

# By what a beacon hears a node: its WireGuard's port, or its relay's. Two destinations at one address.
WIREGUARD, RELAY = "wireguard", "relay"


@dataclasses.dataclass(frozen=True)
class Sighting:
    """How a node looks from a beacon: outside address and port."""

    beacon: str
    by: str
    address: str
    port: int


@dataclasses.dataclass(frozen=True)
class Nat:
    """kind: one of the above. reason: how that is known, or why it is not. outside: "address port" as seen."""

    kind: str
    reason: str
    outside: tuple[tuple[str, int], ...] = ()


def classify(sightings: Iterable[Sighting], own: Collection[str], port: int) -> Nat:
    """From sightings of one address family. ``own``: this host's addresses; ``port``: the one that it sends from."""
    seen = list(sightings)
    if not seen:
        return Nat(UNKNOWN, "no beacon says how this node looks from outside")
    outside = [sighting for sighting in seen if (sighting.address, sighting.port) not in {(each, port) for each in own}]
    if not outside:
        return Nat(NONE, f"seen at its own address and port by {_names(seen)}", _endpoints(seen))
    endpoints = _endpoints(outside)
    if len(endpoints) > 1:
        return Nat(SYMMETRIC, _how_it_varies(outside), endpoints)
    if len({sighting.beacon for sighting in outside}) > 1:
        return Nat(INDEPENDENT, f"one outside port for {_names(outside)}", endpoints)
    return Nat(
        UNKNOWN, f"behind a NAT; it takes a second beacon outside, beside {_names(outside)}, to tell which", endpoints
    )


def _how_it_varies(outside: list[Sighting]) -> str:
    for beacon in dict.fromkeys(sighting.beacon for sighting in outside):
        of_it = {(sighting.address, sighting.port) for sighting in outside if sighting.beacon == beacon}
        if len(of_it) > 1:
            return f"another outside port for each port of {beacon}"
    return f"another outside port for each of {_names(outside)}"


def _names(sightings: Iterable[Sighting]) -> str:
    names = list(dict.fromkeys(sighting.beacon for sighting in sightings))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _endpoints(sightings: Iterable[Sighting]) -> tuple[tuple[str, int], ...]:
    return tuple(dict.fromkeys((sighting.address, sighting.port) for sighting in sightings))
