# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stream as both ends have it: a TCP connection, with an exchange at it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Callable, Optional, Union

from ..netmap.view import PeerView
from ..waiting import within
from .exchange import CHUNK_BYTES, NEVER, Event, Exchange, Offered, SilenceError
from .messages import FROM_BEACONS, FROM_NODES, BeaconProtocolError, Kept, Place, Relay
from .registry import Registry

READ_BYTES = 64 * 1024
# Seconds in which the other end has to take a chunk.
WRITE_TIMEOUT = 30.0


class StreamClosed(Exception):  # noqa: N818 - not always an error
    """The stream is over; the message says why. ``faulty``: the other end did what it must not."""

    def __init__(self, why: str, faulty: bool = False) -> None:
        super().__init__(why)
        self.faulty = faulty


class Stream:
    """One connection with ``peer``. ``heard`` is called with what comes of the other end, and may raise
    BeaconProtocolError. ``registry``: what the peer is told of, if it is served.
    """

    def __init__(
        self,
        peer: PeerView,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        kept: Optional[Kept],
        interval: float,
        heard: Callable[[Stream, Event], None],
        *,
        registry: Optional[Registry] = None,
    ) -> None:
        self.peer = peer
        self.served = registry is not None
        self.opened_at = time.time()
        self.version: Optional[int] = None
        """That of the map that the other end keeps, as it says."""
        takes = FROM_NODES if self.served else FROM_BEACONS
        self.exchange = Exchange(kept, interval, time.monotonic(), takes, registry)
        self._reader, self._writer = connection
        self._writer.transport.set_write_buffer_limits(high=CHUNK_BYTES)
        self._heard = heard
        self._closed = False
        self._more = asyncio.Event()

    def keep(self, kept: Kept) -> None:
        self.exchange.keep(kept)
        self._more.set()

    def ask(self, offer: Offered) -> None:
        self.exchange.ask(offer, time.monotonic())
        self._more.set()

    def ping(self) -> None:
        self.exchange.ping(time.monotonic())
        self._more.set()

    def tell(self, message: Union[Place, Relay]) -> None:
        self.exchange.tell(message)
        self._more.set()

    def look(self) -> None:
        """There may be something new in the registry."""
        self._more.set()

    def close(self) -> None:
        """End it; run() returns by StreamClosed."""
        self._closed = True
        self._writer.transport.abort()

    async def run(self) -> None:
        """Until the stream is over. Raises StreamClosed."""
        writing = asyncio.ensure_future(self._write())
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            for part in (reading, writing):
                if part.done():
                    part.result()
        except BeaconProtocolError as error:
            raise StreamClosed(str(error), faulty=True) from error
        except SilenceError as error:
            raise StreamClosed(str(error)) from error
        except OSError as error:
            raise StreamClosed(error.strerror or "the connection is lost") from error
        finally:
            for part in (reading, writing):
                part.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            self._writer.transport.abort()
        raise StreamClosed("closed" if self._closed else "closed by the other end")

    async def _read(self) -> None:
        while True:
            wait = max(0.0, self.exchange.timer() - time.monotonic())
            try:
                data = await within(wait, self._reader.read(READ_BYTES))
            except asyncio.TimeoutError:
                self.exchange.handle_timer(time.monotonic())
                self._more.set()
                continue
            if not data:
                return
            for event in self.exchange.receive(data, time.monotonic()):
                self._heard(self, event)
            self._more.set()

    async def _write(self) -> None:
        while True:
            self._more.clear()
            chunk = self.exchange.next_chunk(time.monotonic())
            while chunk is not None:
                self._writer.write(chunk)
                if self._writer.transport.get_write_buffer_size() > CHUNK_BYTES:
                    await self._drain()
                chunk = self.exchange.next_chunk(time.monotonic())
            tells_at = self.exchange.tells_at()
            wait = None if tells_at == NEVER else max(0.0, tells_at - time.monotonic())
            with contextlib.suppress(asyncio.TimeoutError):
                await within(wait, self._more.wait())

    async def _drain(self) -> None:
        try:
            await within(WRITE_TIMEOUT, self._writer.drain())
        except asyncio.TimeoutError:
            raise SilenceError(f"it took nothing for {WRITE_TIMEOUT:g} s") from None


def prepare(connection: socket.socket, interface: str) -> None:
    """Keep a socket to the tunnel: what comes from elsewhere is not authenticated, and nothing may leave there.

    Raises OSError.
    """
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
