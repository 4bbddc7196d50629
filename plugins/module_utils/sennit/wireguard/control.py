# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control half of a WireGuard device: handshakes, keypairs, timers and endpoints of all peers.

Theory of operation. The data halves seal and open packets; they know keypairs and endpoints only as far as they were
told. They report what happened (events), and Control answers with what is to be done (commands). It does no I/O and
reads no clock: `now` is monotonic and drives every timer, `wall` is the time of day and goes into timestamps only.

    receive(event)  an event of a data half; a handshake datagram from the socket is one of them
    handle_handshakes()  when there are any waiting: the part that costs
    advance()       to be called when next_deadline() is over; calling it early does no harm
    take_commands() what came of it, in the order in which it must be carried out

A session comes about in one of two ways. As initiator we send an initiation, and the response gives us a keypair that
we send with at once, an empty packet if there is nothing else, so that the responder knows. As responder we install the
keypair to receive with, answer, and send with it only after the first packet on it came. Both at once is fine: our own
handshake and the peer's do not touch each other, and the keypair slots hold both results.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable
from typing import Callable

from . import tai64n
from .constants import (
    HANDSHAKE_QUEUE_CAPACITY,
    KEY_LENGTH,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_ATTEMPT_TIME,
    REKEY_ON_RECEIVE_AFTER,
    REKEY_TIMEOUT,
    TRANSPORT_OVERHEAD,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    UNDER_LOAD_MARGIN,
)
from .cookie import CookieChecker
from .errors import DropReason, PacketError
from .events import (
    AskForCookies,
    Command,
    DataReceived,
    DataSent,
    Dropped,
    DropStaged,
    Endpoint,
    Event,
    ForgetSource,
    HandshakeCompleted,
    HandshakeGaveUp,
    HandshakeNeeded,
    HandshakeReceived,
    InstallKeypair,
    KeepaliveReceived,
    KeepaliveSent,
    Path,
    PeerConfig,
    RemoveKeypair,
    SendDatagram,
    SendKeepalive,
    SetEndpoint,
    SetIdentity,
    UseKeypair,
    endpoint_of,
    for_one_answer,
)
from .keypair import Keypair
from .load import LoadMonitor, RateLimiter
from .messages import CookieReply, Initiation, Response, message_type
from .noise import InitiatorHandshake, ResponderHandshake, StaticKeys, TransportKeys
from .peer import Peer, PeerStatus
from .queues import Numbers, queue_of
from .timers import DeadlineQueue, Expired

# Refused only after a Diffie-Hellman or more.
_COSTLY = frozenset(
    {
        DropReason.HANDSHAKE_AUTHENTICATION,
        DropReason.LOW_ORDER_POINT,
        DropReason.UNKNOWN_PEER,
        DropReason.REPLAYED_INITIATION,
        DropReason.INITIATION_FLOOD,
    }
)


