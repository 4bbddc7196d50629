"""A userspace datapath's control process by itself: whoever tests it is its workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, Callable, NoReturn, cast

from sennit.datapath import worker
from sennit.datapath.channel import Channel
from sennit.datapath.link_state import LinkState
from sennit.datapath.udp import UdpSocket
from sennit.datapath.userspace import UserspaceDatapath
from sennit.datapath.workers import Worker


class AlwaysUp:
    up = True

    def notice_up(self) -> None:
        pass


class Started(UserspaceDatapath):
    """With its workers' ends of the channels in our hands, and without a device."""

    def __init__(self) -> None:
        super().__init__(os.urandom(32), "none", 0, 1420, 0)
        self.sent: list[bytes] = []
        self.on_send: Callable[[], None] = lambda: None
        self._udp = cast(UdpSocket, self)
        self._link = cast(LinkState, AlwaysUp())
        self._ends = []
        for name, workers in (("inbound", self._workers.inbounds), ("outbound", self._workers.outbounds)):
            ours, theirs = Channel.pair()
            workers.append(Worker(name, 0, ours))
            self._ends.append(theirs)
        self.inbound, self.outbound = self._ends

    def send_now(self, datagram: bytes, _path: object) -> bool:
        self.sent.append(datagram)
        self.on_send()
        return True

    async def live(self, work: Awaitable[None]) -> None:
        """Do this while the loop reads from the workers."""
        self._loop = asyncio.get_running_loop()
        self._failure = self._workers.watch(self._loop, self._take)
        await work
        self._workers.unwatch()

    async def failed(self) -> None:
        """Raises DatapathError when there is a failure, while it lives."""
        await self._failure

    def end(self, name: str, error: Exception) -> int:
        """A worker ends by this error. Returns its process id."""

        def work() -> NoReturn:
            raise error

        [(each, end)] = [pair for pair in zip(self._workers.all, self._ends) if pair[0].name == name]
        each.pid = worker.start(name, work)
        end.close()
        return each.pid

    def told(self, end: Channel) -> list[Any]:
        commands: list[Any] = []
        while (message := end.receive()) is not None:
            commands += message
        return commands

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for end in (*self._ends, *(each.channel for each in self._workers.all)):
            end.close()
