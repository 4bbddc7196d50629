# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One nameserver: what it was asked, how it answered, and the exchange itself, by UDP and, if need be, by TCP."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from typing import Any, Optional

from ..waiting import within
from .message import MAX_MESSAGE, MessageError, Query, dns
from .passing import Answer, OtherMessageError, question_for

PORT = 53
UDP_TIMEOUTS = (1.0, 1.5)
"""Seconds that each datagram is waited for; after the last one, the same is asked by TCP."""

TCP_TIMEOUT = 2.0
MAX_ASKED = 512
"""Questions to one nameserver that are open at a time."""

OK = "ok"
FAILING = "failing"
SILENT = "silent"
LOOPED = "looped"
UNUSED = "unused"

_RTT_WEIGHT = 0.125  # as TCP smooths it (RFC 6298, section 2.3)
_LENGTH = struct.Struct(">H")
_USABLE = (0, 3)
"""NOERROR and NXDOMAIN. With any other rcode, another nameserver may know more."""

_NO_EDNS = (1, 4, 16)
"""What a nameserver says that does not know EDNS: FORMERR, NOTIMP or BADVERS."""

_FIRST_PENALTY = 60.0
_LAST_PENALTY = 3600.0


class NameserverError(Exception):
    """No usable answer; `state` is FAILING or SILENT."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


class Nameserver:
    """A nameserver of one rule, and what is known of it. For another domain, the same host may answer otherwise."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.state = UNUSED
        self.rtt: Optional[float] = None
        self.queries = 0
        self.failures = 0
        self.last_error: Optional[str] = None
        self.asked_at = float("-inf")
        self.probed_at = float("-inf")
        self.looped_until = 0.0
        self.suspect = False
        """It sent our own queries back to us before, and has to show that it does not any more."""
        self._penalty = _FIRST_PENALTY
        self._asks: set[asyncio.Future[Any]] = set()

    @property
    def busy(self) -> bool:
        return len(self._asks) >= MAX_ASKED

    async def ask(self, query: Query) -> tuple[Answer, bool]:
        """The answer, and whether it came by TCP. Raises NameserverError; is cancelled when a loop is found."""
        ours = asyncio.current_task()
        if ours is None:
            raise RuntimeError("a nameserver is asked by a task")
        self._asks.add(ours)
        self.queries += 1
        self.asked_at = started = time.monotonic()
        try:
            answer, tcp = await exchange(self.address, query)
        except NameserverError as error:
            self.failures += 1
            self.last_error = str(error)
            if self.state != LOOPED:
                self.state = error.state
            raise
        finally:
            self._asks.discard(ours)
        took = time.monotonic() - started
        self.rtt = took if self.rtt is None else (1 - _RTT_WEIGHT) * self.rtt + _RTT_WEIGHT * took
        if self.state != LOOPED:
            self.state = OK
        return answer, tcp

    def looped(self, now: float) -> None:
        """What we ask it comes back to us: have no question open with it, and ask it nothing for a while."""
        self.state, self.looped_until = LOOPED, now + self._penalty
        self.last_error = "sends our own queries back to us"
        self._penalty = min(2 * self._penalty, _LAST_PENALTY)
        for ask in tuple(self._asks):
            ask.cancel()

    def usable(self, now: float) -> bool:
        """Whether it may be asked; one that was cut off may be again when its time is over."""
        if self.state == LOOPED and now >= self.looped_until:
            self.state, self.suspect, self.probed_at = UNUSED, True, float("-inf")
        return self.state != LOOPED and not self.busy

    def cleared(self) -> None:
        """It did not send a probe back."""
        if self.suspect:
            self.suspect, self._penalty = False, _FIRST_PENALTY

    def status(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "state": self.state,
            "rtt": self.rtt,
            "queries": self.queries,
            "failures": self.failures,
            "last_error": self.last_error,
        }


async def exchange(address: str, query: Query) -> tuple[Answer, bool]:
    """Ask one nameserver: by UDP, again, and by TCP; by TCP also what UDP truncated.

    Returns its answer and whether it came by TCP. A nameserver that does not know EDNS is asked without (RFC 6891,
    section 7). Raises NameserverError.
    """
    try:
        destination = _destination(address)
        answer = await _ask_by_udp(destination, query)
        if answer is not None and answer.rcode in _NO_EDNS:
            answer = await _ask_by_udp(destination, query, edns=False)
        tcp = answer is None or answer.truncated
        if answer is None or answer.truncated:
            answer = await within(TCP_TIMEOUT, _ask_by_tcp(destination, query))
    except asyncio.TimeoutError:
        raise NameserverError(SILENT, "no answer") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise NameserverError(FAILING, getattr(error, "strerror", None) or type(error).__name__) from error
    except MessageError as error:
        raise NameserverError(FAILING, str(error)) from error
    if answer.rcode not in _USABLE:
        raise NameserverError(FAILING, dns.rcode.to_text(dns.rcode.Rcode.make(answer.rcode)))
    return answer, tcp


def _destination(address: str) -> tuple[Any, ...]:
    """What a socket is connected to; a link-local address has its interface behind a percent sign. Raises OSError."""
    host, _percent, interface = address.partition("%")
    if ":" not in host:
        return host, PORT
    return host, PORT, 0, socket.if_nametoindex(interface) if interface else 0


def _connecting(destination: tuple[Any, ...], kind: int) -> socket.socket:
    family = socket.AF_INET if len(destination) == 2 else socket.AF_INET6
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


async def _ask_by_udp(destination: tuple[Any, ...], query: Query, edns: bool = True) -> Optional[Answer]:
    """None if there is no answer in time. Raises OSError and MessageError.

    A new socket a question: its port is random, as is the ID (RFC 5452, section 9.2), and the kernel lets through only
    what comes from the nameserver's address and port.
    """
    loop = asyncio.get_running_loop()
    ident = secrets.randbelow(65536)
    found: asyncio.Future[Answer] = loop.create_future()

    def readable() -> None:
        try:
            if not found.done():
                found.set_result(Answer(udp.recv(MAX_MESSAGE), query.question, ident))
        except (BlockingIOError, OtherMessageError):  # the right one may still come
            pass
        except (OSError, MessageError) as error:
            found.set_exception(error)

    with _connecting(destination, socket.SOCK_DGRAM) as udp:
        udp.connect(destination)
        descriptor = udp.fileno()  # by which the loop finds it faster than by the socket
        loop.add_reader(descriptor, readable)
        try:
            for timeout in UDP_TIMEOUTS:
                udp.send(question_for(query, ident, edns))
                await asyncio.wait((found,), timeout=timeout)
                if found.done():
                    return found.result()
        finally:
            loop.remove_reader(descriptor)
    return None


async def _ask_by_tcp(destination: tuple[Any, ...], query: Query) -> Answer:
    """Raises OSError, IncompleteReadError and MessageError."""
    ident = secrets.randbelow(65536)
    tcp = _connecting(destination, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(tcp, destination)
        reader, writer = await asyncio.open_connection(sock=tcp, limit=MAX_MESSAGE + 2)
    except BaseException:
        tcp.close()
        raise
    try:
        wire = question_for(query, ident)
        writer.write(_LENGTH.pack(len(wire)) + wire)
        (length,) = _LENGTH.unpack(await reader.readexactly(2))
        return Answer(await reader.readexactly(length), query.question, ident)
    finally:
        writer.transport.abort()
