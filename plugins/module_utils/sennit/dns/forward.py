# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking nameservers for what the map does not know: by which rule, in which order, and what if none answers.

Identical queries in flight are one. The nameservers of a rule race: the best first, the next one a moment later or as
soon as one fails; whoever answers first wins, and the others go on to their end so that their state is true.

Loops. A query that we forwarded may come back to us: a nameserver that forwards to a nameserver that forwards to us.
Such a copy is identical to one in flight, and so is a client's second try; or somebody on its way holds it back for
the answer that we owe, and there is silence. To know, a probe goes to the nameservers in question: a random label below
the same name. Nobody but us knows it, so if we are asked for it, the nameserver that it was sent to is part of a loop,
and is cut off for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..waiting import within
from .message import Key, Query, dns, suffixes
from .nameserver import FAILING, LOOPED, OK, SILENT, UNUSED, Nameserver, NameserverError, exchange
from .passing import Answer
from .settings import Settings

STAGGER = 0.1
"""Seconds that a nameserver has to itself before the next one is asked as well."""

PATIENCE = 1.0
"""Seconds of silence after which a loop is thought of."""

QUERY_TIMEOUT = 4.5
"""Seconds until SERVFAIL: before the 5 s at which clients ask again."""

MAX_IN_FLIGHT = 256
"""Different queries that the nameservers of one rule are asked at a time."""

REVIEW_INTERVAL = 30.0
"""Seconds after which a nameserver that is not the first choice is asked along, to know how it does."""

PROBE_INTERVAL = 300.0
PROBE_TIMEOUT = 3.0
_PROBE_BELOW = 200  # with the label before it, no name is too long

_RANK = {OK: 0, UNUSED: 0, FAILING: 1, SILENT: 2, LOOPED: 3}


@dataclass
class Reply:
    """What became of a query. answer: that of `server`, None if none was usable; tried: what each said, in order."""

    suffix: str
    answer: Optional[Answer] = None
    server: Optional[str] = None
    tcp: bool = False
    seconds: float = 0.0
    problem: Optional[str] = None
    tried: list[dict[str, Any]] = field(default_factory=list)


