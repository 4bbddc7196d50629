# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on a unix stream socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Callable, Optional

from .clients import Clients

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def bind(path: str) -> socket.socket:
    """A socket at ``path``, where there is none, that only its owner can use. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


class UnixServer:
    """Has ``converse`` talk to each client.

    Its end is the connection's, as are a ConnectionError and a TimeoutError: the client went away, or does not take its
    answer, and there is nobody to tell.
    """

    def __init__(self, converse: Converse) -> None:
        self._converse = converse
        self._server: Optional[asyncio.AbstractServer] = None
        self._clients = Clients()

    @property
    def clients(self) -> int:
        """How many there are now."""
        return len(self._clients)

    async def start(self, listener: socket.socket, limit: int) -> None:
        """``limit``: how many bytes a client's reader takes in advance."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=limit)

    async def close(self) -> None:
        """End all conversations. The socket's file stays."""
        if self._server is None:
            return
        self._server.close()
        await self._clients.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._clients.served():
            try:
                await self._converse(reader, writer)
            except (ConnectionError, asyncio.TimeoutError):
                pass
            finally:
                writer.close()
