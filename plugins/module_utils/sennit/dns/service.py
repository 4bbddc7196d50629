# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The resolver's process: the stub, its sockets, and what the agent asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from .listener import Listener, ListenError, NoSuchFamilyError
from .message import DNSPYTHON_IMPORT_ERROR
from .process import CONFIGURE, LISTENING, PROBLEMS, QUERY, receive, send
from .settings import Settings
from .stub import Stub

LISTEN_RETRY = 2.0
REVIEW_INTERVAL = 1.0
"""Seconds between two looks for loops to tell of."""


async def serve(channel: socket.socket) -> None:
    """Until the agent is gone. Raises ImportError where dnspython cannot be imported."""
    if DNSPYTHON_IMPORT_ERROR is not None:
        raise DNSPYTHON_IMPORT_ERROR
    await _Service(*await asyncio.open_connection(sock=channel)).run()


class _Service:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stub = Stub()
        self._listeners: dict[str, Listener] = {}
        self._wanted: tuple[str, ...] = ()
        self._failed: dict[str, str] = {}
        self._told: list[str] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._listening = asyncio.Lock()

    async def run(self) -> None:
        review = asyncio.ensure_future(self._review())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, method, argument = await receive(self._reader)
                # The order of settings is kept; a question to nameservers holds up nobody.
                if method == QUERY:
                    task = asyncio.ensure_future(self._query(number, *argument))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    continue
                if method == CONFIGURE:
                    await self._configure(argument)
                    await send(self._writer, number, "", None)
                else:
                    await send(self._writer, number, "", self._stub.status())
        review.cancel()
        for listener in self._listeners.values():
            await listener.close()

    async def _configure(self, settings: Settings) -> None:
        self._stub.configure(settings)
        self._wanted = settings.view.stub
        async with self._listening:
            await self._listen()

    async def _listen(self) -> None:
        for address in self._listeners.keys() - set(self._wanted):
            await self._listeners.pop(address).close()
        self._failed = {}
        for address in self._wanted:
            if address in self._listeners:
                continue
            listener = Listener(self._stub)
            try:
                await listener.open(address)
            except ListenError as error:
                await listener.close()
                if not isinstance(error, NoSuchFamilyError):
                    self._failed[address] = str(error)
            else:
                self._listeners[address] = listener
        await self._tell()
        await send(self._writer, 0, LISTENING, tuple(self._listeners))

    async def _tell(self) -> None:
        problems = [*self._failed.values(), *self._stub.forwarder.loops()]
        if problems != self._told:
            self._told = problems
            await send(self._writer, 0, PROBLEMS, problems)

    async def _review(self) -> None:
        """Tell of loops when they are found, and try again to listen where that failed."""
        rounds = 0
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(REVIEW_INTERVAL)
                rounds += 1
                if self._failed and rounds * REVIEW_INTERVAL % LISTEN_RETRY == 0:
                    async with self._listening:
                        await self._listen()
                await self._tell()

    async def _query(self, number: int, name: str, type_name: str) -> None:
        error, result = "", None
        try:
            result = await self._stub.explain(name, type_name)
        except ValueError as problem:
            error = str(problem)
        with contextlib.suppress(ConnectionError):
            await send(self._writer, number, error, result)