class Forwarder:
    """The rules and their nameservers."""

    def __init__(self) -> None:
        self._rules: dict[str, list[Nameserver]] = {"": []}
        self._flights: dict[str, dict[Key, asyncio.Future[Reply]]] = {}
        """By the rule's suffix, what its nameservers are being asked."""
        self._probes: dict[str, Nameserver] = {}
        self._background: set[asyncio.Future[Any]] = set()
        self._mark = secrets.token_hex(8)  # what the labels of all our probes begin with

    def configure(self, settings: Settings) -> None:
        """Nameservers that a rule keeps keep what is known of them. The stub itself is none, wherever it is named."""
        rules = {rule.suffix: rule.nameservers for rule in settings.view.rules}
        rules[""] = settings.default
        known = {
            (suffix, nameserver.address): nameserver
            for suffix, nameservers in self._rules.items()
            for nameserver in nameservers
        }
        self._rules = {
            suffix: [
                known.get((suffix, address)) or Nameserver(address)
                for address in dict.fromkeys(addresses)
                if address not in settings.view.stub
            ]
            for suffix, addresses in rules.items()
        }

    def suffix(self, name: str) -> str:
        """The longest suffix of a rule for this name; "" is the default."""
        return next(suffix for suffix in suffixes(name) if suffix in self._rules)

    async def answer(self, query: Query) -> Reply:
        """Ask, and wait for an answer or QUERY_TIMEOUT. Nothing is raised: a Reply without an answer says why."""
        suffix, key = self.suffix(query.name), query.key
        nameservers, flights = self._rules[suffix], self._flights.setdefault(suffix, {})
        flight = flights.get(key)
        if flight is not None:
            self._suspect(query.name, nameservers)
        elif len(flights) >= MAX_IN_FLIGHT:
            return Reply(suffix, problem="too many queries are in flight")
        else:
            flight = flights[key] = asyncio.ensure_future(self._ask(query, Reply(suffix), nameservers))
            flight.add_done_callback(lambda _flight: flights.pop(key, None))
        return await asyncio.shield(flight)

    # --- the race

    async def _ask(self, query: Query, reply: Reply, nameservers: Sequence[Nameserver]) -> Reply:
        started = time.monotonic()
        candidates = [nameserver for nameserver in nameservers if nameserver.usable(started)]
        candidates.sort(key=lambda nameserver: (_RANK[nameserver.state], nameserver.rtt or 0.0))
        self._suspect(query.name, [nameserver for nameserver in candidates if nameserver.suspect])
        if candidates:
            await self._race(candidates, query, started, reply)
        elif nameservers:
            reply.problem = "no nameserver of the rule can be asked"
        else:
            reply.problem = "there is no nameserver for it"
        reply.seconds = time.monotonic() - started
        return reply

    async def _race(self, candidates: Sequence[Nameserver], query: Query, started: float, reply: Reply) -> None:
        waiting = list(candidates)
        running: dict[asyncio.Future[Any], Nameserver] = {}

        def ask(nameserver: Nameserver) -> None:
            task = self._keep(asyncio.ensure_future(nameserver.ask(query)))
            running[task] = nameserver

        ask(waiting.pop(0))
        for nameserver in [each for each in waiting if started - each.asked_at > REVIEW_INTERVAL]:
            waiting.remove(nameserver)
            ask(nameserver)
        while running or waiting:
            remaining = started + QUERY_TIMEOUT - time.monotonic()
            if remaining <= 0:
                break
            if not running:
                ask(waiting.pop(0))
            patience = min(STAGGER if waiting else PATIENCE, remaining)
            done, _running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._take(task, running.pop(task), started, reply)
            if reply.answer is not None:
                return
            if waiting:
                ask(waiting.pop(0))
            elif not done:
                self._suspect(query.name, running.values())
        reply.tried.extend(
            {"server": each.address, "result": "no answer", "seconds": time.monotonic() - started}
            for each in running.values()
        )
        reply.problem = "no nameserver gave an answer"

    @staticmethod
    def _take(task: asyncio.Future[tuple[Answer, bool]], nameserver: Nameserver, started: float, reply: Reply) -> None:
        """Put into the reply what this nameserver said."""
        if task.cancelled():
            text = "a loop: sent the query back to this host"
        elif isinstance(task.exception(), NameserverError):
            text = str(task.exception())
        else:
            answer, tcp = task.result()
            text = dns.rcode.to_text(dns.rcode.Rcode.make(answer.rcode))
            if reply.answer is None:
                reply.answer, reply.tcp, reply.server = answer, tcp, nameserver.address
        reply.tried.append({"server": nameserver.address, "result": text, "seconds": time.monotonic() - started})

    # --- loops

    def is_probe(self, name: str) -> bool:
        """Whether this query is our own probe come back: then its nameserver is cut off from now on."""
        label = name.partition(".")[0]
        if not label.startswith(self._mark):
            return False
        nameserver = self._probes.pop(label, None)
        if nameserver is not None:
            nameserver.looped(time.monotonic())
        return True

    def loops(self) -> list[str]:
        """The loops that are cut, a line each."""
        return [
            f"what is asked of nameserver {nameserver.address} for {suffix or 'names without a rule'} "
            "comes back to this host; it is not asked for now"
            for suffix, nameservers in self._rules.items()
            for nameserver in nameservers
            if nameserver.state == LOOPED
        ]

    def _suspect(self, name: str, nameservers: Iterable[Nameserver]) -> None:
        """What is asked of these may come back to us: probe those that were not probed lately."""
        now = time.monotonic()
        for nameserver in nameservers:
            if nameserver.state != LOOPED and now - nameserver.probed_at > PROBE_INTERVAL:
                nameserver.probed_at = now
                self._probe(name, nameserver)

    def _probe(self, name: str, nameserver: Nameserver) -> None:
        label = self._mark + secrets.token_hex(8)
        below = next(suffix for suffix in suffixes(name) if len(suffix) < _PROBE_BELOW)
        probe = Query(dns.name.from_text(f"{label}.{below}"), dns.rdatatype.A, dns.rdataclass.IN, dns.flags.RD)
        self._probes[label] = nameserver
        self._keep(asyncio.ensure_future(self._send_probe(label, probe, nameserver)))

    async def _send_probe(self, label: str, probe: Query, nameserver: Nameserver) -> None:
        answered = False
        try:
            with contextlib.suppress(NameserverError, asyncio.TimeoutError):
                await within(PROBE_TIMEOUT, exchange(nameserver.address, probe))
                answered = True
        finally:
            came_back = self._probes.pop(label, None) is None
            if answered and not came_back:
                nameserver.cleared()
            elif not came_back:  # silence says nothing either way
                nameserver.probed_at = float("-inf")

    def _keep(self, task: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Hold on to a task until it ends, and take note of its exception: nobody else may be there any more."""
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()

    def status(self, suffixes: Iterable[str]) -> list[dict[str, Any]]:
        """The rules with these suffixes, each with its nameservers."""
        return [
            {"suffix": suffix, "nameservers": [nameserver.status() for nameserver in self._rules[suffix]]}
            for suffix in suffixes
        ]
