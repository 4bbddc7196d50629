# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mesh's names on this host: the stub that answers, and the host's resolver that asks it. Both or none.

A host is never left with a resolver that leads nowhere: it is told of the stub when that answers, and told of what was
before as soon as it does not.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Optional

from .api import ApiError
from .config import Config
from .dns.process import StubError, StubQuestionError, StubResolver
from .dns.settings import Settings
from .host.resolver.base import Wanted
from .host.resolver.host import HostResolver
from .host.resolver.resolved import NAME as RESOLVED
from .host.resolver.watch import FileWatch
from .log import logger
from .netmap.dns import reverse_zones
from .netmap.names import DnsView
from .waiting import within

# Seconds. Whoever writes a file may need several steps for it; look when they are done.
SETTLE_TIME = 0.3
# How often to look for changes that no file tells of, and whether what failed works now.
REVIEW_INTERVAL = 60.0
RETRY_INTERVAL = 5.0
# Somebody writes over ours again and again: so long between two answers at most, and from then on it is a problem.
LONGEST_PAUSE = 60.0
FIGHT_PAUSE = 4.0

SPLIT = "split"
ALL = "all"

DNS_OFF = "dns-off"
DNS_FAILED = "dns"


class Names:
    """What daemon.py calls: apply() at each change, look() when the host changed, watch() all the time, close()."""

    def __init__(self, config: Config) -> None:
        self._resolver = HostResolver(config)
        self._stub = StubResolver(self._wake)
        self._view: Optional[DnsView] = None
        self._applied: Optional[DnsView] = None
        """What the host's resolver was last told of."""
        self._clean = False
        """Whether nothing of ours is on the host, also not from the last run."""
        self._pause = 0.0
        self._put_back_at = float("-inf")
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._watch: Optional[FileWatch] = None

    async def apply(self, view: Optional[DnsView]) -> None:
        """Have these names answered, and asked for by the host; None: have nothing to do with names."""
        self._view = view
        await self.look()

    async def look(self) -> None:
        """Bring the stub and the host's resolver to what is wanted.

        Whoever is cancelled meanwhile, this comes to its end: a command of the host's that is half done would go on,
        and meet the one that undoes it.
        """
        await asyncio.shield(asyncio.ensure_future(self._look()))

    async def _look(self) -> None:
        async with self._looking:
            if self._view is None:
                await self._leave()
                await self._stub.close()
            else:
                await self._serve(self._view)
            if self._watch is not None:
                self._watch.watch(self._resolver.watched if self._view else ())

    async def close(self) -> None:
        self._view = None
        await self.look()

    async def watch(self) -> None:
        """Notice what others do to the host's resolver, for ever."""
        watch = self._watch = FileWatch()
        loop = asyncio.get_running_loop()

        def readable() -> None:
            if watch.changed():
                self._wake()

        loop.add_reader(watch.descriptor, readable)
        watch.watch(self._resolver.watched if self._view else ())
        try:
            while True:
                review = RETRY_INTERVAL if self._resolver.problem else REVIEW_INTERVAL
                try:
                    await within(review, self._changed.wait())
                except asyncio.TimeoutError:
                    pass
                else:
                    await asyncio.sleep(SETTLE_TIME + self._pause)
                self._changed.clear()
                if self._view is not None:
                    await self.look()
        finally:
            self._watch = None
            loop.remove_reader(watch.descriptor)
            watch.close()

    @property
    def problems(self) -> tuple[str, ...]:
        """Lines for the user."""
        if self._view is None:
            return ()
        found = list(self._stub.problems)
        if self._resolver.problem:
            found.append(f"this host's programs do not find the mesh's names: {self._resolver.problem}")
        elif self._pause >= FIGHT_PAUSE and not self._quiet():
            found.append(f"something writes over {self._resolver.path} again and again; it is put back less often now")
        return tuple(found)

    async def status(self) -> dict[str, Any]:
        """What `sennit dns status` shows."""
        view, resolver = self._view, self._resolver
        if view is None:
            async with self._looking:
                await resolver.survey(())
        try:
            stub = await self._stub.status() if view else None
        except StubError:  # its problems say why
            stub = None
        return {
            "accepted": view is not None,
            "answering": list(self._stub.listening),
            "resolver": {
                "owner": resolver.owner,
                "set": resolver.set,
                "mode": self._mode(view) if view and resolver.set else None,
                "path": resolver.path,
                "nameservers": list(resolver.found.nameservers),
                "search": list(resolver.found.search),
            },
            "domain": view.domain if view else None,
            "search": list(view.search) if view else [],
            "override": view.override if view else False,
            "rules": stub["rules"] if stub else [],
            "queries": stub["queries"] if stub else {},
            "problems": list(self.problems),
        }

    async def query(self, name: str, type_name: str) -> dict[str, Any]:
        """What `sennit dns query` shows; a short name is one of a search domain. Raises ApiError."""
        if self._view is None:
            message = "the mesh's names are not used here: there is no netmap yet, or accept_dns is off"
            raise ApiError(DNS_OFF, message)
        # As resolvers have it, a single label never goes to a nameserver.
        names = [name] if "." in name else [f"{name}.{domain}" for domain in self._view.search]
        try:
            results = []
            for each in names:
                results.append(await self._stub.query(each, type_name))
                if results[-1]["answers"]:
                    return results[-1]
            return results[0]
        except StubQuestionError as error:
            raise ApiError("bad-request", str(error)) from error
        except StubError as error:
            raise ApiError(DNS_FAILED, "; ".join([str(error), *self._stub.problems])) from error

    # --- the two of them

    async def _serve(self, view: DnsView) -> None:
        if not self._stub.running:
            # Before anybody asks the stub, it has to know whom to ask.
            await self._resolver.survey(view.stub)
        await self._stub.configure(self._settings(view))
        if not self._stub.listening:
            await self._leave()
            return
        self._clean = False
        news = view != self._applied
        wanted = self._wanted(view)
        changed = await self._resolver.reconcile(wanted, news)
        if wanted != self._wanted(view):
            # What the host uses is not what it was, and with it changes what is to be asked of us.
            await self._resolver.reconcile(self._wanted(view), news)
        self._applied = view
        await self._stub.configure(self._settings(view))
        if changed and not news:
            self._note_put_back()

    async def _leave(self) -> None:
        if not self._clean:
            await self._resolver.undo()
            self._clean = not self._resolver.problem
        self._applied = None

    def _settings(self, view: DnsView) -> Settings:
        own = self._resolver.found.nameservers
        return Settings(view, view.nameservers if view.override or not own else own)

    def _wanted(self, view: DnsView) -> Wanted:
        return Wanted(
            stub=tuple(address for address in view.stub if address in self._stub.listening),
            search=view.search,
            routed=(*(rule.suffix for rule in view.rules), *reverse_zones(view.pools)),
            everything=bool(view.nameservers) and (view.override or not self._resolver.found.nameservers),
        )

    def _mode(self, view: DnsView) -> str:
        """Whether the host asks the stub for all names, or for those alone that it has a rule for."""
        return ALL if self._resolver.owner != RESOLVED or self._wanted(view).everything else SPLIT

    def _note_put_back(self) -> None:
        """Somebody wrote over ours. Once is their good right; who does it at once again is answered more slowly."""
        self._pause = 0.0 if self._quiet() else min(max(0.5, 2 * self._pause), LONGEST_PAUSE)
        self._put_back_at = time.monotonic()
        if self._pause == FIGHT_PAUSE:
            logger.warning("something writes over %s again and again", self._resolver.path)

    def _quiet(self) -> bool:
        return time.monotonic() - self._put_back_at > LONGEST_PAUSE + self._pause

    def _wake(self) -> None:
        self._changed.set()
