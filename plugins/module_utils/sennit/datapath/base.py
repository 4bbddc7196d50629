# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every datapath is to the agent, whether the protocol runs here or in the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

from ..wireguard.events import Endpoint, PeerConfig
from ..wireguard.peer import PeerStatus

KERNEL = "kernel"
USERSPACE = "userspace"


class DatapathError(Exception):
    """The datapath cannot start, or cannot go on. The message is one line for the log."""


class NameTakenError(DatapathError):
    """The interface's name belongs to somebody else's device. Another one has to be configured."""


class InterfaceGoneError(DatapathError):
    """Somebody has removed the interface."""


class NoKernelWireGuardError(DatapathError):
    """This kernel has no WireGuard."""


@dataclass(frozen=True)
class DatapathStatus:
    """name is KERNEL or USERSPACE; peers are by public key; drops are packets by the reason.

    In userspace the reasons are DropReason's values; the kernel knows those of its interface's counters only.
    core is the name of userspace's batch core ("native" or "python"), None in the kernel.
    """

    name: str
    listen_port: int
    peers: Mapping[bytes, PeerStatus]
    drops: Mapping[str, int]
    core: Optional[str] = None


class Datapath(Protocol):
    """One WireGuard interface. Not for use by several threads."""

    def start(self) -> None:
        """Make the interface and bind the port. Raises DatapathError, and then nothing is left."""

    def configure(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """Have exactly these peers. Those that stay keep their sessions, and their endpoints unless the configured one
        has changed. Raises ValueError for a malformed one.
        """

    async def follow(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """As configure(), which with thousands of peers would hold the event loop: this lets it turn meanwhile.

        When it returns all of it is in force, unless configure() or this was called again since.
        """

    def resume(self, endpoints: Mapping[bytes, Endpoint]) -> None:
        """Begin sessions with those of these peers that are configured: the last run had some with them."""

    def probe(self, public_key: bytes, endpoints: Sequence[Endpoint]) -> None:
        """Send the peer something at each of these endpoints, in this order, that it answers from there if it can.

        Where it answers from is its endpoint then; what else is sent goes on where it goes, or is soon back there.
        Without a session the kernel tries nobody: one initiation in five seconds is all that it sends, and where that
        goes is for move() to say. To be called from the event loop.
        """

    def move(self, public_key: bytes, endpoint: Endpoint) -> None:
        """Send to this endpoint from now on, until the peer is heard from another."""

    async def run(self) -> None:
        """Do what goes on by itself until cancelled. Raises DatapathError when the datapath cannot go on."""

    def status(self) -> DatapathStatus:
        """What there is now. Raises DatapathError when the interface is gone."""

    def keep_interface(self) -> Optional[int]:
        """Have close() leave the interface. Returns a descriptor that must be open somewhere for it to stay, if any."""

    def close(self) -> None:
        """Take the interface away. Nothing needs to be saved."""
