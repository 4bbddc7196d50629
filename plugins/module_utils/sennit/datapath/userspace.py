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

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Optional, Union

from ..wireguard.control import Control
from ..wireguard.errors import DropReason
from ..wireguard.events import (
    AskForCookies,
    Command,
    DropStaged,
    Endpoint,
    Event,
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
from . import host_changes, queues, sticky, worker
from .base import USERSPACE, DatapathError, DatapathStatus
from .core import choose
from .link_state import LinkState
from .tun import Tun
from .wiring import Wiring
from .workers import Worker, Workers

if TYPE_CHECKING:
    import asyncio

_HANDSHAKES_AT_ONCE = 16  # a few milliseconds
_PEERS_AT_ONCE = 128  # configured in one turn, for the same reason
# Seconds in which there still come answers to what was sent by the way before: they do not bring that way back.
_ANSWERS_COME_FOR = 0.5

_log = logging.getLogger(__name__)


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
        self._workers = Workers(interface)
        self._marks: Optional[memoryview] = None  # where there are several outbound workers
        # By peer, the outbound worker that holds packets for it, as far as is known.
        self._holders: dict[bytes, Worker] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._handling = False
        self._taking_over = False
        self._ways = sticky.Ways(fwmark)
        # By peer, of packets that came when the link was up already and the port not bound yet.
        self._early: dict[bytes, HandshakeNeeded] = {}

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
            wiring = Wiring(tuns, self._udps, core, self._taking_over)
            self._marks = wiring.marks
            self._workers.start(wiring)
            wiring.close()
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
            self._workers.gather_for_all(worker.RemovePeer(own))
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
        for workers in (self._workers.inbounds, self._workers.outbounds):
            for number, each in enumerate(workers):
                self._workers.tell(each, udps[number % len(udps)].socket)
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
        self._workers.tell_all(self._workers.outbounds, worker.SetFwmark(fwmark))

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
            self._workers.tell_all(self._workers.takers, worker.TakePackets())
            self._taking_over = False

    def _change_peer(self, public_key: bytes, config: Optional[PeerConfig]) -> None:
        """None: remove it."""
        before = self._configured.get(public_key)
        if config is None:
            self._configured.pop(public_key, None)
            self._control.remove_peer(public_key)
            self._holders.pop(public_key, None)
            self._workers.gather_for_all(worker.RemovePeer(public_key))
            return
        self._control.set_peer(config)
        if before is None or before.allowed_ips != config.allowed_ips:
            self._workers.gather_for_all(worker.SetPeer(public_key, config.allowed_ips))
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
        try:
            with host_changes.watched(self._loop, self._notified, self._look_at_routes):
                failure = self._workers.watch(self._loop, self._take)
                self._link.start(self._loop)
                self._settle()
                await failure
        finally:
            self._workers.unwatch()
            self._link.stop()
            if self._timer is not None:
                self._timer.cancel()
            self._loop = self._timer = None

    def status(self) -> DatapathStatus:
        drops = {reason.value: count for reason, count in self._control.drops.items()}
        return DatapathStatus(USERSPACE, self._port, self._control.status(), drops, self._core)

    async def exact_status(self) -> DatapathStatus:
        """As status(), when all workers have told what they have counted so far; for while run() runs."""
        if self._loop is None:
            raise DatapathError("the datapath does not run")
        self._link.notice_up()
        await self._workers.ask(self._loop)
        return self.status()

    def keep_interface(self) -> Optional[int]:
        """See base.py."""
        return self._tun.fd

    def close(self) -> None:
        """End the workers. The device goes, unless somebody else holds it."""
        self._workers.close()
        for udp in self._udps:
            udp.close()
        self._tun.close()

    # --- what the workers tell

    def _take(self, sender: Worker, events: Sequence[Event]) -> None:
        self._link.notice_up()
        now, wall = time.monotonic(), time.time()
        for event in events:
            if isinstance(event, HandshakeNeeded) and event.peer in self._configured:
                self._holders[event.peer] = sender
                if not self._link.up:
                    self._early[event.peer] = event
                    continue
            self._control.receive(event, now, wall)
        self._settle()
        if self._control.handshakes_waiting() and not self._handling:
            self._handle_handshakes()

    def _handle_handshakes(self) -> None:
        """A few at a time: between them the loop has its turn, and with it the sessions that are up."""
        self._control.handle_handshakes(time.monotonic(), time.time(), _HANDSHAKES_AT_ONCE)
        self._settle()
        self._handling = bool(self._control.handshakes_waiting()) and self._loop is not None
        if self._handling and self._loop is not None:
            self._loop.call_soon(self._handle_handshakes)

    # --- the link

    def _set_mtu(self, mtu: int) -> None:
        self._workers.tell_all(self._workers.outbounds, worker.SetMtu(mtu))

    def _link_down(self) -> Optional[asyncio.Future[None]]:
        """Return what is done when no worker holds the port any more."""
        _log.info("%s is down: its sessions end, and UDP port %d is free", self._interface, self._port)
        self._control.down()
        self._settle()
        self._unbind()
        self._workers.gather_for_all(worker.Unbind())
        self._workers.tell_gathered()
        if self._loop is None:
            return None
        unbound = self._workers.ask(self._loop)
        unbound.add_done_callback(lambda _unbound: self._link.notice_up())
        return unbound

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

    def _notified(self, notifications: Sequence[bytes]) -> None:
        self._link.follow(was_down=any(map(self._link.tells_down, notifications)))

    def _look_at_routes(self) -> None:
        now = time.monotonic()
        self._udp.routes_changed()
        self._workers.tell_all(self._workers.outbounds, worker.RoutesChanged())
        for peer in self._ways.changed():
            self._control.forget_source(peer, now + _ANSWERS_COME_FOR)
        self._settle()

    # --- the control half

    def _advance(self) -> None:
        self._timer = None
        self._control.advance(time.monotonic(), time.time())
        self._settle()

    def _settle(self) -> None:
        """Carry out what the control half wants, and wake it up when it wants to be."""
        for command in self._control.take_commands():
            self._carry_out(command)
        self._workers.tell_gathered()
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
            self._workers.tell_gathered()
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
                self._workers.gather_for(self._workers.inbounds, command)

    def _gather_for_inbound(self, command: Union[SetIdentity, AskForCookies, InstallKeypair]) -> None:
        if not isinstance(command, InstallKeypair):
            # Not every handshake message comes where they belong.
            self._workers.gather_for(self._workers.inbounds, command)
            return
        if self._marks is not None:
            # The number was another keypair's before.
            self._marks[command.keypair.number % len(self._marks)] = 0
        self._workers.gather(
            self._workers.inbounds[queue_of(command.keypair.local_index, len(self._workers.inbounds))], command
        )

    def _gather_for_outbound(
        self, command: Union[UseKeypair, RemoveKeypair, SetEndpoint, ForgetSource, SendKeepalive, DropStaged]
    ) -> None:
        """All of them, but one alone sends an empty packet."""
        if isinstance(command, UseKeypair):
            first = self._holders.pop(command.peer, self._workers.outbounds[0])
            for each in self._workers.outbounds:
                self._workers.gather(each, command if each is first else replace(command, confirm=False))
        elif isinstance(command, SendKeepalive):
            self._workers.gather(self._workers.outbounds[0], command)
        else:
            if isinstance(command, SetEndpoint):
                self._ways.use(command.peer, command.endpoint)
            elif isinstance(command, ForgetSource):
                self._ways.forget(command.peer)
            self._workers.gather_for(self._workers.outbounds, command)
