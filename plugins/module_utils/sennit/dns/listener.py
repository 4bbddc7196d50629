# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the host's programs ask: UDP and TCP on port 53 of the stub's addresses, and from this host alone.

A host takes packets for any of its addresses on any of its interfaces. So a peer or a host of the LAN could
send to the stub's address. A filter on each socket lets through only what came by the loopback device, which
is how a host's packets to itself come, whatever interface the address is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections import OrderedDict
from typing import Any

from ..clients import Clients
from ..waiting import within
from .message import MAX_MESSAGE, Query
from .stub import Stub

PORT = 53
MAX_TCP_CLIENTS = 128
TCP_IDLE_TIMEOUT = 10.0
MAX_PIPELINED = 16
MAX_WAITING = 2048
"""UDP clients that wait for nameservers."""

_BATCH = 64
_SO_ATTACH_FILTER = 26
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_RECEIVE_BUFFER = 1 << 20
_LENGTH = struct.Struct(">H")

# Classic BPF (linux/filter.h): load the index of the device that the packet came by; all of it, or nothing.
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_INTERFACE_INDEX = (-0x1000 + 8) & 0xFFFFFFFF  # SKF_AD_OFF + SKF_AD_IFINDEX


class ListenError(Exception):
    """An address that the stub cannot answer at."""


class NoSuchFamilyError(ListenError):
    """A family that the host's kernel has not: nobody can ask there either."""


class Listener:
    """The sockets of one set of addresses."""

    def __init__(self, stub: Stub, port: int = PORT) -> None:
        self._stub = stub
        self._port = port
        self._udp: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: set[asyncio.Future[Any]] = set()
        self._conversations = Clients()
        # Those that were silent for longest come first; with the answers that each waits for.
        self._clients: OrderedDict[asyncio.StreamWriter, set[asyncio.Future[None]]] = OrderedDict()

    async def open(self, address: str) -> None:
        """Answer at this address, too. Raises ListenError."""
        try:
            udp = _bound(address, self._port, socket.SOCK_DGRAM)
            self._udp.append(udp)
            asyncio.get_running_loop().add_reader(udp, self._readable, udp)
            tcp = _bound(address, self._port, socket.SOCK_STREAM)
            self._servers.append(await asyncio.start_server(self._serve, sock=tcp, limit=MAX_MESSAGE + 2))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                raise NoSuchFamilyError(str(error)) from error
            raise ListenError(f"cannot answer DNS at {address} port {self._port}: {error.strerror}") from error

    async def close(self) -> None:
        for udp in self._udp:
            asyncio.get_running_loop().remove_reader(udp)
            udp.close()
        for server in self._servers:
            server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        for client in tuple(self._clients):
            client.transport.abort()
        await self._conversations.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._udp.clear()
        self._servers.clear()

    # --- UDP

    def _readable(self, udp: socket.socket) -> None:
        answer_now, receive, send = self._stub.answer_now, udp.recvfrom, udp.sendto
        suppressed = contextlib.suppress(OSError)  # its client is gone
        for _datagram in range(_BATCH):
            try:
                wire, client = receive(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:  # an earlier answer's client is gone
                continue
            answer = answer_now(wire, False)
            if isinstance(answer, Query):
                if len(self._tasks) < MAX_WAITING:
                    task = asyncio.ensure_future(self._forward(udp, wire[:2], answer, client))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    continue
                answer = self._stub.fail(answer)
            if answer:
                with suppressed:
                    send(wire[:2] + answer, client)

    async def _forward(self, udp: socket.socket, ident: bytes, query: Query, client: Any) -> None:
        answer = await self._stub.answer(query, False)
        with contextlib.suppress(OSError):
            udp.sendto(ident + answer, client)

    # --- TCP (RFC 7766: many queries on a connection, answered in any order)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_TCP_CLIENTS:
            self._drop_one()
        room = asyncio.Semaphore(MAX_PIPELINED)
        answers = self._clients[writer] = set()
        with self._conversations.served():
            try:
                while True:
                    wire = await within(TCP_IDLE_TIMEOUT, _read_message(reader))
                    if writer in self._clients:
                        self._clients.move_to_end(writer)
                    await within(TCP_IDLE_TIMEOUT, room.acquire())
                    task: asyncio.Future[None] = asyncio.ensure_future(self._answer(wire, writer, room))
                    answers.add(task)
                    task.add_done_callback(answers.discard)
            except asyncio.IncompleteReadError:
                await asyncio.gather(*answers, return_exceptions=True)  # it only closed its own sending side
            except (asyncio.TimeoutError, OSError):
                pass
            finally:
                for task in answers:
                    task.cancel()
                self._clients.pop(writer, None)
                writer.transport.abort() if answers else writer.close()

    def _drop_one(self) -> None:
        """Whoever waits for no answer and was silent for longest goes: so a thousand that never ask keep nobody out."""
        silent = (client for client, answers in self._clients.items() if not answers)
        client = next(silent, None) or next(iter(self._clients))
        del self._clients[client]
        client.transport.abort()

    async def _answer(self, wire: bytes, writer: asyncio.StreamWriter, room: asyncio.Semaphore) -> None:
        try:
            answer = self._stub.answer_now(wire, True)
            if isinstance(answer, Query):
                answer = await self._stub.answer(answer, True)
            if answer:
                writer.write(_LENGTH.pack(len(answer) + 2) + wire[:2] + answer)
                with contextlib.suppress(OSError):
                    await writer.drain()
        finally:
            room.release()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(2))
    return await reader.readexactly(length)


def _bound(address: str, port: int, kind: int) -> socket.socket:
    """A bound socket that takes packets by the loopback device only. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        # The agent may put the address on its interface a moment later.
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        _only_by_loopback(bound)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(MAX_TCP_CLIENTS)
    except OSError:
        bound.close()
        raise
    return bound


def _only_by_loopback(bound: socket.socket) -> None:
    instructions = (
        (_LOAD_WORD, 0, 0, _INTERFACE_INDEX),
        (_JUMP_IF_EQUAL, 0, 1, socket.if_nametoindex("lo")),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    bound.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(instructions), ctypes.addressof(program))
    )
