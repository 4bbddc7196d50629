# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's streams to its beacons, one to each, made again and again."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable
from typing import Callable, Optional

from ..log import logger
from ..netmap.view import PeerView
from ..tasks import begin
from ..waiting import within
from .stream import Stream, StreamClosed, prepare

# Seconds. The first packet through a tunnel waits for a handshake, or for 15 s if the other side has lost its session.
CONNECT_TIMEOUT = 20.0
# Nodes that all lose a beacon at once come back one by one; and those of a beacon that was away for long, within 20 s.
FIRST_RETRY = 2.0
LAST_RETRY = 10.0
SPREAD = 0.9
# A stream that lasted so long was a good one: what comes after it is a new failure.
GOOD_AFTER = 60.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[PeerView, Connection], Stream]
Run = Callable[[Stream], Awaitable[None]]


class Backoff:
    """The time between two attempts: it doubles, and no two nodes have the same."""

    def __init__(self, first: float = FIRST_RETRY, last: float = LAST_RETRY) -> None:
        self._first = first
        self._last = last
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def pause(self) -> float:
        """Seconds to wait now."""
        pause = self._next * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 (to be spread, not to be secret)
        self._next = min(2 * self._next, self._last)
        return pause


class Client:
    """The stream to one beacon. ``run`` is given each that is made, and raises StreamClosed at its end."""

    def __init__(self, interface: str, beacon: PeerView, open_stream: Open, run: Run) -> None:
        self._interface = interface
        self._open = open_stream
        self._run = run
        self.beacon = beacon
        self.stream: Optional[Stream] = None
        self.problem: Optional[str] = None
        """Why there is none."""
        self._life = begin(f"the stream to beacon {beacon.name}", self._live())

    async def close(self) -> None:
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        backoff = Backoff()
        attempt = 0
        while True:
            address = self.beacon.addresses[attempt % len(self.beacon.addresses)]
            attempt += 1
            started = time.monotonic()
            try:
                connection = await within(CONNECT_TIMEOUT, self._connect(address))
                self.stream = self._open(self.beacon, connection)
                self.problem = None
                logger.info("beacon %s: connected", self.beacon.name)
                await self._run(self.stream)
            except asyncio.TimeoutError:
                self._tell(f"no connection within {CONNECT_TIMEOUT:g} s")
            except OSError as error:
                # asyncio puts the address into the text, of which there are two.
                self._tell(os.strerror(error.errno) if error.errno else str(error))
            except StreamClosed as closed:
                self._tell(str(closed))
                if time.monotonic() - started > GOOD_AFTER and not closed.faulty:
                    backoff.reset()
                # The address was a good one.
                attempt -= 1
            finally:
                self.stream = None
            await asyncio.sleep(backoff.pause())

    async def _connect(self, address: str) -> Connection:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            prepare(connection, self._interface)
            await asyncio.get_running_loop().sock_connect(connection, (address, self.beacon.beacon))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("beacon %s: %s", self.beacon.name, problem)
        self.problem = problem
