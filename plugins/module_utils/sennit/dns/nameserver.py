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

from .message import MAX_MESSAGE, UDP_SIZE, MessageError, Query, dns, parse_answer

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
_FIRST_PENALTY = 60.0
_LAST_PENALTY = 3600.0


class NameserverError(Exception):
    """No usable answer; `state` is FAILING or SILENT."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


class Nameserver:
    """A nameserver's address, and what is known of it. Several rules may share one."""

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

    async def ask(self, message: dns.message.Message) -> tuple[dns.message.Message, bool]:
        """The answer, and whether it came by TCP. Raises NameserverError; is cancelled when a loop is found."""
        ours = asyncio.current_task()
        if ours is None:
            raise RuntimeError("a nameserver is asked by a task")
        self._asks.add(ours)
        self.queries += 1
        self.asked_at = started = time.monotonic()
        try:
            answer, tcp = await exchange(self.address, message)
            if answer.rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED):
                raise NameserverError(FAILING, dns.rcode.to_text(answer.rcode()))
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
            self.state, self.suspect = UNUSED, True
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


def question_for(query: Query) -> dns.message.Message:
    """What a nameserver is asked for a client's query: the same question, our own EDNS, a random ID at each sending."""
    message = query.message
    question = message.question[0]
    asked = dns.message.make_query(question.name, question.rdtype, question.rdclass)
    asked.flags = message.flags & (dns.flags.RD | dns.flags.CD | dns.flags.AD)
    asked.use_edns(0, message.ednsflags & 0x8000, UDP_SIZE)
    return asked


async def exchange(address: str, message: dns.message.Message) -> tuple[dns.message.Message, bool]:
    """Ask one nameserver: by UDP, again, and by TCP; by TCP also what UDP truncated.

    A nameserver that does not know EDNS is asked without (RFC 6891, section 7). Raises NameserverError.
    """
    for timeout in UDP_TIMEOUTS:
        try:
            answer = await _ask_by_udp(address, message, timeout)
        except asyncio.TimeoutError:
            continue
        if answer.flags & dns.flags.TC:
            return await _ask_by_tcp(address, message), True
        if message.edns >= 0 and answer.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS):
            question = message.question[0]
            plain = dns.message.make_query(question.name, question.rdtype, question.rdclass)
            plain.flags = message.flags
            return await exchange(address, plain)
        if answer.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            raise NameserverError(FAILING, dns.rcode.to_text(answer.rcode()))
        return answer, False
    return await _ask_by_tcp(address, message), True


class _Answers(asyncio.DatagramProtocol):
    """What comes on one question's socket. The kernel lets through only what its nameserver sends from its port."""

    def __init__(self, asked: dns.message.Message) -> None:
        self.answer: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()
        self._asked = asked

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answer.done():
            return
        try:
            self.answer.set_result(parse_answer(data, self._asked))
        except MessageError:  # of another question or nobody's: the right one may still come
            return

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(NameserverError(FAILING, _reason(exc)))


async def _ask_by_udp(address: str, message: dns.message.Message, timeout: float) -> dns.message.Message:
    message.id = secrets.randbelow(65536)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        # A new socket a question: its port is random, too (RFC 5452, section 9.2).
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            udp.connect((address, PORT))
        except OSError:
            udp.close()
            raise
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Answers(message), sock=udp
        )
    except OSError as error:
        raise NameserverError(FAILING, _reason(error)) from error
    try:
        transport.sendto(message.to_wire())
        return await asyncio.wait_for(protocol.answer, timeout)
    finally:
        transport.abort()


async def _ask_by_tcp(address: str, message: dns.message.Message) -> dns.message.Message:
    message.id = secrets.randbelow(65536)
    try:
        return await asyncio.wait_for(_tcp_exchange(address, message), TCP_TIMEOUT)
    except asyncio.TimeoutError:
        raise NameserverError(SILENT, "no answer") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise NameserverError(FAILING, f"TCP: {_reason(error)}") from error
    except MessageError as error:
        raise NameserverError(FAILING, f"TCP: {error}") from error


async def _tcp_exchange(address: str, message: dns.message.Message) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(address, PORT, limit=MAX_MESSAGE + 2)
    try:
        wire = message.to_wire()
        writer.write(_LENGTH.pack(len(wire)) + wire)
        (length,) = _LENGTH.unpack(await reader.readexactly(2))
        return parse_answer(await reader.readexactly(length), message)
    finally:
        writer.transport.abort()


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
