# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay's process: one UDP socket, asleep while nothing comes."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, NoReturn, Optional

from ..datapath.base import DatapathError
from ..datapath.channel import Channel
from ..datapath.udp import UdpSocket
from ..log import logger
from ..state import RouteStore, StateError
from ..wireguard.batch import RECEIVE_ROOM
from ..wireguard.events import Path
from .forwarding import Forwarder, Sending
from .messages import Listening, Report, Resume, Serve, Settings

LISTEN_RETRY = 2.0
"""Seconds until a port that was not to be had is tried again."""
RECEIVES = 16
"""So many before it looks at its commands again."""
RESUMED_AT_ONCE = 32
# Seconds. Of who is attached the agent is told at once, but not more often than this; of the counters less often.
CHANGES_INTERVAL = 0.1
COUNTERS_INTERVAL = 1.0
# Seconds from a change of the routes until they are written down, and the part of the time that this may take.
WRITE_DELAY = 1.0
WRITE_SHARE = 0.01


class Service:
    """One loop over two descriptors. The agent at the other end of the channel gives it its commands."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._forwarder = Forwarder(settings.private_key, settings.rate)
        self._room = memoryview(bytearray(RECEIVE_ROOM))
        self._resumed: dict[bytes, Path] = {}
        self._changes: dict[bytes, Optional[Path]] = {}
        self._counted: tuple[int, dict[str, int]] = (0, {})
        self._reported_at = -math.inf
        self._worked = False
        self._store = RouteStore(settings.routes_path)
        self._written = 0
        self._write_at = math.inf
        self._write_delay = WRITE_DELAY

    def run(self) -> NoReturn:
        """Until the agent is gone (EOFError, or an OSError of the channel)."""
        try:
            self._serve()
        finally:
            self._write_routes()

    def _serve(self) -> NoReturn:
        self._poll = select.poll()
        self._poll.register(self._channel.socket, select.POLLIN)
        self._udp = self._listen()
        self._poll.register(self._udp.socket, select.POLLIN)
        timeout: Optional[float] = None
        while True:
            ready = {descriptor for descriptor, _events in self._poll.poll(timeout)}
            # Commands first: who is cut off is cut off before anything else is forwarded.
            if self._channel.socket.fileno() in ready:
                self._obey()
            if self._udp.socket.fileno() in ready:
                self._pump()
            now, wall = time.monotonic(), time.time()
            if self._resumed:
                self._resume(now, wall)
            deadline = self._forwarder.next_deadline()
            if deadline is not None and now >= deadline:
                self._send(self._forwarder.advance(now, wall))
                self._worked = True
                deadline = self._forwarder.next_deadline()
            if now >= self._write_at:
                self._write_routes()
            timeout = self._sleep(now, deadline)

    def _listen(self) -> UdpSocket:
        """The socket, as soon as it can be had."""
        told = None
        while True:
            try:
                udp = UdpSocket(self._settings.port, self._settings.fwmark)
            except DatapathError as error:
                if str(error) != told:
                    told = str(error)
                    self._channel.send([Listening(f"the relay does not work: {error}")])
            else:
                self._channel.send([Listening(None)])
                return udp
            if self._poll.poll(1000 * LISTEN_RETRY):
                self._obey()

    def _obey(self) -> None:
        while True:
            commands = self._channel.receive()
            if commands is None:
                return
            for command in commands:
                self._carry_out(command)

    def _carry_out(self, command: Any) -> None:
        if isinstance(command, Serve):
            self._forwarder.use(command.nodes, time.monotonic(), time.time())
            self._worked = True
        elif isinstance(command, Resume):
            self._resumed.update(command.paths)
            self._restore_routes()
        else:
            raise TypeError(f"not a command for the relay: {command!r}")

    def _pump(self) -> None:
        forwarder, receive, room = self._forwarder, self._udp.receive, self._room
        now, wall = time.monotonic(), time.time()
        self._worked = True
        for _receive in range(RECEIVES):
            received = receive(room)
            if received is None:
                return
            # Who was cut off before this came gets none of it forwarded.
            if self._channel.waits():
                self._obey()
            length, size, source = received
            self._send(forwarder.receive(room[:length], size, source, now, wall))

    def _send(self, sendings: Iterable[Sending]) -> None:
        for datagrams, path in sendings:
            failed = self._udp.send(datagrams, path)
            if failed:
                self._forwarder.send_failed(failed)

    def _resume(self, now: float, wall: float) -> None:
        """With some of them, so that what is forwarded need not wait for all."""
        some = dict(islice(self._resumed.items(), RESUMED_AT_ONCE))
        for public_key in some:
            del self._resumed[public_key]
        self._send(self._forwarder.resume(some, now, wall))

    def _restore_routes(self) -> None:
        try:
            self._forwarder.restore(self._store.load(time.time()), time.monotonic())
        except StateError as error:
            logger.error("what the relay knew of sessions is lost: %s", error)

    def _write_routes(self) -> None:
        """For the relay after this one, however this one ends."""
        self._write_at = math.inf
        routes = self._forwarder.routes
        if routes.change == self._written:
            return
        self._written, began = routes.change, time.monotonic()
        try:
            self._store.keep(routes, time.time())
        except StateError as error:
            logger.error("the next relay will not know of the sessions: %s", error)
        self._write_delay = max(WRITE_DELAY, (time.monotonic() - began) / WRITE_SHARE)

    def _sleep(self, now: float, deadline: Optional[float]) -> Optional[float]:
        """Report if it is time. For how many milliseconds there is nothing to do; None: until something comes."""
        if self._resumed:
            return 0
        if self._forwarder.routes.change != self._written:
            self._write_at = min(self._write_at, now + self._write_delay)
        wake_at = self._write_at if deadline is None else min(deadline, self._write_at)
        if self._worked:
            wake_at = min(wake_at, self._report(now))
        # Rounded up: not to be awake just before it is time.
        return None if wake_at == math.inf else max(0, math.ceil(1000 * (wake_at - now)))

    def _report(self, now: float) -> float:
        """Report if it is time, and tell when it will be again."""
        forwarder = self._forwarder
        self._changes.update(forwarder.take_changes())
        counted = (forwarder.forwarded_packets, forwarder.drops)
        if not self._changes and counted == self._counted:
            self._worked = False
            return math.inf
        due_at = self._reported_at + (CHANGES_INTERVAL if self._changes else COUNTERS_INTERVAL)
        if now < due_at:
            return due_at
        self._reported_at = now
        report = Report(self._changes, counted[0], forwarder.forwarded_bytes, counted[1])
        if self._channel.send([report]):
            self._changes, self._counted, self._worked = {}, counted, False
            return math.inf
        # The agent is busy; it hears the sum of it later.
        return now + COUNTERS_INTERVAL