class Control:
    """One device's control half. Nothing that comes from outside makes it raise; what it refuses is in `drops`."""

    def __init__(self, private_key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """random(n) gives n random bytes. See set_private_key() for the key."""
        self.drops: Counter[DropReason] = Counter()
        self.queues = 1
        """Of inbound, see queues.py; to be set before there are handshakes."""
        self._random = random
        self._peers: dict[bytes, Peer] = {}
        self._indices: dict[int, Peer] = {}
        self._heard_from: dict[int, Path] = {}  # where the last packets under a keypair came from, by its local index
        self._numbers = Numbers()  # of keypairs
        self._places = Numbers()  # of peers
        self._deadlines = DeadlineQueue()
        self._load = LoadMonitor()
        self._limiter = RateLimiter()
        self._handshakes: deque[HandshakeReceived] = deque()
        self._commands: list[Command] = []
        self._up = True
        self.set_private_key(private_key)

    @property
    def public_key(self) -> bytes:
        return self._static.public

    # --- configuration

    def set_private_key(self, private_key: bytes) -> None:
        """Be somebody else from now on: every session ends. With 32 zero bytes there is no key, and no handshake.

        A peer that has the new public key is removed. Raises ValueError when the key is not 32 bytes long.
        """
        if len(private_key) != KEY_LENGTH:
            raise ValueError(f"a private key has {KEY_LENGTH} bytes, not {len(private_key)}")
        self._static = StaticKeys.of(private_key)
        self._has_key = any(private_key)
        self._checker = CookieChecker(self._static.public, self._random)
        self._asked_until = float("-inf")  # for cookies, by the inbound half
        self._commands.append(SetIdentity(self._static.public))
        self.remove_peer(self._static.public)
        for peer in self._peers.values():
            self._forget_handshake(peer)
            self._remove_keypairs(peer, peer.keypairs.clear())
            peer.private_key_changed(self._static)

    def set_peer(self, config: PeerConfig) -> None:
        """Add a peer, or change it: its session goes on, and its endpoint moves only when the configured one did.

        Raises ValueError for a key of the wrong length or our own key.
        """
        if len(config.public_key) != KEY_LENGTH or len(config.preshared_key) != KEY_LENGTH:
            raise ValueError(f"public and preshared keys have {KEY_LENGTH} bytes")
        if config.public_key == self._static.public:
            raise ValueError("a device cannot be its own peer")
        peer = self._peers.get(config.public_key)
        if peer is None:
            peer = Peer(config, self._static, self._random, self._places.take())
            self._peers[config.public_key] = peer
            endpoint_before = None
        else:
            endpoint_before = peer.config.endpoint
            peer.config = config
        if config.endpoint is not None and config.endpoint != endpoint_before:
            self._set_endpoint(peer, config.endpoint, peer.endpoint_at)
            self._forget_ways(peer)
        if config.persistent_keepalive != peer.timers.persistent_keepalive:
            peer.timers.persistent_keepalive_configured(config.persistent_keepalive)
            self._reschedule(peer)

    def remove_peer(self, public_key: bytes) -> None:
        """Forget a peer and all its keys. Nothing happens if it is not there."""
        peer = self._peers.pop(public_key, None)
        if peer is not None:
            self._forget_handshake(peer)
            self._remove_keypairs(peer, peer.keypairs.clear())
            self._deadlines.remove(public_key)
            self._places.give_back(peer.place)

    def down(self) -> None:
        """The interface is down: every session ends, no timer runs, nothing is sent. What was counted stays."""
        self._up = False
        self._handshakes.clear()
        for peer in self._peers.values():
            self._forget_handshake(peer)
            self._remove_keypairs(peer, peer.keypairs.clear())
            self._commands.append(DropStaged(peer.public_key, DropReason.INTERFACE_DOWN))
            self._deadlines.remove(peer.public_key)

    def up(self) -> None:
        """It is up again: the first handshake with each peer need not wait."""
        self._up = True
        for peer in self._peers.values():
            peer.last_handshake_sent = float("-inf")
            peer.timers.start_anew()
            self._reschedule(peer)

    def resume(self, public_key: bytes, endpoint: Path, now: float, wall: float) -> None:
        """Start a handshake with a peer that had a session with us before we were started, and was there.

        It may still use that session, and would take 15 s to notice that nobody hears it (whitepaper section 6.5).
        """
        peer = self._peers.get(public_key)
        if peer is not None and peer.latest_handshake is None:
            self._set_endpoint(peer, endpoint, peer.endpoint_at)
            self._initiate(peer, now, wall)
            self._reschedule(peer)

    def forget_source(self, public_key: bytes, until: float) -> None:
        """Let the host choose how packets to the peer leave, until one comes: the last one's way may be gone.

        What comes by that way until then does not bring it back; the peer may be found elsewhere at any time.
        """
        peer = self._peers.get(public_key)
        if peer is None or peer.endpoint is None:
            return
        self._forget_ways(peer)
        endpoint = endpoint_of(peer.endpoint)
        if endpoint != peer.endpoint:
            peer.given_up, peer.given_up_until = peer.endpoint, until
            peer.endpoint = endpoint
            self._commands.append(ForgetSource(public_key))

    def probe(self, public_key: bytes, endpoints: Iterable[Endpoint], now: float, wall: float) -> None:
        """Try whether the peer is at one of these endpoints, too; data goes on to where it goes.

        One initiation is sent to each of them, in this order. The peer answers the first that arrives, and where its
        answer comes from is its endpoint from then on. Nobody waits for that: no timer runs, and it may be called more
        often than handshakes are started. What is under way is sent again, as a new one would make its answer void.
        """
        peer = self._peers.get(public_key)
        if peer is None or not self._up or not self._has_key or peer.static_static is None:
            return
        if peer.handshake is None or now >= peer.last_handshake_sent + REKEY_TIMEOUT:
            peer.handshake = self._new_handshake(peer, peer.static_static, wall)
            peer.last_handshake_sent = now
        initiation = peer.handshake.initiation.to_bytes()
        for endpoint in endpoints:
            datagram = peer.cookies.add_macs(initiation, now)
            peer.tx_bytes += len(datagram)
            self._commands.append(SendDatagram(datagram, endpoint))

    def move(self, public_key: bytes, endpoint: Endpoint, now: float) -> None:
        """Send to this endpoint from now on, until the peer is heard from another than before."""
        peer = self._peers.get(public_key)
        if peer is not None:
            self._set_endpoint(peer, endpoint, now)

    def status(self) -> dict[bytes, PeerStatus]:
        """Every peer by its public key."""
        return {public_key: peer.status() for public_key, peer in self._peers.items()}

    def knows(self, index: int) -> bool:
        """Whether this index is one of ours: of a handshake under way, or of a keypair."""
        return index in self._indices

    # --- what happens, and what comes of it

    def take_commands(self) -> list[Command]:
        """What is to be done, in this order. Each command is given once."""
        commands, self._commands = self._commands, []
        return commands

    def next_deadline(self) -> float | None:
        """When advance has to be called; None while no timer is running."""
        return self._deadlines.next_deadline()

    def handshakes_waiting(self) -> int:
        """How many handshake messages are still to be looked at, by handle_handshakes."""
        return len(self._handshakes)

    def receive(self, event: Event, now: float, wall: float) -> None:
        """Take in what a data half reports. Events of a peer that is no longer there are ignored.

        A handshake message is only put into the queue: sessions that are up do not wait for those that would be.
        """
        if isinstance(event, HandshakeReceived):
            if not self._up:
                self.drops[DropReason.INTERFACE_DOWN] += 1
            elif len(self._handshakes) >= HANDSHAKE_QUEUE_CAPACITY:
                self.drops[DropReason.HANDSHAKE_QUEUE_FULL] += 1
            else:
                self._handshakes.append(event)
            return
        if isinstance(event, Dropped):
            self.drops[event.reason] += event.count
            if event.reason is DropReason.COOKIE_REQUIRED:
                self._load.cookies_given(event.count, now)
                self._ask_for_cookies(now)
            return
        peer = self._peers.get(event.peer)
        if peer is None:
            return
        if isinstance(event, HandshakeNeeded):
            # Outbound may have asked before it heard of the session that we have by now; or its counter is used up.
            if not self._may_send(peer, now) or peer.keypairs.sent > REKEY_AFTER_MESSAGES:
                self._initiate(peer, now, wall)
        elif isinstance(event, (DataSent, KeepaliveSent)):
            self._transport_sent(peer, event, now, wall)
        else:
            self._transport_received(peer, event, now, wall)
        self._reschedule(peer)

    def handle_handshakes(self, now: float, wall: float, most: int = HANDSHAKE_QUEUE_CAPACITY) -> None:
        """Look at the first of the handshake messages that wait. When many do, they get cookie replies only."""
        self._load.handshakes_waiting(len(self._handshakes), now)
        for _message in range(min(most, len(self._handshakes))):
            message = self._handshakes.popleft()
            self._receive_handshake(message.datagram, message.source, now, wall)
        self._ask_for_cookies(now)

    def advance(self, now: float, wall: float) -> None:
        """Do what is due."""
        for public_key in self._deadlines.take_due(now):
            peer = self._peers[public_key]
            for timer in peer.timers.take_expired(now):
                self._expired(peer, timer, now, wall)
            self._reschedule(peer)

    # --- transport data

    def _transport_sent(self, peer: Peer, event: DataSent | KeepaliveSent, now: float, wall: float) -> None:
        keypairs = peer.keypairs
        if isinstance(event, DataSent):
            peer.tx_bytes += event.bytes
            if keypairs.current is not None and keypairs.current.local_index == event.keypair_index:
                keypairs.sent += event.packets
            peer.timers.data_sent(event.at)
        else:
            peer.tx_bytes += TRANSPORT_OVERHEAD
            keypairs.sent += 1
        peer.timers.authenticated_packet_sent(event.at)
        current = keypairs.current
        if current is not None and (
            keypairs.sent > REKEY_AFTER_MESSAGES or (current.initiator and now - current.created_at >= REKEY_AFTER_TIME)
        ):
            self._initiate(peer, now, wall)

    def _transport_received(self, peer: Peer, event: DataReceived | KeepaliveReceived, now: float, wall: float) -> None:
        # What is still under way to us on the last path, under an older keypair, does not lead back to it.
        news = self._heard_from.get(event.local_index) != event.endpoint
        if news and self._set_endpoint(peer, event.endpoint, event.at):
            self._heard_from[event.local_index] = event.endpoint
        dropped = peer.keypairs.confirmed(event.local_index)
        if dropped is not None and peer.keypairs.current is not None:
            self._remove_keypairs(peer, dropped)
            self._commands.append(UseKeypair(peer.public_key, peer.keypairs.current))
            self._handshake_complete(peer, wall)
        current = peer.keypairs.current
        if (
            current is not None
            and current.initiator
            and not peer.rekeyed_late
            and now - current.created_at >= REKEY_ON_RECEIVE_AFTER
        ):
            peer.rekeyed_late = True
            self._initiate(peer, now, wall)
        peer.timers.authenticated_packet_received(event.at)
        if isinstance(event, DataReceived):
            peer.rx_bytes += event.bytes
            peer.timers.data_received(event.at)
        else:
            peer.rx_bytes += TRANSPORT_OVERHEAD

    # --- handshakes

    def _receive_handshake(self, datagram: bytes, source: Path, now: float, wall: float) -> None:
        try:
            kind = message_type(datagram)
            if kind == TYPE_INITIATION:
                peer = self._receive_initiation(datagram, source, now)
            elif kind == TYPE_RESPONSE:
                peer = self._receive_response(datagram, source, now, wall)
            elif kind == TYPE_COOKIE_REPLY:
                peer = self._receive_cookie_reply(datagram, now)
            else:
                raise PacketError(DropReason.UNKNOWN_TYPE)
        except PacketError as error:
            self.drops[error.reason] += 1
            if error.reason in _COSTLY:
                self._load.handshake_failed(now)
            elif error.reason is DropReason.COOKIE_REQUIRED:
                self._load.cookie_given(now)
        else:
            self._reschedule(peer)

    def _admit(self, datagram: bytes, sender: int, source: Path, now: float) -> None:
        """Let a handshake message through to the costly part, or raise PacketError, perhaps with a cookie reply."""
        if not self._has_key:
            raise PacketError(DropReason.NO_PRIVATE_KEY)
        if not self._load.under_load(now):
            return
        if not self._checker.has_valid_mac2(datagram, source, now):
            reply = self._checker.reply(datagram, sender, source, now)
            self._commands.append(SendDatagram(reply, for_one_answer(source)))
            raise PacketError(DropReason.COOKIE_REQUIRED)
        if not self._limiter.allow(source[0], now):
            raise PacketError(DropReason.RATE_LIMITED)

    def _ask_for_cookies(self, now: float) -> None:
        """Have the inbound half do it, if it can, while we are under load."""
        if not self._has_key or not self._load.under_load(now):
            return
        secret, expires = self._checker.secret(now)
        until = min(self._load.until + UNDER_LOAD_MARGIN, expires)
        # Not anew for every moment more.
        if until > self._asked_until + UNDER_LOAD_MARGIN / 2 or until == expires != self._asked_until:
            self._asked_until = until
            self._commands.append(AskForCookies(secret, until))

    def _receive_initiation(self, datagram: bytes, source: Path, now: float) -> Peer:
        initiation = Initiation.parse(datagram)
        self._admit(datagram, initiation.sender, source, now)
        handshake = ResponderHandshake(self._static, initiation)
        peer = self._peers.get(handshake.remote_public)
        if peer is None:
            raise PacketError(DropReason.UNKNOWN_PEER)
        if peer.static_static is None:
            raise PacketError(DropReason.LOW_ORDER_POINT)
        peer.admit_initiation(handshake.read_timestamp(peer.static_static), now)
        local_index = self._free_index(peer)
        response, keys = handshake.respond(peer.config.preshared_key, self._random(KEY_LENGTH), local_index)
        # An initiation says that the peer is heard from there, not that it hears us there. While a session is up, that
        # goes on where it is until the first packet of the new one.
        moved = not self._may_send(peer, now)
        self._authenticated(peer, datagram, source if moved else peer.endpoint or source, now)
        keypair = self._derive(peer, keys, local_index, initiation.sender, now, initiator=False)
        self._remove_keypairs(peer, peer.keypairs.derived_as_responder(keypair))
        self._send_handshake_message(peer, response.to_bytes(), source, now)
        return peer

    def _receive_response(self, datagram: bytes, source: Path, now: float, wall: float) -> Peer:
        response = Response.parse(datagram)
        self._admit(datagram, response.sender, source, now)
        peer = self._indices.get(response.receiver)
        if peer is None or peer.handshake is None or peer.handshake.local_index != response.receiver:
            raise PacketError(DropReason.UNKNOWN_INDEX)
        keys = peer.handshake.finish(response, peer.config.preshared_key)
        peer.handshake = None
        self._authenticated(peer, datagram, source, now)
        keypair = self._derive(peer, keys, response.receiver, response.sender, now, initiator=True)
        self._remove_keypairs(peer, peer.keypairs.derived_as_initiator(keypair))
        self._commands.append(UseKeypair(peer.public_key, keypair))
        self._handshake_complete(peer, wall)
        return peer

    def _receive_cookie_reply(self, datagram: bytes, now: float) -> Peer:
        reply = CookieReply.parse(datagram)
        peer = self._indices.get(reply.receiver)
        if peer is None:
            raise PacketError(DropReason.UNKNOWN_INDEX)
        # The cookie goes into the next try, which the timer brings; answering at once would feed the load.
        peer.cookies.consume(reply, now)
        return peer

    def _initiate(self, peer: Peer, now: float, wall: float, *, retry: bool = False) -> None:
        """Start a handshake, or see to it that one is started as soon as one may be (whitepaper section 6.1)."""
        if not retry:
            peer.attempts_since = now
        if not self._up:
            self._commands.append(DropStaged(peer.public_key, DropReason.INTERFACE_DOWN))
            return
        if peer.endpoint is None:
            self._commands.append(DropStaged(peer.public_key, DropReason.NO_ENDPOINT))
            return
        if not self._has_key:
            self._commands.append(DropStaged(peer.public_key, DropReason.NO_PRIVATE_KEY))
            return
        if peer.static_static is None:
            self._commands.append(DropStaged(peer.public_key, DropReason.LOW_ORDER_POINT))
            return
        allowed_from = peer.last_handshake_sent + REKEY_TIMEOUT
        if now < allowed_from:
            peer.timers.handshake_postponed(allowed_from)
            return
        peer.handshake = self._new_handshake(peer, peer.static_static, wall)
        self._send_handshake_message(peer, peer.handshake.initiation.to_bytes(), peer.endpoint, now)
        peer.timers.handshake_initiated(now)
        peer.unanswered += 1

    def _new_handshake(self, peer: Peer, static_static: bytes, wall: float) -> InitiatorHandshake:
        """One in place of that under way, if there is one."""
        self._forget_handshake(peer)
        peer.last_timestamp_sent = tai64n.later(wall, peer.last_timestamp_sent)
        local_index = self._free_index(peer)
        self._indices[local_index] = peer
        return InitiatorHandshake(
            self._static,
            peer.public_key,
            static_static,
            ephemeral_private=self._random(KEY_LENGTH),
            local_index=local_index,
            timestamp=peer.last_timestamp_sent,
        )

    def _send_handshake_message(self, peer: Peer, message: bytes, endpoint: Path, now: float) -> None:
        datagram = peer.cookies.add_macs(message, now)
        peer.last_handshake_sent = now
        peer.tx_bytes += len(datagram)
        peer.timers.authenticated_packet_sent(now)
        self._commands.append(SendDatagram(datagram, endpoint))

    def _authenticated(self, peer: Peer, datagram: bytes, source: Path, now: float) -> None:
        peer.rx_bytes += len(datagram)
        self._set_endpoint(peer, source, now)
        peer.timers.authenticated_packet_received(now)

    def _derive(
        self, peer: Peer, keys: TransportKeys, local_index: int, remote_index: int, now: float, *, initiator: bool
    ) -> Keypair:
        """Make the keypair. It is installed for receiving before anything tells the other side that it exists."""
        number = self._numbers.take()
        keypair = Keypair(keys.send, keys.receive, local_index, remote_index, now, initiator, number)
        self._indices[local_index] = peer
        self._commands.append(InstallKeypair(peer.public_key, keypair))
        peer.timers.session_derived(now)
        return keypair

    def _handshake_complete(self, peer: Peer, wall: float) -> None:
        peer.timers.handshake_complete()
        peer.rekeyed_late = False
        peer.latest_handshake = wall
        peer.unanswered = 0
        self._commands.append(HandshakeCompleted(peer.public_key, wall))

    # --- timers

    def _expired(self, peer: Peer, timer: Expired, now: float, wall: float) -> None:
        if timer in (Expired.RETRANSMIT_HANDSHAKE, Expired.NEW_HANDSHAKE):
            # Nothing came back: perhaps it is our source that has stopped to work.
            self.forget_source(peer.public_key, now)
        if timer is Expired.RETRANSMIT_HANDSHAKE:
            if now - peer.attempts_since >= REKEY_ATTEMPT_TIME:
                self._give_up(peer)
            else:
                self._initiate(peer, now, wall, retry=True)
        elif timer is Expired.NEW_HANDSHAKE:
            self._initiate(peer, now, wall)
        elif timer is Expired.ZERO_KEYS:
            self._forget_handshake(peer)
            self._remove_keypairs(peer, peer.keypairs.clear())
            self._commands.append(DropStaged(peer.public_key, DropReason.HANDSHAKE_GAVE_UP))
        else:
            if timer is Expired.PERSISTENT_KEEPALIVE:
                peer.timers.persistent_keepalive_tried(now)
            self._send_keepalive(peer, now, wall)

    def _send_keepalive(self, peer: Peer, now: float, wall: float) -> None:
        if self._may_send(peer, now):
            self._commands.append(SendKeepalive(peer.public_key))
        else:
            self._initiate(peer, now, wall)

    def _may_send(self, peer: Peer, now: float) -> bool:
        """Whether outbound has a keypair to send with, or will have when it has carried out our commands."""
        current, sent = peer.keypairs.current, peer.keypairs.sent
        return current is not None and now - current.created_at < REJECT_AFTER_TIME and sent < REJECT_AFTER_MESSAGES

    def _give_up(self, peer: Peer) -> None:
        self._forget_handshake(peer)
        peer.timers.gave_up()
        self._commands.append(DropStaged(peer.public_key, DropReason.HANDSHAKE_GAVE_UP))
        self._commands.append(HandshakeGaveUp(peer.public_key))

    # --- bookkeeping

    def _set_endpoint(self, peer: Peer, endpoint: Path, at: float) -> bool:
        """The peer was found there at that time. Return whether that counts.

        A report that is older than what is known changes nothing, nor does one of a way that is given up.
        """
        if at < peer.endpoint_at or (endpoint == peer.given_up and at < peer.given_up_until):
            return False
        peer.endpoint_at = at
        if endpoint != peer.endpoint:
            peer.endpoint = endpoint
            self._commands.append(SetEndpoint(peer.public_key, endpoint))
        return True

    def _free_index(self, peer: Peer) -> int:
        """A random index of the peer's queue that names nothing yet, so that it tells an observer nothing either."""
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self._indices and queue_of(index, self.queues) == peer.place % self.queues:
                return index

    def _forget_handshake(self, peer: Peer) -> None:
        if peer.handshake is not None:
            del self._indices[peer.handshake.local_index]
            peer.handshake = None

    def _remove_keypairs(self, peer: Peer, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            del self._indices[keypair.local_index]
            self._numbers.give_back(keypair.number)
            self._heard_from.pop(keypair.local_index, None)
            self._commands.append(RemoveKeypair(peer.public_key, keypair.local_index))

    def _forget_ways(self, peer: Peer) -> None:
        for keypair in peer.keypairs.held():
            self._heard_from.pop(keypair.local_index, None)

    def _reschedule(self, peer: Peer) -> None:
        if self._up:
            self._deadlines.set(peer.public_key, peer.timers.next_deadline())
