# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A beacon's service: it listens at this node's own mesh addresses, for the nodes of the mesh and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable
from typing import Callable, Optional

from ..clients import Clients
from ..log import logger
from ..netmap.model import KIND_NODE
from ..netmap.view import PeerView, View
from .former import NO_FORMER, Former
from .stream import prepare

BACKLOG = 1024

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[PeerView, Connection], Awaitable[None]]


class Server:
    """``serve(peer, connection)`` is run for each connection of a node, which is ended when it returns."""

    def __init__(self, interface: str, serve: Serve) -> None:
        self._interface = interface
        self._serve = serve
        self._peers: dict[str, PeerView] = {}
        self._place: tuple[tuple[str, ...], Optional[int]] = ((), None)
        self._listening: list[asyncio.AbstractServer] = []
        self._clients = Clients()
        self.problem: Optional[str] = None
        """Why nobody is served at one of the addresses, for those who look for it."""

    async def use(self, view: Optional[View], former: Former = NO_FORMER) -> None:
        """Serve the nodes of this view, if this node is a beacon in it, also by former addresses of it and them. What
        does not work is tried again next time.
        """
        port = view.beacon if view else None
        peers = view.peers if view and port is not None else ()
        nodes = [peer for peer in peers if peer.kind == KIND_NODE]
        self._peers = {
            address: peer for peer in nodes for address in (*peer.addresses, *former.peers.get(peer.public_key, ()))
        }
        place = ((*view.addresses, *former.own) if view and port is not None else (), port)
        if place == self._place and self.problem is None:
            return
        await self._stop_listening()
        self._place = place
        problem = None
        for address in place[0]:
            try:
                self._listening.append(await self._listen(address, place[1] or 0))
            except OSError as error:
                problem = f"the beacon does not listen at {address}, TCP port {port}: {error.strerror or error}"
        if problem not in (None, self.problem):
            logger.error("%s", problem)
        self.problem = problem

    async def close(self) -> None:
        await self._stop_listening()
        await self._clients.close()

    async def _listen(self, address: str, port: int) -> asyncio.AbstractServer:
        listener = listening_socket(address, port, self._interface)
        return await asyncio.start_server(self._accept, sock=listener, backlog=BACKLOG)

    async def _stop_listening(self) -> None:
        for server in self._listening:
            server.close()
        self._listening.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._clients.served():
            try:
                address = (writer.get_extra_info("peername") or ("",))[0]
                peer = self._peers.get(address)
                # WireGuard lets a peer send from its own addresses and routes alone; from a route comes no node.
                if peer is not None:
                    await self._serve(peer, (reader, writer))
            finally:
                writer.transport.abort()


def listening_socket(address: str, port: int, interface: str) -> socket.socket:
    """A TCP socket for one mesh address. Raises OSError."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        prepare(listener, interface)
        # An agent that was killed leaves its connections for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        stack.pop_all()
    return listener
