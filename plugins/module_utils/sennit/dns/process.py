# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub resolver as the agent sees it: a process of its own, so that no flood of queries and no bug meets the mesh.

Only that process imports dnspython. It is a fork of the agent, which tells it what to do over a pair of sockets; it
ends when the agent does. Should it die, it is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pickle
import resource
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

from ..log import logger
from ..processes.lasting import keep_alive, let_go
from ..tasks import begin
from ..waiting import within
from .settings import Settings

REPLY_TIMEOUT = 10.0
MAX_FILES = 16384

_LENGTH = struct.Struct("=I")

CONFIGURE = "configure"
STATUS = "status"
QUERY = "query"
LISTENING = "listening"
PROBLEMS = "problems"


class StubError(Exception):
    """The resolver's process gives no answer, or refuses a question; the message is one line for the user."""


class StubQuestionError(StubError):
    """What was asked for is no name or no type."""


class StubResolver:
    """The handle. `problems` are lines for the user, `listening` the addresses where it answers; `changed` is called
    when one of them changes.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.problems: tuple[str, ...] = ()
        self.listening: tuple[str, ...] = ()
        self._changed = changed
        self._settings: Optional[Settings] = None
        self._process: Optional[_Process] = None
        self._life: Optional[asyncio.Future[NoReturn]] = None
        self._ready = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._process is not None

    async def start(self, settings: Settings) -> None:
        """Return when it answers at the addresses, or says in `problems` why not."""
        self._settings = settings
        if importlib.util.find_spec("dns") is None:
            self._tell(("names do not work: the Python library dnspython (python3-dnspython) is not installed",))
            return
        if self._life is None:
            self._ready.clear()
            self._life = begin("starting the resolver", keep_alive("the resolver", self._live))
        with contextlib.suppress(asyncio.TimeoutError):
            await within(REPLY_TIMEOUT, self._ready.wait())

    async def configure(self, settings: Settings) -> None:
        """Have other settings; those that are in use already cost nothing. Returns when they are in use."""
        if settings == self._settings and self._life is not None:
            return
        self._settings = settings
        if self._process is None:
            await self.start(settings)
            return
        await self._configure(self._process)

    async def status(self) -> dict[str, Any]:
        """{"stub": [addresses], "rules": [{"suffix", "nameservers": [{"address", "state", "rtt", "queries", "failures",
        "last_error"}]}], "queries": {what became of them: how many}, "loops": [lines]}. The suffix "" is the default's;
        rtt in seconds. Raises StubError.
        """
        result: dict[str, Any] = await self._call(STATUS, None)
        return result

    async def query(self, name: str, type_name: str) -> dict[str, Any]:
        """What became of one query: see Stub.explain. Raises StubError."""
        result: dict[str, Any] = await self._call(QUERY, (name, type_name))
        return result

    async def close(self) -> None:
        life, self._life, self._settings = self._life, None, None
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        self._tell(())

    async def _call(self, method: str, argument: Any) -> Any:
        if self._process is None:
            raise StubError("the resolver is not running")
        return await self._process.call(method, argument)

    async def _live(self) -> None:
        """One process's life; while there is none, names are not found. Raises OSError when it cannot be started."""
        process = _Process()
        self._process = process
        try:
            await process.open()
            configuring = asyncio.ensure_future(self._configure(process))
            try:
                await process.listen(self._heard)
            finally:
                configuring.cancel()
        finally:
            self._process = None
            process.end()
            self._listen(())

    async def _configure(self, process: _Process) -> None:
        with contextlib.suppress(StubError):  # it died: the next one gets the settings
            await process.call(CONFIGURE, self._settings)

    def _heard(self, what: str, value: Any) -> None:
        if what == LISTENING:
            self._ready.set()
            self._listen(tuple(value))
        elif what == PROBLEMS:
            self._tell(tuple(value))

    def _listen(self, addresses: tuple[str, ...]) -> None:
        if addresses != self.listening:
            self.listening = addresses
            if addresses:
                logger.info("names are answered at %s", ", ".join(addresses))
            self._changed()

    def _tell(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self.problems:
                logger.warning("%s", problem)
        if problems != self.problems:
            self.problems = problems
            self._changed()


class _Process:
    """The agent's side of one process."""

    def __init__(self) -> None:
        self._pid = 0
        self._writer: Optional[asyncio.StreamWriter] = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def open(self) -> None:
        """Start it. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            self._pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if self._pid == 0:
            _work(theirs)
        theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)

    async def listen(self, heard: Callable[[str, Any], None]) -> None:
        """Take what it says, until it ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, what, value = await receive(self._reader)
                if number == 0:
                    heard(what, value)
                    continue
                waiting = self._waiting.pop(number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result((what, value))

    async def call(self, method: str, argument: Any) -> Any:
        """Raises StubError."""
        if self._writer is None:
            raise StubError("the resolver is starting")
        self._number += 1
        number = self._number
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await send(self._writer, number, method, argument)
            error, value = await within(REPLY_TIMEOUT, waiting)
        except (ConnectionError, asyncio.TimeoutError) as problem:
            raise StubError("the resolver does not answer") from problem
        finally:
            self._waiting.pop(number, None)
        if error:
            raise StubQuestionError(error)
        return value

    def end(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(StubError("the resolver has ended"))
        if self._writer is not None:
            self._writer.transport.abort()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


async def send(writer: asyncio.StreamWriter, *values: Any) -> None:
    """One message to the other process. Raises ConnectionError."""
    message = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(message)) + message)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> Sequence[Any]:
    """The other process's next message. Raises IncompleteReadError or ConnectionError when it is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    values: Sequence[Any] = pickle.loads(await reader.readexactly(length))  # noqa: S301 (from our own fork)
    return values


def _work(channel: socket.socket) -> NoReturn:
    """The process's whole life."""
    status = 1
    try:
        let_go(channel.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write("sennit-dns")
        # A socket a question: hundreds in flight, each asked of several nameservers, are more than the usual 1024.
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_FILES), hard))

        from .service import serve  # noqa: PLC0415

        asyncio.run(serve(channel))
        status = 0
    except BaseException:
        logger.exception("the resolver failed")
    finally:
        # Nothing of the parent's may be flushed or finalised a second time.
        os._exit(status)
