# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay as the agent sees it: a process of its own, so that no flood and no bug of it meets the mesh.

It is a fork of the agent and ends when the agent does. Should it die, it is started anew, begins again with those that
were attached, and goes on with the sessions between them. So it does when the agent itself is started anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Callable, NoReturn, Optional

from ..config import Config
from ..datapath import worker
from ..datapath.channel import Channel
from ..key import PrivateKeyError, read_private_key
from ..log import logger
from ..netmap.model import encode_key
from ..netmap.view import View
from ..processes.lasting import keep_alive, let_go
from ..state import SessionStore, StateError
from ..tasks import begin
from ..wireguard.crypto import public_key_of
from ..wireguard.events import Endpoint, Path, endpoint_of
from .messages import Listening, Report, Resume, Serve, Settings
from .offer import RelayOffer, relay_private_key

# Seconds. For how long those count as attached that were so when the process died.
GRACE = 10.0
# How long after a change to write down who is attached, for an agent that is killed.
WRITE_DELAY = 2.0

_NOTHING = Report({}, 0, 0, {})


class Relay:
    """The handle. It does nothing while the node is no beacon; ``changed`` is called when offer or attached change."""

    def __init__(self, config: Config, changed: Optional[Callable[[], None]] = None) -> None:
        self.problem: Optional[str] = None
        self._config = config
        self._changed = changed or _nobody
        self._store = SessionStore(config.relay_path)
        self._offer: Optional[RelayOffer] = None
        self._nodes: frozenset[bytes] = frozenset()
        self._life: Optional[asyncio.Future[NoReturn]] = None
        self._channel: Optional[Channel] = None
        self._attached: dict[bytes, Path] = {}
        self._before: dict[bytes, Path] = {}
        """Who was attached when the last process died, as far as they have not come back."""
        self._forgetting: Optional[asyncio.TimerHandle] = None
        self._writing: Optional[asyncio.TimerHandle] = None
        self._counted = _NOTHING
        self._counted_before = _NOTHING
        """By processes that are no more."""

    # --- what it tells

    @property
    def offer(self) -> Optional[RelayOffer]:
        """What nodes need to be told; None when there is no relay."""
        return self._offer

    @property
    def attached(self) -> Mapping[bytes, Endpoint]:
        """Where the nodes are that can be reached through the relay, by public key."""
        return {key: endpoint_of(path) for key, path in {**self._before, **self._attached}.items()}

    @property
    def counters(self) -> dict[str, Any]:
        """{"forwarded_packets", "forwarded_bytes", "drops": {reason: how many}} since the agent was started."""
        counted = _sum(self._counted_before, self._counted)
        return {
            "forwarded_packets": counted.forwarded_packets,
            "forwarded_bytes": counted.forwarded_bytes,
            "drops": dict(counted.drops),
        }

    def status(self) -> Optional[dict[str, Any]]:
        """For `sennit status`: port, public_key (None when it does not work), rate (bit/s), attached (how many nodes),
        the counters, problem. None if there is no relay.
        """
        if self._life is None and self.problem is None:
            return None
        return {
            "port": self._config.relay_port,
            "public_key": encode_key(self._offer.public_key) if self._offer else None,
            "rate": self._config.relay_rate,
            "attached": len(self.attached),
            **self.counters,
            "problem": self.problem,
        }

    # --- what it is told

    def use(self, view: Optional[View]) -> None:
        """Serve the nodes of this view if this node is a beacon in it, or nobody."""
        if view is None or view.beacon is None or not self._config.relay_port:
            self._stop()
            return
        nodes = frozenset(peer.public_key for peer in view.peers)
        if self._life is None:
            self._nodes = nodes
            self._start()
        elif nodes != self._nodes:
            self._nodes = nodes
            self._tell(Serve(nodes))
            self._forget(self._before.keys() - nodes)

    async def close(self) -> None:
        """End it, and keep who was attached: the agent may be back soon."""
        life = self._life
        if life is None:
            return
        self._write()
        self._changed = _nobody
        self._stop()
        await asyncio.gather(life, return_exceptions=True)

    # --- its life

    def _start(self) -> None:
        try:
            key = relay_private_key(read_private_key(self._config.private_key_path))
        except PrivateKeyError as error:
            self._tell_problem(f"the relay does not work: {error}")
            return
        try:
            kept = self._store.load(time.time())
            self._before.update({public_key: path for public_key, path in kept.items() if public_key in self._nodes})
        except StateError as error:
            logger.error("who was attached to the relay is not known: %s", error)
        offer = RelayOffer(self._config.relay_port, public_key_of(key))
        config = self._config
        settings = Settings(key, config.relay_port, config.fwmark, config.relay_rate / 8, config.relay_routes_path)
        self._life = begin("starting the relay", keep_alive("the relay", lambda: self._live(settings, offer)))

    def _stop(self) -> None:
        if self._life is not None:
            self._life.cancel()
        self._life = None
        self.problem = None
        for timer in (self._forgetting, self._writing):
            if timer is not None:
                timer.cancel()
        self._forgetting = self._writing = None
        if self._offer is not None or self.attached:
            self._offer = None
            self._attached.clear()
            self._before.clear()
            self._changed()

    async def _live(self, settings: Settings, offer: RelayOffer) -> None:
        """One process's life. Raises OSError when it cannot be started."""
        loop = asyncio.get_running_loop()
        ours, theirs = Channel.pair()

        def work() -> NoReturn:
            let_go(theirs.socket.fileno())

            from .service import Service  # noqa: PLC0415

            Service(theirs, settings).run()

        try:
            pid = worker.start("sennit-relay", work)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        died = loop.create_future()
        self._channel = ours
        loop.add_reader(ours.socket, self._readable, ours, offer, died)
        try:
            self._tell(Serve(self._nodes), Resume(self._before))
            self._forgetting = loop.call_later(GRACE, self._grace_is_over)
            await died
        finally:
            loop.remove_reader(ours.socket)
            self._channel = None
            ours.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._account()

    def _readable(self, channel: Channel, offer: RelayOffer, died: asyncio.Future[None]) -> None:
        try:
            while True:
                messages = channel.receive()
                if messages is None:
                    return
                for message in messages:
                    self._heard(message, offer)
        except EOFError:
            if not died.done():
                died.set_result(None)

    def _heard(self, message: Any, offer: RelayOffer) -> None:
        if isinstance(message, Listening):
            self._tell_problem(message.problem)
            now_offered = None if message.problem else offer
            if now_offered != self._offer:
                self._offer = now_offered
                if now_offered:
                    logger.info("relaying on UDP port %d", now_offered.port)
                self._changed()
        elif isinstance(message, Report):
            self._counted = message
            if message.changes:
                for public_key, path in message.changes.items():
                    self._before.pop(public_key, None)
                    if path is None:
                        self._attached.pop(public_key, None)
                    else:
                        self._attached[public_key] = path
                if self._writing is None:
                    self._writing = asyncio.get_running_loop().call_later(WRITE_DELAY, self._write)
                self._changed()

    def _account(self) -> None:
        """The process is no more: sum up what it has counted, and remember who was attached."""
        self._counted_before, self._counted = _sum(self._counted_before, self._counted), _NOTHING
        self._before.update(self._attached)
        self._attached.clear()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    def _grace_is_over(self) -> None:
        self._forgetting = None
        self._forget(set(self._before))

    def _forget(self, public_keys: set[bytes]) -> None:
        for public_key in public_keys:
            self._before.pop(public_key, None)
        if public_keys:
            self._changed()

    def _tell(self, *commands: Any) -> None:
        if self._channel is None:
            return  # the next one is told when it is there
        try:
            told = self._channel.send(list(commands))
        except OSError:
            return  # it has died
        if not told:
            # It takes no commands, so it would go on serving whom it must not.
            logger.error("the relay does not listen to the agent")
            self._channel.socket.shutdown(socket.SHUT_RDWR)

    def _tell_problem(self, problem: Optional[str]) -> None:
        if problem and problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _write(self) -> None:
        self._writing = None
        try:
            self._store.keep(self.attached, time.time())
        except StateError as error:
            logger.error("the next run will not know who was attached to the relay: %s", error)


def _nobody() -> None:
    """Nobody is told of changes any more."""


def _sum(one: Report, other: Report) -> Report:
    """What both have counted."""
    return Report(
        {},
        one.forwarded_packets + other.forwarded_packets,
        one.forwarded_bytes + other.forwarded_bytes,
        Counter(one.drops) + Counter(other.drops),
    )
