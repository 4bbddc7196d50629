# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks that go on for as long as the agent does, so that nobody would see how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .log import logger

Result = TypeVar("Result")


def begin(what: str, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """A task that does this work. Should it fail, the log says so at once, and calls it ``what``."""

    def tell(task: asyncio.Task[Result]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("%s has failed", what, exc_info=error)

    task = asyncio.ensure_future(work)
    task.add_done_callback(tell)
    return task
