# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiving half of the data path: datagrams in, inner packets out (whitepaper section 5.4.6).

No I/O and no clock. The unit is a batch: the datagrams of a call come from one source, as the kernel's GRO gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple, Optional, Union

from .aead import Buffer
from .allowed_ips import AllowedIPs
from .batch import HEADER, Allowed, Arrivals, Core, Opened, Opener, PythonCore
from .constants import (
    COOKIE_REPLY_LENGTH,
    HANDSHAKE_QUEUE_CAPACITY,
    INITIATION_LENGTH,
    REJECT_AFTER_TIME,
    RESPONSE_LENGTH,
    TRANSPORT_OVERHEAD,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from .cookie import Mac1Checker, valid_mac2
from .errors import DropReason
from .events import (
    AskForCookies,
    DataReceived,
    Dropped,
    Event,
    HandshakeReceived,
    KeepaliveReceived,
    Path,
    SetEndpoint,
    UseKeypair,
    endpoint_of,
)
from .keypair import Keypair
from .load import CookieBudget
from .queues import queue_of

_HANDSHAKE_LENGTHS = {
    TYPE_INITIATION: INITIATION_LENGTH,
    TYPE_RESPONSE: RESPONSE_LENGTH,
    TYPE_COOKIE_REPLY: COOKIE_REPLY_LENGTH,
}


_GATHERING_TIME = 0.01
"""Seconds. One handshake message goes to the control half at once, those that follow it go together: in a flood, waking
it up would cost more than all else."""

_NEVER = float("inf")


class KnownSource(NamedTuple):
    """How packets on a keypair are taken while they come from where they did before: until the session is over."""

    opener: Opener
    allowed: Allowed
    generation: int
    expires_at: float


class _Session:
    """The receiving side of one keypair, and what arrived on it since the last report."""

    __slots__ = (
        "at",
        "bytes",
        "endpoint",
        "expires_at",
        "keepalive",
        "local_index",
        "opener",
        "packets",
        "peer",
        "unconfirmed",
    )

    def __init__(self, peer: bytes, keypair: Keypair, opener: Opener) -> None:
        self.peer = peer
        # A responder's keypair, until the first packet on it shows that the initiator has it, too (section 5.1).
        self.unconfirmed = None if keypair.initiator else keypair
        self.opener = opener
        self.local_index = keypair.local_index
        self.expires_at = keypair.created_at + REJECT_AFTER_TIME
        self.packets = 0
        self.bytes = 0
        self.keepalive = False
        self.endpoint: Path = ("", 0)
        self.at = 0.0


class Inbound:
    """Finds the keypair by index, opens the packet, and lets through what the peer may send.

    `urgent` is true while an event waits that must not be held back to be summed up with later ones; `due` is when
    those are to be told at the latest that may wait for a moment, infinite while there are none.
    Of several queues it is one, by its number, and sets aside what belongs to another (queues.py).
    allowed_ips: as in Outbound.
    """

    def __init__(
        self,
        core: Optional[Core] = None,
        queue: int = 0,
        queues: int = 1,
        allowed_ips: Optional[AllowedIPs] = None,
    ) -> None:
        self.urgent = False
        self.due = _NEVER
        self._core: Core = core or PythonCore()
        self._queue, self._queues = queue, queues
        self._misdirected: dict[int, list[bytes]] = {}
        self._mac1: Optional[Mac1Checker] = None
        self._allowed_ips = AllowedIPs() if allowed_ips is None else allowed_ips
        self._peers: dict[bytes, dict[int, _Session]] = {}
        self._sessions: dict[int, _Session] = {}
        self._generation = 1  # of allowed IPs
        self._active: dict[int, _Session] = {}
        self._handshakes: list[HandshakeReceived] = []
        self._gathering_until = 0.0  # handshake messages
        self._asking: Optional[AskForCookies] = None
        self._cookies = CookieBudget()
        self._moved: dict[bytes, Path] = {}
        self._confirmed: dict[bytes, Keypair] = {}
        self._dropped: dict[DropReason, int] = {}
        self._heard_now: dict[int, _Session] = {}  # by the last take()
        self._known: dict[int, _Session] = {}  # those whose opener may take packets by itself

    # --- configuration and commands

    def set_identity(self, public_key: bytes) -> None:
        """Take handshake messages that are meant for this key of ours. Before it is known none are taken."""
        self._mac1 = Mac1Checker(public_key)

    def ask_for_cookies(self, command: AskForCookies) -> None:
        """Let fewer handshake messages through, as control is under load, but all that show such a cookie."""
        self._asking = command

    def set_peer(self, public_key: bytes, allowed_ips: Sequence[str]) -> None:
        """Add the peer, or give it other allowed IPs; its sessions stay. Raises ValueError for a malformed prefix."""
        self._peers.setdefault(public_key, {})
        self._allowed_ips.remove_peer(public_key)
        for prefix in allowed_ips:
            self._allowed_ips.insert(prefix, public_key)
        self._generation = self._generation % 0xFFFFFFFF + 1

    def remove_peer(self, public_key: bytes) -> None:
        for index in tuple(self._peers.get(public_key, ())):
            self.remove_keypair(index)
        self._peers.pop(public_key, None)
        self._allowed_ips.remove_peer(public_key)
        self._generation = self._generation % 0xFFFFFFFF + 1

    def install_keypair(self, public_key: bytes, keypair: Keypair) -> None:
        """Packets may arrive on this keypair from now on, besides those installed before."""
        sessions = self._peers.get(public_key)
        if sessions is not None:
            opener = self._core.opener(keypair.receive_key, keypair.local_index)
            session = _Session(public_key, keypair, opener)
            sessions[keypair.local_index] = self._sessions[keypair.local_index] = session

    def remove_keypair(self, local_index: int) -> None:
        session = self._sessions.pop(local_index, None)
        if session is not None:
            del self._peers[session.peer][local_index]
            if self._known.pop(local_index, None) is not None:
                self._collect(session)

    # --- packets

    def receive(self, datagrams: Sequence[Buffer], source: Path, now: float) -> list[bytes]:
        """As take(); return the inner packets."""
        arrivals = self._core.arrivals()
        self.take(datagrams, source, now, arrivals)
        return arrivals.packets()

    def take(self, datagrams: Sequence[Buffer], source: Path, now: float, arrivals: Arrivals) -> None:
        """Take datagrams from one source; append the inner IP packets, in order, without their padding.

        What is refused is counted by reason. Handshake messages become events.
        """
        at, count = 0, len(datagrams)
        self._heard_now.clear()
        while at < count:
            datagram = datagrams[at]
            if len(datagram) < TRANSPORT_OVERHEAD:
                self.drop(DropReason.WRONG_LENGTH)
                at += 1
                continue
            kind, index, _counter = HEADER.unpack_from(datagram)
            if kind != TYPE_TRANSPORT:
                self._handshake(kind, datagram, source, now)
                at += 1
                continue
            session = self._usable_session(index, datagram, now)
            if session is None:
                at += 1
                continue
            opened = session.opener.open(datagrams, at, arrivals, self._allowed(session.peer), self._generation)
            at = opened.end
            self._account(session, opened, source, now)

    def _allowed(self, peer: bytes) -> Callable[[bytes], bool]:
        lookup = self._allowed_ips.lookup
        return lambda source: lookup(source) == peer

    def _account(self, session: _Session, opened: Opened, source: Path, now: float) -> None:
        if opened.packets or opened.keepalives:
            # Authenticated: the peer is there, whatever the packets hold.
            self._heard(session, source, now)
            self._heard_now[session.local_index] = session
        self._count(session, opened)

    def _count(self, session: _Session, opened: Opened) -> None:
        if opened.packets or opened.keepalives:
            session.packets += opened.packets
            session.bytes += opened.bytes
            if opened.keepalives:
                session.keepalive = self.urgent = True
        for reason, dropped in (
            (DropReason.DATA_AUTHENTICATION, opened.unauthentic),
            (DropReason.REPLAYED_COUNTER, opened.replayed),
            (DropReason.COUNTER_LIMIT, opened.beyond),
            (DropReason.MALFORMED_INNER_PACKET, opened.malformed),
            (DropReason.SOURCE_NOT_ALLOWED, opened.not_allowed),
        ):
            if dropped:
                self.drop(reason, dropped)

    def _collect(self, session: _Session) -> None:
        """Count what the session's opener has taken by itself."""
        received = session.opener.received()
        if received is not None:
            opened, at = received
            if opened.packets or opened.keepalives:
                self._active[session.local_index] = session
                session.at = max(session.at, at)
            self._count(session, opened)

    def known_sources(self, source: Path) -> Iterator[KnownSource]:
        """Of the last take(), which came from there: where nothing but a command can change what becomes of more."""
        for index, session in self._heard_now.items():
            if session.endpoint == source and session.unconfirmed is None:
                self._known[index] = session
                yield KnownSource(session.opener, self._allowed(session.peer), self._generation, session.expires_at)

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count packets that were dropped, here or by whoever carries the packets further."""
        self._dropped[reason] = self._dropped.get(reason, 0) + count

    def take_events(self) -> list[Event]:
        """What happened since the last call, summed up by keypair."""
        for session in self._known.values():
            self._collect(session)
        events: list[Event] = []
        for index, session in self._active.items():
            if session.packets:
                events.append(
                    DataReceived(session.peer, session.packets, session.bytes, index, session.endpoint, session.at)
                )
                session.packets = session.bytes = 0
            if session.keepalive:
                events.append(KeepaliveReceived(session.peer, index, session.endpoint, session.at))
                session.keepalive = False
        events += self._handshakes
        events += [Dropped(reason, count) for reason, count in self._dropped.items()]
        self._handshakes.clear()
        self._active.clear()
        self._dropped.clear()
        if self.due != _NEVER:
            self._gathering_until = self.due + _GATHERING_TIME
        self.urgent, self.due = False, _NEVER
        return events

    def take_commands(self) -> list[Union[SetEndpoint, UseKeypair]]:
        """What outbound must know before it answers the packets that were received since the last call.

        The control half is told by the events and says the same, later: too late for an answer that a packet brings
        about at once, which would go to the old place, or on a keypair that a restarted peer no longer has.
        """
        if not self._moved and not self._confirmed:
            return []
        commands: list[Union[SetEndpoint, UseKeypair]] = [
            SetEndpoint(peer, endpoint) for peer, endpoint in self._moved.items()
        ]
        commands += [UseKeypair(peer, keypair) for peer, keypair in self._confirmed.items()]
        self._moved.clear()
        self._confirmed.clear()
        return commands

    def take_misdirected(self) -> dict[int, list[bytes]]:
        """By queue, datagrams of the last take() that are another's: the kernel joins what comes from one source."""
        misdirected, self._misdirected = self._misdirected, {}
        return misdirected

    def _usable_session(self, index: int, datagram: Buffer, now: float) -> Optional[_Session]:
        session = self._sessions.get(index)
        if session is None:
            queue = queue_of(index, self._queues)
            if queue == self._queue:
                self.drop(DropReason.UNKNOWN_INDEX)
            else:
                self._misdirected.setdefault(queue, []).append(bytes(datagram))
        elif now >= session.expires_at:
            self.drop(DropReason.EXPIRED_KEYPAIR)
            session = None
        return session

    def _heard(self, session: _Session, source: Path, now: float) -> None:
        """An authenticated packet came on the session."""
        self._active[session.local_index] = session
        session.at = now
        if session.endpoint != source:
            # Before the first packet it is none, so that one is urgent, too: the control half waits for it.
            session.endpoint = self._moved[session.peer] = source
            self.urgent = True
        if session.unconfirmed is not None:
            # Only the newest is taken up: one that another handshake has overtaken serves for receiving alone.
            if next(reversed(self._peers[session.peer])) == session.local_index:
                self._confirmed[session.peer] = session.unconfirmed
            session.unconfirmed = None

    def _handshake(self, kind: int, datagram: Buffer, source: Path, now: float) -> None:
        length = _HANDSHAKE_LENGTHS.get(kind)
        if length is None:
            self.drop(DropReason.UNKNOWN_TYPE)
        elif len(datagram) != length:
            self.drop(DropReason.WRONG_LENGTH)
        elif kind != TYPE_COOKIE_REPLY and (reason := self._refusal(kind, datagram, source, now)) is not None:
            self.drop(reason)
        elif len(self._handshakes) >= HANDSHAKE_QUEUE_CAPACITY:
            self.drop(DropReason.HANDSHAKE_QUEUE_FULL)
        else:
            self._handshakes.append(HandshakeReceived(bytes(datagram), source))
            if now >= self._gathering_until:
                self._gathering_until = now + _GATHERING_TIME
                self.urgent = True
            elif not self.urgent:
                self.due = self._gathering_until

    def _refusal(self, kind: int, datagram: Buffer, source: Path, now: float) -> Optional[DropReason]:
        """Why control is not told of this initiation or response; None when it is."""
        asking = self._asking
        costs = asking is not None and now < asking.until and not valid_mac2(asking.secret, datagram, source)
        if costs and not self._cookies.has(kind, endpoint_of(source), now):
            return DropReason.HANDSHAKE_QUEUE_FULL
        if self._mac1 is None or not self._mac1.valid(datagram):
            return DropReason.INVALID_MAC1
        if costs:
            self._cookies.take(kind, endpoint_of(source))
        return None
