# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's resolver, as the agent sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from ...config import Config
from ...log import logger
from ...processes import child
from .base import Found, Wanted
from .reconcile import place_of, reconcile, survey, undo

# Seconds: a few commands, each with a bound of its own.
TIMEOUT = 60.0


class HostResolver:
    """Changes the host, and remembers what came of it."""

    def __init__(self, config: Config) -> None:
        self._place = place_of(config)
        self.owner: Optional[str] = None
        self.found = Found()
        self.problem = ""
        self.set = False
        """Whether the host asks the stub."""
        self.watched: tuple[str, ...] = (self._place.path,)

    @property
    def path(self) -> str:
        return self._place.path

    async def survey(self, stub: Sequence[str]) -> None:
        """See who owns it and what it uses, besides our own `stub`."""
        await self._run(survey, stub)

    async def reconcile(self, wanted: Wanted, flush: bool) -> bool:
        """Make the host ask the stub, and forget earlier answers if `flush`. True when something had to be changed.

        What does not work is in ``problem``, and tried again at the next call.
        """
        changed = await self._run(reconcile, wanted, flush)
        self.set = not self.problem
        return changed

    async def undo(self) -> None:
        """As if we had never been there."""
        await self._run(undo)
        self.set = False

    async def _run(self, function: Any, *arguments: Any) -> bool:
        try:
            result = await child.run(function, self._place, *arguments, timeout=TIMEOUT)
        except child.ChildError as error:
            result = {"changes": [], "problem": str(error)}
        if "owner" in result:
            self.owner = result["owner"]
            self.found = Found(tuple(result["nameservers"]), tuple(result["search"]))
            self.watched = tuple(result["watched"])
        for change in result["changes"]:
            logger.info("resolver (%s): %s", self.owner, change)
        problem = result["problem"]
        if problem and problem != self.problem:
            logger.error("the host's resolver cannot be set: %s", problem)
        self.problem = problem
        return bool(result["changes"])
