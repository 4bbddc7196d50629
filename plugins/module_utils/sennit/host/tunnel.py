# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tunnel's place on the host, kept as the view wants it: addresses, routes and rules."""

from __future__ import annotations

from typing import Any, Optional

from .. import child
from ..config import Config
from ..log import logger
from ..netmap.view import View, host_prefix
from .routes import Place, Wanted

# Seconds. A child that imports pyroute2 on a small, busy machine takes some.
TIMEOUT = 60.0


def _reconcile(place: Place, wanted: Wanted) -> dict[str, Any]:
    """netlink.reconcile(), for a child process: pyroute2 is imported only there."""
    from . import netlink  # noqa: PLC0415

    return netlink.reconcile(place, wanted)


def wanted_by(view: Optional[View]) -> Wanted:
    """What one node's view asks of its host; nothing without a view."""
    if view is None:
        return Wanted()
    return Wanted(
        addresses=tuple(host_prefix(address) for address in view.addresses),
        peer_addresses=tuple(host_prefix(address) for peer in view.peers for address in peer.addresses),
        subnet_routes=tuple(prefix for peer in view.peers for prefix in peer.routes),
    )


class Tunnel:
    """Changes the host, and remembers what came of it."""

    def __init__(self, config: Config) -> None:
        self._place = Place(config.interface, config.table, config.rule_priority, config.fwmark)
        self.failed: dict[str, str] = {}
        self._on_link: frozenset[str] = frozenset()

    def route_state(self, prefix: str) -> str:
        """What became of a wanted subnet route: "installed", "on-link" or "failed"."""
        if prefix in self.failed or self._place.interface in self.failed:
            return "failed"
        return "on-link" if prefix in self._on_link else "installed"

    async def reconcile(self, view: Optional[View]) -> None:
        """Make the host as the view wants it. What does not work is in ``failed``, and tried again at the next call."""
        try:
            result = await child.run(_reconcile, self._place, wanted_by(view), timeout=TIMEOUT)
        except child.ChildError as error:
            on_link, failed, changes = self._on_link, {self._place.interface: str(error)}, []
        else:
            on_link, failed, changes = frozenset(result["on_link"]), result["failed"], result["changes"]
        for change in changes:
            logger.info("%s: %s", self._place.interface, change)
        for prefix in sorted(on_link - self._on_link):
            logger.warning("%s is not routed into the mesh: this host is on-link with it", prefix)
        for what, reason in failed.items():
            if self.failed.get(what) != reason:
                logger.error("%s: %s: %s", self._place.interface, what, reason)
        self._on_link, self.failed = on_link, failed
