# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the control half knows of one peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from .constants import INITIATION_INTERVAL, NEVER, TIMESTAMP_LENGTH
from .cookie import CookieJar
from .crypto import dh
from .errors import DropReason, PacketError
from .events import Endpoint, Path, PeerConfig, endpoint_of
from .keypair import Keypair
from .noise import InitiatorHandshake, StaticKeys
from .timers import PeerTimers

_NO_TIMESTAMP = bytes(TIMESTAMP_LENGTH)


@dataclass(frozen=True)
class PeerStatus:
    """What `wg show` tells of a peer. latest_handshake is wall-clock seconds, None when there was none yet.

    unanswered: how many initiations it was sent since.
    """

    endpoint: Endpoint | None
    latest_handshake: float | None
    rx_bytes: int
    tx_bytes: int
    unanswered: int = 0


class KeypairSlots:
    """The up to three keypairs of a peer.

    current is sent with. previous still receives what was under way when current replaced it. next is the responder's
    new one: it becomes current once a packet on it shows that the initiator has it too. A method that changes a slot
    returns the keypairs that fell out.
    """

    __slots__ = ("current", "next", "previous", "sent")

    def __init__(self) -> None:
        self.previous: Keypair | None = None
        self.current: Keypair | None = None
        self.next: Keypair | None = None
        self.sent = 0
        """Messages sent on current."""

    def derived_as_initiator(self, keypair: Keypair) -> list[Keypair]:
        """The response came. When a next is waiting, the peer may already send on it, so it is kept to receive."""
        kept = self.next or self.current
        dropped = [old for old in self.held() if old is not kept]
        self.previous, self.current, self.next = kept, keypair, None
        self.sent = 0
        return dropped

    def derived_as_responder(self, keypair: Keypair) -> list[Keypair]:
        """The response goes out. current goes on until the initiator confirms."""
        dropped = [old for old in (self.previous, self.next) if old is not None]
        self.previous, self.next = None, keypair
        return dropped

    def confirmed(self, local_index: int) -> list[Keypair] | None:
        """A packet came on the keypair of this index. None unless that was next, which is current now."""
        if self.next is None or self.next.local_index != local_index:
            return None
        dropped = [self.previous] if self.previous is not None else []
        self.previous, self.current, self.next = self.current, self.next, None
        self.sent = 0
        return dropped

    def held(self) -> list[Keypair]:
        return [keypair for keypair in (self.previous, self.current, self.next) if keypair is not None]

    def clear(self) -> list[Keypair]:
        """Forget all of them."""
        dropped = self.held()
        self.previous = self.current = self.next = None
        return dropped


class Peer:
    """One peer: what is configured, the handshake under way, its keypairs, its timers and its counters."""

    __slots__ = (
        "_static",
        "_static_static",
        "attempts_since",
        "config",
        "cookies",
        "endpoint",
        "endpoint_at",
        "given_up",
        "given_up_until",
        "handshake",
        "keypairs",
        "last_handshake_sent",
        "last_initiation_received",
        "last_timestamp_received",
        "last_timestamp_sent",
        "latest_handshake",
        "place",
        "rekeyed_late",
        "rx_bytes",
        "timers",
        "tx_bytes",
        "unanswered",
    )

    def __init__(self, config: PeerConfig, static: StaticKeys, random: Callable[[int], bytes], place: int) -> None:
        """place: a small number, its own while it is there; it says which inbound queue is the peer's."""
        self.config = config
        self.place = place
        self.endpoint: Path | None = None
        self.endpoint_at = NEVER
        """When it was found there."""
        self.given_up: Path | None = None
        """A path that is not taken up again by what came on it until then."""
        self.given_up_until = NEVER
        self.private_key_changed(static)
        self.cookies = CookieJar(config.public_key)
        self.timers = PeerTimers(random)
        self.keypairs = KeypairSlots()
        self.handshake: InitiatorHandshake | None = None
        self.attempts_since = NEVER
        """When the peer was first wanted of those initiations that it has not answered."""
        self.last_initiation_received = NEVER
        self.last_timestamp_received = _NO_TIMESTAMP
        self.last_timestamp_sent = _NO_TIMESTAMP
        self.rekeyed_late = False
        """Whether this session's one renewal on receive was tried."""
        self.latest_handshake: float | None = None
        self.unanswered = 0
        """Initiations sent since."""
        self.rx_bytes = 0
        self.tx_bytes = 0

    @property
    def public_key(self) -> bytes:
        return self.config.public_key

    def private_key_changed(self, static: StaticKeys) -> None:
        """Take up our own key; the first handshake with it need not wait."""
        self.last_handshake_sent = NEVER
        self._static = static
        self._static_static: bytes | None = None

    @property
    def static_static(self) -> bytes | None:
        """dh(our private key, the peer's public key), for each handshake; None when that is a low-order point.

        It is made for the first one: of thousands of peers only some are ever spoken with.
        """
        if self._static_static is None:
            try:
                self._static_static = dh(self._static.private, self.config.public_key)
            except PacketError:
                # Such a public key can be configured, as elsewhere; no handshake with it ever succeeds.
                self._static_static = b""
        return self._static_static or None

    def admit_initiation(self, timestamp: bytes, now: float) -> None:
        """Judge an authentic initiation by its timestamp and by when the last one came (whitepaper section 5.1).

        Raises PacketError(REPLAYED_INITIATION or INITIATION_FLOOD), and then remembers nothing of it.
        """
        if timestamp <= self.last_timestamp_received:
            raise PacketError(DropReason.REPLAYED_INITIATION)
        if now < self.last_initiation_received + INITIATION_INTERVAL:
            raise PacketError(DropReason.INITIATION_FLOOD)
        self.last_timestamp_received = timestamp
        self.last_initiation_received = now

    def status(self) -> PeerStatus:
        endpoint = None if self.endpoint is None else endpoint_of(self.endpoint)
        return PeerStatus(endpoint, self.latest_handshake, self.rx_bytes, self.tx_bytes, self.unanswered)
