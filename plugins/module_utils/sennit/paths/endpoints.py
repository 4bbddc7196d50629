# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the endpoints of a netmap, "host:port", to the addresses that packets go to.

A literal address is taken as it is. A name is looked up in a child process, again and again until it is found, while
the rest of the mesh works; nothing waits for it.

With an exit node, lookups go by the exit node too, and the exit node's own name could never be found: so its address is
remembered over restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Mapping
from typing import Callable, Optional

from ..log import logger
from ..netmap.endpoint import literal_address, split_endpoint
from ..processes import child
from ..tasks import begin
from ..waiting import within
from ..wireguard.events import Endpoint

LOOKUP_TIMEOUT = 20.0
FIRST_RETRY = 1.0
LAST_RETRY = 60.0
# Processes that look up at the same time.
CONCURRENCY = 2

LookUp = Callable[[str, int], Endpoint]


def look_up(host: str, port: int) -> Endpoint:
    """The first address of a name, in the order that suits this host (RFC 6724). Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG)
    address = found[0][4]
    return str(address[0]), int(address[1])


class Endpoints:
    """The endpoints in use. ``changed`` is called when a name leads to another address than before; ``remembered``:
    where names led in another life, to be used until they are found.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        look_up: LookUp = look_up,
        remembered: Optional[Mapping[str, Endpoint]] = None,
    ) -> None:
        self._changed = changed
        self._look_up = look_up
        self._remembered = remembered or {}
        self._gate = asyncio.Semaphore(CONCURRENCY)
        self._names: dict[str, _Name] = {}
        self._literals: dict[str, Endpoint] = {}  # among those in use

    def get(self, endpoint: Optional[str]) -> Optional[Endpoint]:
        """Where packets for this endpoint go, as far as known."""
        if endpoint is None:
            return None
        if endpoint in self._names:
            return self._names[endpoint].found
        return self._literals.get(endpoint) or _literal(endpoint)

    def use(self, endpoints: Iterable[str]) -> None:
        """Look these up, and no others any more."""
        names, literals = set(), {}
        for endpoint in endpoints:
            literal = self._literals.get(endpoint) or _literal(endpoint)
            if literal is None:
                names.add(endpoint)
            else:
                literals[endpoint] = literal
        self._literals = literals
        for endpoint in self._names.keys() - names:
            self._names.pop(endpoint).task.cancel()
        for endpoint in names - self._names.keys():
            name = self._names[endpoint] = _Name(endpoint, self._remembered.get(endpoint))
            name.task = begin(f"looking up {endpoint}", self._follow(name))

    async def find(self, endpoint: Optional[str], timeout: float) -> Optional[Endpoint]:
        """As get(), but waits this many seconds for a name that is in use to be found."""
        if endpoint in self._names:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(timeout, self._names[endpoint].known.wait())
        return self.get(endpoint)

    def refresh(self, endpoint: Optional[str]) -> None:
        """Look again where a name leads, as its peer has been silent; nothing for a literal address."""
        if endpoint in self._names:
            self._names[endpoint].wanted.set()

    async def close(self) -> None:
        tasks = [name.task for name in self._names.values()]
        self.use(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, name: _Name) -> None:
        host, port = split_endpoint(name.endpoint)
        retry = FIRST_RETRY
        while True:
            name.wanted.clear()
            try:
                async with self._gate:
                    address, number = await child.run(self._look_up, host, port, timeout=LOOKUP_TIMEOUT)
            except child.ChildError as error:
                # Once is enough for the log.
                if retry == FIRST_RETRY:
                    logger.warning("endpoint %s: %s; trying again", name.endpoint, error)
                await asyncio.sleep(retry)
                retry = min(2 * retry, LAST_RETRY)
                continue
            retry = FIRST_RETRY
            if name.found != (address, number):
                name.found = (address, number)
                name.known.set()
                logger.info("endpoint %s is at %s", name.endpoint, address)
                self._changed()
            await name.wanted.wait()


def _literal(endpoint: str) -> Optional[Endpoint]:
    """An endpoint that is no name."""
    host, port = split_endpoint(endpoint)
    return (host, port) if literal_address(host) else None


class _Name:
    """A name that is followed, and where it was found."""

    task: asyncio.Future[None]

    def __init__(self, endpoint: str, found: Optional[Endpoint]) -> None:
        self.endpoint = endpoint
        self.found = found
        self.wanted = asyncio.Event()
        self.known = asyncio.Event()
        if found is not None:
            self.known.set()
