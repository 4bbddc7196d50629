# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for something, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Optional, TypeVar

_T = TypeVar("_T")


async def within(seconds: Optional[float], awaitable: Awaitable[_T]) -> _T:
    """What the awaitable comes to. After so many seconds (None: never) cancel it and raise asyncio.TimeoutError.

    Before Python 3.12 asyncio.wait_for forgets a cancellation that comes when the result has just been there
    (https://github.com/python/cpython/issues/86296): a loop around it would then outlive its end. This one does not.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([task], timeout=seconds)
        too_late = not task.done() and task.cancel()
        if too_late:
            await asyncio.wait([task])
    except asyncio.CancelledError:
        if not task.cancel() and not task.cancelled():
            task.exception()  # nobody else is there to take it
        raise
    if too_late and task.cancelled():
        raise asyncio.TimeoutError
    return task.result()
