# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who the clients of a server are, and that none outlives it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Clients:
    """Those whom a server serves now, each in a task of its own. Their number is its length."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """While the current task, which asyncio has begun for a client, serves it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a client is served by a task")
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Only close() cancels, and waits for the end; asyncio's own callback would call it an error.
            pass
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """Serve none of them any longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
