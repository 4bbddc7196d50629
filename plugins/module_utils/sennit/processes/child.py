# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running one function in a short-lived child process.

What is needed seldom and costs much to keep (pyroute2's 12 MB) or may block for long (getaddrinfo) runs in a fork
that ends with its answer. The agent has no threads, which is what makes a fork without exec safe here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import traceback
from typing import Any, Callable, NoReturn

from ..waiting import within
from .lasting import let_go


class ChildError(Exception):
    """The function raised, or the child ended without an answer."""


async def run(function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """What ``function(*arguments)`` returned in a child; it must be JSON.

    Raises ChildError, also when there is no answer within ``timeout`` seconds; the child is gone on return.
    """
    loop = asyncio.get_running_loop()
    child = _Child(function, arguments)
    finished: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if child.read_some() and not finished.done():
            finished.set_result(None)

    loop.add_reader(child.pipe, readable)
    try:
        await within(timeout, finished)
    except asyncio.TimeoutError as error:
        raise ChildError(f"no answer within {timeout:g} s") from error
    finally:
        loop.remove_reader(child.pipe)
        child.end()
    return child.answer()


class _Child:
    """The process and the parent's end of the pipe that brings its answer."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.pipe, answer_end = os.pipe()
        self._received = bytearray()
        try:
            self._pid = os.fork()
        except OSError as error:
            os.close(self.pipe)
            os.close(answer_end)
            raise ChildError(f"cannot start a process: {error.strerror}") from error
        if self._pid == 0:
            _work(function, arguments, answer_end)
        os.close(answer_end)

    def read_some(self) -> bool:
        """Take what has come; True when that was the end."""
        chunk = os.read(self.pipe, 65536)
        self._received += chunk
        return not chunk

    def end(self) -> None:
        """End the process, if it has not ended by itself, and collect it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.pipe)

    def answer(self) -> Any:
        try:
            answer = json.loads(self._received)
        except ValueError as error:
            raise ChildError("the process ended without an answer") from error
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer["result"]


def _work(function: Callable[..., Any], arguments: tuple[Any, ...], answer_end: int) -> NoReturn:
    """The child's whole life."""
    try:
        let_go(answer_end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = {"result": function(*arguments)}
        except Exception as error:  # the parent turns it into ChildError
            if not isinstance(error, OSError):
                traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(BrokenPipeError), open(answer_end, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
    finally:
        # Nothing of the parent's may be flushed or finalised a second time.
        os._exit(0)
