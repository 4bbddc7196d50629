# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that last as long as the agent does: forks of it that are started anew when they die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from typing import Callable, NoReturn

from ..log import logger

# Seconds.
FIRST_RETRY = 0.2
LAST_RETRY = 30.0


async def keep_alive(name: str, live: Callable[[], Awaitable[None]]) -> NoReturn:
    """Have the process live again and again, until cancelled: at once, and more slowly while it dies young.

    ``live`` starts it and returns when it has died; it may raise OSError when it cannot be started.
    """
    retry = FIRST_RETRY
    while True:
        started_at = time.monotonic()
        try:
            await live()
        except OSError as error:
            logger.error("cannot start %s: %s", name, error.strerror or error)
        if time.monotonic() - started_at > LAST_RETRY:
            retry = FIRST_RETRY
        logger.error("%s has ended; starting it again in %g s", name, retry)
        await asyncio.sleep(retry)
        retry = min(2 * retry, LAST_RETRY)


def let_go(descriptor: int) -> None:
    """In a fork of the running agent: hold nothing of the agent's but this descriptor and the standard ones.

    Were the agent killed, its tunnel device and its workers must not live on for the fork's sake.
    """
    # The parent's handlers would write into the socket pair that it shares with us.
    signal.set_wakeup_fd(-1)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
