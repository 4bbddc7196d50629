# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket where `wg` finds an interface in userspace: /var/run/wireguard/INTERFACE.sock, for root alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from typing import Union

from ..datapath.base import DatapathError, DatapathStatus
from ..datapath.userspace import UserspaceDatapath
from ..log import logger
from ..unix_server import UnixServer, bind
from ..waiting import within
from ..wireguard.crypto import public_key_of
from .configuration import changed
from .messages import Get, Request, RequestReader, Set, UapiError, description, status

DIRECTORY = "/var/run/wireguard"

# Seconds that a client may take over one request, and over taking its answer.
TIMEOUT = 30.0
MAX_CLIENTS = 256
_CHUNK = 1 << 16


class UapiServer:
    """Answers for one interface. The datapath has been started, and runs while clients are served.

    ``fixed``: the interface's own values (key, port, mark) belong to somebody else, and to change them is refused.
    """

    def __init__(
        self,
        datapath: UserspaceDatapath,
        interface: str,
        *,
        fixed: bool = False,
        directory: str = DIRECTORY,
        timeout: float = TIMEOUT,
    ) -> None:
        self._datapath = datapath
        self._fixed = fixed
        self._directory = directory
        self._path = os.path.join(directory, f"{interface}.sock")
        self._timeout = timeout
        self._server = UnixServer(self._converse)
        self._one_at_a_time = asyncio.Lock()
        self._identity = (0, 0)
        """Of the socket's file."""

    async def start(self) -> None:
        """Listen; takes the place of a socket that nobody serves any more. Raises OSError: EADDRINUSE if one is."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        _clear(self._path)
        listener = bind(self._path)
        self._identity = _identity(self._path)
        await self._server.start(listener, _CHUNK)

    async def close(self) -> None:
        await self._server.close()
        if self._there():
            os.unlink(self._path)

    async def removed(self) -> None:
        """Until the socket's file is removed, by which an interface is told to go."""
        if not self._there():
            return
        loop = asyncio.get_running_loop()
        moved = asyncio.Event()
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # dnotify, unlike inotify, is to be had without ctypes. It tells by this signal.
        loop.add_signal_handler(signal.SIGIO, moved.set)
        try:
            fcntl.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
            while self._there():
                await moved.wait()
                moved.clear()
        finally:
            os.close(directory)
            loop.remove_signal_handler(signal.SIGIO)

    def _there(self) -> bool:
        try:
            return _identity(self._path) == self._identity
        except OSError:
            return False

    # --- clients

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server.clients > MAX_CLIENTS:
            await self._send(writer, status(UapiError(errno.EBUSY, "")))
            return
        try:
            async for request in self._requests(reader):
                await self._send(writer, await self._answer(request))
        except UapiError as error:
            logger.warning("a request of wg is refused, and its connection closed: %s", error)
            await self._send(writer, status(error))

    async def _requests(self, reader: asyncio.StreamReader) -> AsyncIterator[Union[Request, UapiError]]:
        """All of a client's. What is not complete when the client goes changes nothing. Raises UapiError."""
        requests = RequestReader()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while True:
            data = await within(deadline - loop.time(), reader.read(_CHUNK))
            if not data:
                return
            for request in requests.feed(data):
                yield request
                deadline = loop.time() + self._timeout
            # What a large request is read from has all come already: others have their turn in between.
            await asyncio.sleep(0)

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        await within(self._timeout, writer.drain())

    async def _answer(self, request: Union[Request, UapiError]) -> bytes:
        try:
            if isinstance(request, UapiError):
                raise request
            async with self._one_at_a_time:
                if isinstance(request, Get):
                    return await self._describe() + status()
                await self._set(request)
        except UapiError as error:
            logger.warning("a request of wg is refused: %s", error)
            return status(error)
        return status()

    async def _describe(self) -> bytes:
        live = await self._live()
        datapath = self._datapath
        return description(datapath.private_key, live.listen_port, datapath.fwmark, datapath.peers, live.peers)

    async def _live(self) -> DatapathStatus:
        try:
            return await self._datapath.exact_status()
        except DatapathError as error:
            raise UapiError(errno.ENODEV, str(error)) from error

    async def _set(self, change: Set) -> None:
        """Raises UapiError. The port can be in use, so it comes first; what is behind that does not fail."""
        datapath = self._datapath
        present = datapath.private_key, datapath.status().listen_port, datapath.fwmark
        private_key = present[0] if change.private_key is None else change.private_key
        listen_port = present[1] if change.listen_port is None else change.listen_port
        fwmark = present[2] if change.fwmark is None else change.fwmark
        if self._fixed and (private_key, listen_port, fwmark) != present:
            raise UapiError(errno.EPERM, "the agent's configuration says which key, port and mark the interface has")
        try:
            datapath.set_fwmark(fwmark)
            datapath.set_listen_port(listen_port)
        except DatapathError as error:
            cause = error.__cause__
            code = cause.errno if isinstance(cause, OSError) and cause.errno else errno.EIO
            raise UapiError(code, str(error)) from error
        datapath.set_private_key(private_key)
        kept, wanted = changed(datapath.peers, change, public_key_of(private_key))
        removed = datapath.peers.keys() - kept.keys()
        await datapath.follow(kept)
        if removed & wanted.keys():
            # What was counted of a peer up to now must not be told of the new one with its key.
            await self._live()
        await datapath.follow(wanted)


def _clear(path: str) -> None:
    """Remove a socket that nobody serves. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, f"{path} is there, and no socket")
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:  # so busy is somebody who serves it
            raise OSError(errno.EADDRINUSE, f"{path} is in use by another program") from None
        else:
            raise OSError(errno.EADDRINUSE, f"{path} is in use by another program")


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
