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
    UDP_SIZE,
    MessageError,
    Query,
    dns,
    failure,
    new_answer,
    parse_query,
    refusal,
    written,
)
from .passing import Answer
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

    What a query's bytes behind the ID mean does not change until the map does. So they lead to the answer, or to the
    parsed query if it is nameservers that answer it: for most queries, the way through the parser is spared.
    """

    def __init__(self) -> None:
        self.forwarder = Forwarder()
        self.counts: Counter[str] = Counter()
        self._settings: Optional[Settings] = None
        self._zone: Optional[Zone] = None
        self._memos: tuple[dict[bytes, Union[bytes, Query]], ...] = ({}, {})  # by UDP, by TCP

    def configure(self, settings: Settings) -> None:
        """From here on answer so, at once."""
        if self._settings is None or settings.view != self._settings.view:
            self._zone = Zone(settings.view)
            for memo in self._memos:
                memo.clear()
        self._settings = settings
        self.forwarder.configure(settings)

    def answer_now(self, wire: bytes, tcp: bool) -> Union[bytes, Query]:
        """The answer without its ID, empty for what gets none; or the query, if nameservers have to be asked."""
        known = self._memos[tcp].get(wire[2:])
        if known is not None:
            if isinstance(known, bytes):
                self.counts[FROM_MAP] += 1
            return known
        try:
            query = parse_query(wire)
            if self.forwarder.is_probe(query.name):
                self.counts[LOOPED] += 1
                return written(new_answer(query, dns.rcode.REFUSED), query, tcp)
            answer = self._zone.answer(query) if self._zone else None
            found = query if answer is None else written(answer, query, tcp)
        except MessageError as error:
            self.counts[MALFORMED] += 1
            return b"" if error.rcode is None else refusal(wire, error.rcode)
        if isinstance(found, bytes):
            self.counts[FROM_MAP] += 1
        if len(wire) <= _MEMO_KEY_LIMIT:
            memo = self._memos[tcp]
            if len(memo) >= MAX_MEMO:
                memo.clear()
            memo[wire[2:]] = found
        return found

    async def answer(self, query: Query, tcp: bool) -> bytes:
        """What nameservers answer, without its ID, to a query that the map does not; SERVFAIL if they do not."""
        target = self._outside(query)
        reply = await self.forwarder.answer(target or query)
        if reply.answer is None:
            return self.fail(query)
        try:
            found = reply.answer.passed_on(query, tcp) if target is None else self._joined(query, reply.answer, tcp)
        except MessageError:
            return self.fail(query)
        self.counts[FORWARDED] += 1
        return found

    def fail(self, query: Query) -> bytes:
        """SERVFAIL for a query that nobody has an answer or time for."""
        self.counts[FAILED] += 1
        return failure(query)

    def _outside(self, query: Query) -> Optional[Query]:
        """The query of the name that the asked one is an alias of."""
        aliases = self._zone.aliases(query) if self._zone else ()
        return query.asking(dns.name.from_text(aliases[-1])) if aliases else None

    def _joined(self, query: Query, answer: Answer, tcp: bool) -> bytes:
        """The map's aliases, and then what a nameserver says of the last of them (RFC 6604). Raises MessageError."""
        found = answer.decoded()
        joined = new_answer(query, found.rcode())
        joined.answer = [*(self._zone.alias_records(query) if self._zone else ()), *found.answer]
        joined.authority = found.authority
        return written(joined, query, tcp)

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
        message = self._zone.answer(query) if self._zone else None
        if message is not None:
            reply, rcode, records = Reply("mesh"), message.rcode(), message.answer
        else:
            reply = await self.forwarder.answer(self._outside(query) or query)
            rcode = dns.rcode.Rcode.make(reply.answer.rcode if reply.answer else dns.rcode.SERVFAIL)
            records = self._zone.alias_records(query) if self._zone else []
            try:
                records += reply.answer.decoded().answer if reply.answer else []
            except MessageError as error:
                reply.problem = str(error)
        return {
            "name": query.name,
            "type": dns.rdatatype.to_text(query.type),
            "rule": reply.suffix or "default",
            "server": reply.server,
            "seconds": time.monotonic() - started,
            "tcp": reply.tcp,
            "rcode": dns.rcode.to_text(rcode),
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
