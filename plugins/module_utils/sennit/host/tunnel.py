# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tunnel's place on the host, kept as the view wants it: addresses, routes and rules."""

from __future__ import annotations

from typing import Any, Optional

from ..config import Config
from ..log import logger
from ..processes import child
from .routes import Place, Wanted
from .surroundings import EXIT_NODE_OTHER_VPN

# Seconds. A child that imports pyroute2 on a small, busy machine takes some.
TIMEOUT = 60.0

_DOWN = "somebody has set it down; the mesh waits until it is up (ip link set up)"


def _reconcile(place: Place, wanted: Wanted, may_raise: bool) -> dict[str, Any]:
    """netlink.reconcile(), for a child process: pyroute2 is imported only there."""
    from . import netlink  # noqa: PLC0415

    return netlink.reconcile(place, wanted, may_raise)


def _survey(place: Place, exit_endpoint: Optional[str]) -> dict[str, str]:
    from . import netlink  # noqa: PLC0415

    return netlink.survey(place, exit_endpoint)


class Tunnel:
    """Changes the host, and remembers what came of it."""

    def __init__(self, config: Config) -> None:
        self._place = Place(config.interface, config.table, config.rule_priority, config.fwmark)
        self.failed: dict[str, str] = {}
        self.notices: tuple[str, ...] = ()
        self.exit_node_refusal = ""
        """Why no exit node can be used on this host as it is now."""
        self.exit_node_loops = False
        """Whether what is given to the exit node would come back."""
        self.down = False
        """Whether somebody has set the link down since it was set up here, which is not undone."""
        self._raised = False
        self._on_link: frozenset[str] = frozenset()
        self._elsewhere: frozenset[str] = frozenset()

    def route_state(self, prefix: str) -> str:
        """What became of a wanted subnet route: "installed", "on-link", "elsewhere" (another's tunnel) or "failed"."""
        if prefix in self.failed or self._place.interface in self.failed:
            return "failed"
        if prefix in self._elsewhere:
            return "elsewhere"
        return "on-link" if prefix in self._on_link else "installed"

    async def survey(self, exit_endpoint: Optional[str]) -> tuple[str, str]:
        """Why no exit node can be used on this host, as code and message, or two empty strings. Raises ChildError."""
        result = await child.run(_survey, self._place, exit_endpoint, timeout=TIMEOUT)
        return result["code"], result["message"]

    async def reconcile(self, wanted: Wanted) -> None:
        """Make the host as wanted. What does not work is in ``failed``, and tried again at the next call."""
        try:
            result = await child.run(_reconcile, self._place, wanted, not self._raised, timeout=TIMEOUT)
        except child.ChildError as error:
            self._tell_failures({self._place.interface: str(error)})
            return
        for change in result["changes"]:
            logger.info("%s: %s", self._place.interface, change)
        on_link, elsewhere = frozenset(result["on_link"]), frozenset(result["elsewhere"])
        for prefix in sorted(on_link - self._on_link):
            logger.warning("%s is not routed into the mesh: this host is on-link with it", prefix)
        for prefix in sorted(elsewhere - self._elsewhere):
            logger.warning("%s is not routed into the mesh: another VPN's tunnel has it", prefix)
        for notice in result["notices"]:
            if notice not in self.notices:
                logger.warning("%s", notice)
        refusal = result["exit_node_refusal"]
        if refusal["message"] not in ("", self.exit_node_refusal):
            logger.error("the exit node cannot be used: %s", refusal["message"])
        elif self.exit_node_refusal and not refusal["message"]:
            logger.info("the exit node can be used again")
        self._on_link, self._elsewhere, self.notices = on_link, elsewhere, tuple(result["notices"])
        self.exit_node_refusal, self.exit_node_loops = refusal["message"], refusal["code"] == EXIT_NODE_OTHER_VPN
        self.down = result["down"]
        self._raised |= bool(wanted.addresses) and "link" not in result["failed"]
        self._tell_failures({self._place.interface: _DOWN} if self.down else result["failed"])

    def _tell_failures(self, failed: dict[str, str]) -> None:
        interface = self._place.interface
        for what, reason in failed.items():
            if self.failed.get(what) != reason:
                logger.error("%s: %s", interface if what == interface else f"{interface}: {what}", reason)
        self.failed = failed
