# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub resolver: what a query gets, from the map or from nameservers. It knows no sockets of clients."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Optional, Union

from .forward import Forwarder, Reply
from .message import (
    HEADER_LENGTH,
    MAX_MESSAGE,
    UDP_SIZE,
    MessageError,
    Query,
    dns,
    new_answer,
    parse_query,
    refusal,
    to_wire,
)
from .settings import Settings
from .zone import Zone

MAX_MEMO = 4096
_MEMO_KEY_LIMIT = 320  # the longest name, and EDNS with a few options

FROM_MAP = "map"
FORWARDED = "forwarded"
FAILED = "failed"
MALFORMED = "malformed"
LOOPED = "looped"


class Stub:
    """Answers queries as they are on the wire. Nothing that comes in makes it raise.

    The answers from the map depend on nothing but the query's bytes behind the ID. They are kept by these until the map
    changes: for most queries, the way through the parser and back is spared.
    """

    def __init__(self) -> None:
        self.forwarder = Forwarder()
        self.counts: Counter[str] = Counter()
        self._settings: Optional[Settings] = None
        self._zone: Optional[Zone] = None
        self._memo: dict[tuple[bool, bytes], bytes] = {}

    def configure(self, settings: Settings) -> None:
        """From here on answer so, at once."""
        if self._settings is None or settings.view != self._settings.view:
            self._zone = Zone(settings.view)
            self._memo.clear()
        self._settings = settings
        self.forwarder.configure(settings)

    def answer_now(self, wire: bytes, tcp: bool) -> Union[bytes, Query]:
        """The answer, empty for what gets none; or the query, if nameservers have to be asked."""
        known = self._memo.get((tcp, wire[2:]))
        if known is not None:
            self.counts[FROM_MAP] += 1
            return wire[:2] + known
        try:
            query = parse_query(wire)
        except MessageError as error:
            self.counts[MALFORMED] += 1
            return b"" if error.rcode is None else refusal(wire, error.rcode)
        if self.forwarder.is_probe(query.name):
            self.counts[LOOPED] += 1
            return self._written(new_answer(query, dns.rcode.REFUSED), query, tcp)
        answer = self._zone.answer(query) if self._zone else None
        if answer is None:
            return query
        self.counts[FROM_MAP] += 1
        written = self._written(answer, query, tcp)
        if len(wire) - HEADER_LENGTH <= _MEMO_KEY_LIMIT:
            if len(self._memo) >= MAX_MEMO:
                self._memo.clear()
            self._memo[tcp, wire[2:]] = written[2:]
        return written

    async def answer(self, query: Query, tcp: bool) -> bytes:
        """The nameservers' answer to a query that the map does not answer; SERVFAIL if there is none."""
        reply = await self.forwarder.answer(query)
        if reply.message is None:
            self.counts[FAILED] += 1
            return self._written(new_answer(query, dns.rcode.SERVFAIL), query, tcp)
        self.counts[FORWARDED] += 1
        return self._written(_passed_on(reply.message, query), query, tcp)

    def too_busy(self, query: Query, tcp: bool) -> bytes:
        """SERVFAIL for a query that nobody has time for."""
        self.counts[FAILED] += 1
        return self._written(new_answer(query, dns.rcode.SERVFAIL), query, tcp)

    def _written(self, answer: dns.message.Message, query: Query, tcp: bool) -> bytes:
        limit = MAX_MESSAGE if tcp else min(query.udp_size, UDP_SIZE)
        try:
            return to_wire(answer, limit)
        except MessageError:
            return to_wire(new_answer(query, dns.rcode.SERVFAIL), limit)

    # --- for people

    async def explain(self, name: str, type_name: str) -> dict[str, Any]:
        """What `sennit dns query` shows. Raises ValueError for what is no name or type."""
        try:
            asked = dns.message.make_query(dns.name.from_text(name), dns.rdatatype.from_text(type_name))
            asked.use_edns(0, 0, UDP_SIZE)
            query = parse_query(asked.to_wire())
        except (dns.exception.DNSException, MessageError, UnicodeError) as error:
            raise ValueError(f"{name[:80]!r} {type_name[:20]!r}: {error}") from error
        started = time.monotonic()
        answer = self._zone.answer(query) if self._zone else None
        reply = Reply("mesh") if answer is not None else await self.forwarder.answer(query)
        message = answer if answer is not None else reply.message
        records = message.answer if message is not None else []
        return {
            "name": query.name,
            "type": dns.rdatatype.to_text(query.type),
            "rule": "mesh" if answer is not None else reply.suffix or "default",
            "server": reply.server,
            "seconds": time.monotonic() - started,
            "tcp": reply.tcp,
            "rcode": dns.rcode.to_text(message.rcode() if message is not None else dns.rcode.SERVFAIL),
            "answers": [line for record in records for line in record.to_text().splitlines()],
            "tried": reply.tried,
            "problem": reply.problem,
        }

    def status(self) -> dict[str, Any]:
        """See StubResolver.status."""
        suffixes = [*(rule.suffix for rule in self._settings.view.rules), ""] if self._settings else []
        return {
            "stub": list(self._settings.view.stub) if self._settings else [],
            "rules": self.forwarder.status(suffixes),
            "queries": dict(self.counts),
            "loops": self.forwarder.loops(),
        }


def _passed_on(message: dns.message.Message, query: Query) -> dns.message.Message:
    """A nameserver's answer as our client's: its ID, question, EDNS; AD only for who asked for it (RFC 6840, 5.8)."""
    answer = new_answer(query, message.rcode())
    keep = dns.flags.AA | dns.flags.RA
    if query.message.flags & dns.flags.AD or query.message.ednsflags & dns.flags.DO:
        keep |= dns.flags.AD
    answer.flags |= message.flags & keep
    answer.answer, answer.authority, answer.additional = message.answer, message.authority, message.additional
    return answer
