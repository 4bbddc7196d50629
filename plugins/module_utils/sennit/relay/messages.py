# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent and the relay's process tell each other, over a Channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..wireguard.events import Path


@dataclass(frozen=True)
class Settings:
    """For the process, once. port: UDP; fwmark: of the underlay's packets; rate: bytes a second for each node;
    routes_path: where it keeps the routes of sessions.
    """

    private_key: bytes = field(repr=False)
    port: int
    fwmark: int
    rate: float
    routes_path: str


@dataclass(frozen=True)
class Serve:
    """For the process: serve exactly these nodes, by public key."""

    nodes: frozenset[bytes]


@dataclass(frozen=True)
class Resume:
    """For the process: begin again with those that were attached to the one before it."""

    paths: Mapping[bytes, Path]


@dataclass(frozen=True)
class Listening:
    """For the agent: it has the socket or, with a problem (a line for the user), has not and goes on trying."""

    problem: Optional[str]


@dataclass(frozen=True)
class Report:
    """For the agent: who has been attached, moved or, with None, detached; and what was counted since the start."""

    changes: Mapping[bytes, Optional[Path]]
    forwarded_packets: int
    forwarded_bytes: int
    drops: Mapping[str, int]
