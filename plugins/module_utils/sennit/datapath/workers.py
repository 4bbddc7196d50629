# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control process's side of the workers: what they are told, what they have told, and that none has ended."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from . import worker
from .base import DatapathError, InterfaceGoneError
from .channel import Channel
from .wiring import Wiring

if TYPE_CHECKING:
    import asyncio

_MAX_MESSAGES = 64  # taken from a worker in one turn of the event loop
_MOST_COMMANDS = 256  # in one message: it has to fit into the channel


class Worker:
    """One of them."""

    def __init__(self, name: str, pid: int, channel: Channel) -> None:
        self.name = name
        self.pid = pid
        self.channel = channel
        self.gathered: list[Any] = []  # commands for one message
        self._waiting: deque[list[Any]] = deque()  # messages the channel had no room for

    def send(self, *commands: Any) -> bool:
        """Behind what waits already. See flush()."""
        self._waiting.append(list(commands))
        return self.flush()

    def flush(self) -> bool:
        """Send what waits; True when nothing is left. Raises OSError when the worker has ended."""
        while self._waiting:
            if not self.channel.send(self._waiting[0]):
                return False
            self._waiting.popleft()
        return True


class Workers:
    """All of a datapath's. Commands can be given from the start; what the workers say is heard by watch()."""

    def __init__(self, interface: str) -> None:
        self.inbounds: list[Worker] = []
        self.outbounds: list[Worker] = []
        self.takers: list[Worker] = []
        """The outbound workers that are the first to read from the device."""
        self._interface = interface
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._failure: Optional[asyncio.Future[None]] = None
        self._followers: set[int] = set()  # processes that have ended because another one had
        self._asked = 0
        # Of each report that was asked for: from how many workers it has not come yet, and who waits for it.
        self._reports: dict[int, tuple[int, asyncio.Future[None]]] = {}

    @property
    def all(self) -> list[Worker]:
        # The inbound ones are told first: a keypair is installed there before anything is sent that is answered on it.
        return self.inbounds + self.outbounds

    def start(self, wiring: Wiring) -> None:
        """Fork them. Raises DatapathError, when none of them is left."""
        for number in wiring.outbounds:
            self.outbounds += self._fork("sennit-outbound", partial(wiring.send, number))
        relieved = wiring.relieved
        for number in wiring.inbounds:
            channels = 2 if number < relieved else 1
            inbound, *beside = self._fork("sennit-inbound", partial(wiring.receive, number), channels)
            self.inbounds.append(inbound)
            self.outbounds[number:number] = beside  # in front, as they are awake at rest
        self.takers = self.outbounds[:relieved] + self.outbounds[2 * relieved :]

    def _fork(self, name: str, work: Callable[..., NoReturn], channels: int = 1) -> list[Worker]:
        """Start a process with so many workers, each with a channel."""
        pairs = [Channel.pair() for _number in range(channels)]

        def child() -> NoReturn:
            # A worker knows by its channel's end that the control process is gone, so nobody else may keep one open.
            for ours, _theirs in pairs:
                ours.close()
            for each in self.all:
                each.channel.close()
            work(*(theirs for _ours, theirs in pairs))

        try:
            pid = worker.start(name, child)
        except OSError as error:
            self.close()
            raise DatapathError(f"cannot start {name}: {error.strerror}") from error
        for _ours, theirs in pairs:
            theirs.close()
        return [Worker(name, pid, ours) for ours, _theirs in pairs]

    def close(self) -> None:
        """End them. They hold nothing to be saved."""
        for each in self.all:
            each.channel.close()
        for pid in {each.pid for each in self.all}:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.outbounds.clear()
        self.inbounds.clear()

    # --- what they are told

    def tell(self, receiver: Worker, *commands: Any) -> None:
        try:
            if not receiver.send(*commands) and self._loop is not None:
                self._loop.add_writer(receiver.channel.socket, self._writable, receiver)
        except OSError:
            self._fail(receiver)

    def tell_all(self, receivers: Iterable[Worker], command: Any) -> None:
        for each in receivers:
            self.tell(each, command)

    def gather(self, receiver: Worker, command: Any) -> None:
        """Tell it with the next tell_gathered(), which is to come before anything else is told or sent."""
        receiver.gathered.append(command)
        if len(receiver.gathered) >= _MOST_COMMANDS:
            self.tell_gathered()

    def gather_for(self, receivers: Iterable[Worker], command: Any) -> None:
        for each in receivers:
            self.gather(each, command)

    def gather_for_all(self, command: Any) -> None:
        self.gather_for(self.all, command)

    def tell_gathered(self) -> None:
        for each in self.all:
            if each.gathered:
                commands, each.gathered = each.gathered, []
                self.tell(each, *commands)

    def _writable(self, receiver: Worker) -> None:
        try:
            if receiver.flush() and self._loop is not None:
                self._loop.remove_writer(receiver.channel.socket)
        except OSError:
            self._fail(receiver)

    # --- what they tell

    def watch(self, loop: asyncio.AbstractEventLoop, take: Callable[[Worker, list[Any]], None]) -> asyncio.Future[None]:
        """Give their events to take(), until unwatch(). The future raises DatapathError when one of them has ended."""
        self._loop = loop
        self._failure = loop.create_future()
        for each in self.all:
            loop.add_reader(each.channel.socket, self._readable, each, take)
        return self._failure

    def unwatch(self) -> None:
        if self._loop is not None:
            for each in self.all:
                self._loop.remove_reader(each.channel.socket)
                self._loop.remove_writer(each.channel.socket)
        self._loop = self._failure = None

    def ask(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Done when all have done what they were told so far, and have told what they have counted."""
        done: asyncio.Future[None] = loop.create_future()
        self._asked += 1
        self._reports[self._asked] = len(self.all), done
        self.tell_all(self.all, worker.Report(self._asked))
        return done

    def _readable(self, sender: Worker, take: Callable[[Worker, list[Any]], None]) -> None:
        events: list[Any] = []
        reports: list[worker.Report] = []
        try:
            for _message in range(_MAX_MESSAGES):
                message = sender.channel.receive()
                if message is None:
                    break
                for event in message:
                    if isinstance(event, worker.Report):
                        reports.append(event)
                    else:
                        events.append(event)
        except EOFError:
            self._fail(sender)
            return
        take(sender, events)
        for report in reports:
            self._reported(report)

    def _reported(self, report: worker.Report) -> None:
        """One worker has told all that it had counted when it was asked."""
        missing, done = self._reports[report.number]
        if missing > 1:
            self._reports[report.number] = missing - 1, done
        else:
            del self._reports[report.number]
            if not done.done():
                done.set_result(None)

    def _fail(self, dead: Worker) -> None:
        if self._failure is None or self._failure.done():
            return
        # It is collected by close().
        ended = os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        status = ended.si_status if ended and ended.si_code == os.CLD_EXITED else None
        if status == worker.EXIT_OTHER_ENDED and self._loop is not None:
            # The other one is what the failure is about, and its channels end now, too.
            self._followers.add(dead.pid)
            self._loop.remove_reader(dead.channel.socket)
            self._loop.remove_writer(dead.channel.socket)
            if any(each.pid not in self._followers for each in self.all):
                return
        if status == worker.EXIT_INTERFACE_GONE:
            self._failure.set_exception(InterfaceGoneError(f"the interface {self._interface} is gone"))
        else:
            self._failure.set_exception(DatapathError(f"{dead.name} (process {dead.pid}) has ended"))
