# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The userspace datapath: the protocol core in three or more processes around a TUN device and a UDP port.

    TUN -> outbound worker -> UDP        one process a direction, as one Python process uses one core;
    UDP -> inbound worker -> TUN         on a host with more cores, several (queues.py)
    control process (the agent's own)    handshakes, keypairs, timers; idle while data flows

The control process tells the workers what to do and they report what happened, over one channel each. Others lead
from each inbound worker to each outbound one: new endpoints and confirmed keypairs take the short way. TUN and UDP are
shared by all, and the handshake messages are sent from here.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, Union

from ..wireguard.control import Control
from ..wireguard.errors import DropReason
from ..wireguard.events import (
    AskForCookies,
    Command,
    DropStaged,
    Endpoint,
    ForgetSource,
    HandshakeCompleted,
    HandshakeGaveUp,
    HandshakeNeeded,
    InstallKeypair,
    PeerConfig,
    RemoveKeypair,
    SendDatagram,
    SendKeepalive,
    SetEndpoint,
    SetIdentity,
    UseKeypair,
)
from ..wireguard.queues import queue_of
from . import queues, sticky, worker
from .base import USERSPACE, DatapathError, DatapathStatus, InterfaceGoneError
from .channel import Channel
from .core import DatapathCore, choose
from .link_state import LinkState
from .tun import Tun
from .wiring import Wiring

if TYPE_CHECKING:
    import asyncio

_MAX_MESSAGES = 64  # taken from a worker in one turn of the event loop
_HANDSHAKES_AT_ONCE = 16  # a few milliseconds
_PEERS_AT_ONCE = 128  # configured in one turn, for the same reason
_MOST_COMMANDS = 256  # in one message: it has to fit into the channel
# Changes of the host's routes come in bursts: look a moment later, and for no more than this part of the time.
_SETTLE_TIME = 0.05
_LOOKING_SHARE = 0.1
# Seconds in which there still come answers to what was sent by the way before: they do not bring that way back.
_ANSWERS_COME_FOR = 0.5

_log = logging.getLogger(__name__)


class _Worker:
    """The control process's side of a worker."""

    def __init__(self, name: str, pid: int, channel: Channel) -> None:
        self.name = name
        self.pid = pid
        self.channel = channel
        self.gathered: list[Any] = []  # commands for one message
        self.waiting: deque[list[Any]] = deque()  # messages the channel had no room for

    def flush(self) -> bool:
        """Send what waits; True when nothing is left."""
        while self.waiting:
            if not self.channel.send(self.waiting[0]):
                return False
            self.waiting.popleft()
        return True


class UserspaceDatapath:
    """See base.py."""

    def __init__(self, private_key: bytes, interface: str, listen_port: int, mtu: int, fwmark: int) -> None:
        """fwmark 0: the underlay's packets are not marked. Raises ValueError for a malformed private key."""
        self._control = Control(private_key)
        self._private_key = private_key
        self._interface = interface
        self._port = listen_port
        self._mtu = mtu
        self._fwmark = fwmark
        self._configured: dict[bytes, PeerConfig] = {}
        self._wanted: Mapping[bytes, PeerConfig] = {}
        self._outbounds: list[_Worker] = []
        self._inbounds: list[_Worker] = []
        self._takers: list[_Worker] = []  # the outbound workers that are the first to read from the device
        self._marks: Optional[memoryview] = None  # where there are several outbound workers
        # By peer, the outbound worker that holds packets for it, as far as is known.
        self._holders: dict[bytes, _Worker] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._failure: Optional[asyncio.Future[None]] = None
        self._followers: set[int] = set()  # processes that have ended because another one had
        self._timer: Optional[asyncio.TimerHandle] = None
        self._handling = False
        self._taking_over = False
        self._ways = sticky.Ways(fwmark)
        self._look: Optional[asyncio.TimerHandle] = None
        self._look_after = 0.0
        # By peer, of packets that came when the link was up already and the port not bound yet.
        self._early: dict[bytes, HandshakeNeeded] = {}
        self._asked = 0
        # Of each report that was asked for: from how many workers it has not come yet, and who waits for it.
        self._reports: dict[int, tuple[int, asyncio.Future[None]]] = {}

    # --- the interface

    def start(self, kept: Optional[int] = None) -> None:
        """Make the device and the socket, and fork the workers. Raises DatapathError.

        kept: the descriptor of the device that the last run left.

        To be called before anything large is imported: a worker keeps what is loaded now.
        """
        number = queues.wanted()
        self._tun = Tun(self._interface, self._mtu, kept, queues=number)
        tuns = [self._tun]
        try:
            tuns += self._tun.open_others()
            self._udps = queues.open_sockets(self._port, self._fwmark, number)
        except DatapathError:
            for each in tuns:
                each.close()
            raise
        self._udp = self._udps[0]
        self._port = self._udp.port
        self._link = LinkState(
            self._tun, self._interface, set_mtu=self._set_mtu, down=self._link_down, up=self._link_up
        )
        # The port is bound while the link is up; that it can be is known now.
        if not self._link.up:
            self._control.down()
            self._unbind()
        self._control.queues = len(self._udps)
        # What lives now is never looked at by the collector again, so that its pages stay shared with the workers.
        gc.collect()
        gc.freeze()
        self._taking_over = kept is not None
        core = choose()
        self._core = core.name
        try:
            self._start_workers(tuns, core)
        finally:
            # The workers have them. With the first one alone the device stays over a restart.
            for each in tuns[1:]:
                each.close()

    @property
    def private_key(self) -> bytes:
        """32 bytes, all zero for none."""
        return self._private_key

    @property
    def fwmark(self) -> int:
        return self._fwmark

    @property
    def peers(self) -> Mapping[bytes, PeerConfig]:
        """What configure() was given last, without the peer that had our own key, if there was one."""
        return self._configured

    def set_private_key(self, private_key: bytes) -> None:
        """Be somebody else: all sessions end, and a peer that has this key is removed. The same key changes nothing.

        Raises ValueError for a malformed one.
        """
        if private_key == self._private_key:
            return
        self._control.set_private_key(private_key)
        self._private_key = private_key
        own = self._control.public_key
        if self._configured.pop(own, None) is not None:
            self._gather_for(self._workers, worker.RemovePeer(own))
        self._settle()

    def set_listen_port(self, port: int) -> None:
        """Bind another port (0: any), or do so when the link is up; the workers follow.

        Raises DatapathError, and then nothing has changed.
        """
        if not self._link.up:
            self._port = port
            self._link.notice_up()
        elif port != self._port:
            self._bind(port)

    def _bind(self, port: int) -> None:
        """Raises DatapathError."""
        udps = queues.open_sockets(port, self._fwmark, len(self._udps))
        if len(udps) != len(self._udps):
            udps[0].close()
            raise DatapathError(f"the kernel no longer steers datagrams on port {udps[0].port}")
        for workers in (self._inbounds, self._outbounds):
            for number, each in enumerate(workers):
                self._tell(each, udps[number % len(udps)].socket)
        for udp in self._udps:
            udp.close()
        self._udps, self._udp, self._port = udps, udps[0], udps[0].port

    def set_fwmark(self, fwmark: int) -> None:
        """Mark the underlay's packets, or with 0 do not. Raises DatapathError, and then nothing has changed."""
        if fwmark == self._fwmark:
            return
        for udp in self._udps:
            udp.mark(fwmark)
        self._fwmark = fwmark
        self._ways.mark_changed(fwmark)
        self._tell_all(self._outbounds, worker.SetFwmark(fwmark))

    def configure(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """Have exactly these peers. Those that stay keep their sessions. Raises ValueError for a malformed one."""
        for _slice in self._slices(peers):
            pass

    async def follow(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """See base.py."""
        import asyncio  # noqa: PLC0415

        for _slice in self._slices(peers):
            await asyncio.sleep(0)

    def _slices(self, peers: Mapping[bytes, PeerConfig]) -> Iterator[None]:
        """Bring a part of these peers into force at each step, until others are wanted."""
        self._link.notice_up()
        self._wanted = peers
        changes: list[tuple[bytes, Optional[PeerConfig]]] = [
            (public_key, None) for public_key in self._configured.keys() - peers.keys()
        ]
        changes += [(key, config) for key, config in peers.items() if config != self._configured.get(key)]
        for start in range(0, len(changes), _PEERS_AT_ONCE):
            if start:
                yield
                if self._wanted is not peers:
                    return
            for public_key, config in changes[start : start + _PEERS_AT_ONCE]:
                self._change_peer(public_key, config)
            self._settle()
        self._ways.keep(self._configured)
        if self._taking_over:
            self._tell_all(self._takers, worker.TakePackets())
            self._taking_over = False

    def _change_peer(self, public_key: bytes, config: Optional[PeerConfig]) -> None:
        """None: remove it."""
        before = self._configured.get(public_key)
        if config is None:
            self._configured.pop(public_key, None)
            self._control.remove_peer(public_key)
            self._holders.pop(public_key, None)
            self._gather_for(self._workers, worker.RemovePeer(public_key))
            return
        self._control.set_peer(config)
        if before is None or before.allowed_ips != config.allowed_ips:
            self._gather_for(self._workers, worker.SetPeer(public_key, config.allowed_ips))
        self._configured[public_key] = config

    def resume(self, endpoints: Mapping[bytes, Endpoint]) -> None:
        """See base.py."""
        self._link.notice_up()
        now, wall = time.monotonic(), time.time()
        for public_key, endpoint in endpoints.items():
            self._control.resume(public_key, endpoint, now, wall)
        self._settle()

    def probe(self, public_key: bytes, endpoints: Sequence[Endpoint]) -> None:
        """See base.py."""
        self._control.probe(public_key, endpoints, time.monotonic(), time.time())
        self._settle()

    def move(self, public_key: bytes, endpoint: Endpoint) -> None:
        """See base.py."""
        self._control.move(public_key, endpoint, time.monotonic())
        self._settle()

    async def run(self) -> None:
        """Do the control half's work until cancelled. Raises DatapathError when a worker has died."""
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        self._failure = self._loop.create_future()
        watching = sticky.watch()
        try:
            self._loop.add_reader(watching, self._host_changed, watching)
            for each in self._workers:
                self._loop.add_reader(each.channel.socket, self._readable, each)
            self._link.start(self._loop)
            self._settle()
            await self._failure
        finally:
            self._loop.remove_reader(watching)
            watching.close()
            for each in self._workers:
                self._loop.remove_reader(each.channel.socket)
                self._loop.remove_writer(each.channel.socket)
            self._link.stop()
            for timer in (self._timer, self._look):
                if timer is not None:
                    timer.cancel()
            self._loop = self._failure = self._timer = self._look = None

    def status(self) -> DatapathStatus:
        drops = {reason.value: count for reason, count in self._control.drops.items()}
        return DatapathStatus(USERSPACE, self._port, self._control.status(), drops, self._core)

    async def exact_status(self) -> DatapathStatus:
        """As status(), when all workers have told what they have counted so far; for while run() runs."""
        if self._loop is None:
            raise DatapathError("the datapath does not run")
        self._link.notice_up()
        await self._ask_workers(self._loop)
        return self.status()

    def _ask_workers(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Done when all have done what they were told so far, and told what they have counted."""
        done: asyncio.Future[None] = loop.create_future()
        self._asked += 1
        self._reports[self._asked] = len(self._workers), done
        self._tell_all(self._workers, worker.Report(self._asked))
        return done

    def keep_interface(self) -> Optional[int]:
        """See base.py."""
        return self._tun.fd

    def close(self) -> None:
        """End the workers, which hold nothing to be saved. The device goes, unless somebody else holds it."""
        for each in self._workers:
            each.channel.close()
        for pid in {each.pid for each in self._workers}:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._outbounds.clear()
        self._inbounds.clear()
        for udp in self._udps:
            udp.close()
        self._tun.close()

    # --- the workers

    @property
    def _workers(self) -> list[_Worker]:
        # The inbound ones are told first: a keypair is installed there before anything is sent that is answered on it.
        return self._inbounds + self._outbounds

    def _start_workers(self, tuns: Sequence[Tun], core: DatapathCore) -> None:
        wiring = Wiring(tuns, self._udps, core, self._taking_over)
        self._marks = wiring.marks
        for number in wiring.outbounds:
            self._outbounds += self._fork("sennit-outbound", partial(wiring.send, number))
        relieved = wiring.relieved
        for number in wiring.inbounds:
            channels = 2 if number < relieved else 1
            inbound, *beside = self._fork("sennit-inbound", partial(wiring.receive, number), channels)
            self._inbounds.append(inbound)
            self._outbounds[number:number] = beside  # in front, as they are awake at rest
        self._takers = self._outbounds[:relieved] + self._outbounds[2 * relieved :]
        wiring.close()

    def _fork(self, name: str, work: Callable[..., NoReturn], channels: int = 1) -> list[_Worker]:
        """Start a process with so many workers, each with a channel."""
        pairs = [Channel.pair() for _number in range(channels)]

        def child() -> NoReturn:
            # A worker knows by its channel's end that the control process is gone, so nobody else may keep one open.
            for ours, _theirs in pairs:
                ours.close()
            for each in self._workers:
                each.channel.close()
            work(*(theirs for _ours, theirs in pairs))

        try:
            pid = worker.start(name, child)
        except OSError as error:
            self.close()
            raise DatapathError(f"cannot start {name}: {error.strerror}") from error
        for _ours, theirs in pairs:
            theirs.close()
        return [_Worker(name, pid, ours) for ours, _theirs in pairs]

    def _readable(self, sender: _Worker) -> None:
        events: list[Any] = []
        self._link.notice_up()
        try:
            for _message in range(_MAX_MESSAGES):
                message = sender.channel.receive()
                if message is None:
                    break
                events += message
        except EOFError:
            self._fail(sender)
            return
        now, wall = time.monotonic(), time.time()
        for event in events:
            if isinstance(event, worker.Report):
                self._reported(event)
            else:
                if isinstance(event, HandshakeNeeded) and event.peer in self._configured:
                    self._holders[event.peer] = sender
                    if not self._link.up:
                        self._early[event.peer] = event
                        continue
                self._control.receive(event, now, wall)
        self._settle()
        if self._control.handshakes_waiting() and not self._handling:
            self._handle_handshakes()

    def _reported(self, report: worker.Report) -> None:
        """One worker has told all that it had counted when it was asked."""
        missing, done = self._reports[report.number]
        if missing > 1:
            self._reports[report.number] = missing - 1, done
        else:
            del self._reports[report.number]
            if not done.done():
                done.set_result(None)
            self._link.notice_up()  # the port may be free now

    def _tell(self, receiver: _Worker, *commands: Any) -> None:
        receiver.waiting.append(list(commands))
        try:
            if not receiver.flush() and self._loop is not None:
                self._loop.add_writer(receiver.channel.socket, self._writable, receiver)
        except OSError:
            self._fail(receiver)

    def _gather(self, receiver: _Worker, command: Any) -> None:
        """Tell it before anything else is told or sent."""
        receiver.gathered.append(command)
        if len(receiver.gathered) >= _MOST_COMMANDS:
            self._tell_gathered()

    def _gather_for(self, receivers: Iterable[_Worker], command: Any) -> None:
        for each in receivers:
            self._gather(each, command)

    def _tell_gathered(self) -> None:
        for each in self._workers:
            if each.gathered:
                commands, each.gathered = each.gathered, []
                self._tell(each, *commands)

    def _tell_all(self, receivers: Iterable[_Worker], command: Any) -> None:
        for each in receivers:
            self._tell(each, command)

    def _writable(self, receiver: _Worker) -> None:
        try:
            if receiver.flush() and self._loop is not None:
                self._loop.remove_writer(receiver.channel.socket)
        except OSError:
            self._fail(receiver)

    def _fail(self, dead: _Worker) -> None:
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
            if any(each.pid not in self._followers for each in self._workers):
                return
        if status == worker.EXIT_INTERFACE_GONE:
            self._failure.set_exception(InterfaceGoneError(f"the interface {self._interface} is gone"))
        else:
            self._failure.set_exception(DatapathError(f"{dead.name} (process {dead.pid}) has ended"))

    def _handle_handshakes(self) -> None:
        """A few at a time: between them the loop has its turn, and with it the sessions that are up."""
        self._control.handle_handshakes(time.monotonic(), time.time(), _HANDSHAKES_AT_ONCE)
        self._settle()
        self._handling = bool(self._control.handshakes_waiting()) and self._loop is not None
        if self._handling and self._loop is not None:
            self._loop.call_soon(self._handle_handshakes)

    # --- the link

    def _set_mtu(self, mtu: int) -> None:
        self._tell_all(self._outbounds, worker.SetMtu(mtu))

    def _link_down(self) -> Optional[asyncio.Future[None]]:
        """Return what is done when no worker holds the port any more."""
        _log.info("%s is down: its sessions end, and UDP port %d is free", self._interface, self._port)
        self._control.down()
        self._settle()
        self._unbind()
        self._gather_for(self._workers, worker.Unbind())
        self._tell_gathered()
        return self._ask_workers(self._loop) if self._loop is not None else None

    def _unbind(self) -> None:
        for udp in self._udps:
            udp.unbind()

    def _link_up(self) -> None:
        """Raises DatapathError when the port cannot be bound, and then nothing has changed."""
        self._bind(self._port)
        _log.info("%s is up", self._interface)
        self._control.up()
        now, wall = time.monotonic(), time.time()
        for event in self._early.values():
            self._control.receive(event, now, wall)
        self._early.clear()
        self._settle()

    # --- where packets leave from

    def _host_changed(self, watching: socket.socket) -> None:
        was_down = False
        with contextlib.suppress(OSError):  # BlockingIOError when it is empty, ENOBUFS when it was too full
            while True:
                was_down |= self._link.tells_down(watching.recv(65536))
        self._link.follow(was_down)
        if self._look is None and self._loop is not None:
            delay = max(_SETTLE_TIME, self._look_after - time.monotonic())
            self._look = self._loop.call_later(delay, self._look_at_routes)

    def _look_at_routes(self) -> None:
        self._look = None
        started = time.monotonic()
        self._udp.routes_changed()
        self._tell_all(self._outbounds, worker.RoutesChanged())
        for peer in self._ways.changed():
            self._control.forget_source(peer, started + _ANSWERS_COME_FOR)
        self._settle()
        ended = time.monotonic()
        self._look_after = ended + (ended - started) / _LOOKING_SHARE

    # --- the control half

    def _advance(self) -> None:
        self._timer = None
        self._control.advance(time.monotonic(), time.time())
        self._settle()

    def _settle(self) -> None:
        """Carry out what the control half wants, and wake it up when it wants to be."""
        for command in self._control.take_commands():
            self._carry_out(command)
        self._tell_gathered()
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._control.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._advance)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, SendDatagram):
            # What it brings about is what the workers have been told of.
            self._tell_gathered()
            if not self._udp.send_now(command.datagram, command.endpoint):
                self._control.drops[DropReason.SEND_FAILED] += 1
        elif isinstance(command, HandshakeCompleted):
            _log.debug("handshake with %s complete", command.peer.hex())
        elif isinstance(command, HandshakeGaveUp):
            _log.info("peer %s does not answer handshakes", command.peer.hex())
        elif isinstance(command, (SetIdentity, AskForCookies, InstallKeypair)):
            self._gather_for_inbound(command)
        else:
            self._gather_for_outbound(command)
            if isinstance(command, RemoveKeypair):
                self._gather_for(self._inbounds, command)

    def _gather_for_inbound(self, command: Union[SetIdentity, AskForCookies, InstallKeypair]) -> None:
        if not isinstance(command, InstallKeypair):
            # Not every handshake message comes where they belong.
            self._gather_for(self._inbounds, command)
            return
        if self._marks is not None:
            # The number was another keypair's before.
            self._marks[command.keypair.number % len(self._marks)] = 0
        self._gather(self._inbounds[queue_of(command.keypair.local_index, len(self._inbounds))], command)

    def _gather_for_outbound(
        self, command: Union[UseKeypair, RemoveKeypair, SetEndpoint, ForgetSource, SendKeepalive, DropStaged]
    ) -> None:
        """All of them, but one alone sends an empty packet."""
        if isinstance(command, UseKeypair):
            first = self._holders.pop(command.peer, self._outbounds[0])
            for each in self._outbounds:
                self._gather(each, command if each is first else replace(command, confirm=False))
        elif isinstance(command, SendKeepalive):
            self._gather(self._outbounds[0], command)
        else:
            if isinstance(command, SetEndpoint):
                self._ways.use(command.peer, command.endpoint)
            elif isinstance(command, ForgetSource):
                self._ways.forget(command.peer)
            self._gather_for(self._outbounds, command)
