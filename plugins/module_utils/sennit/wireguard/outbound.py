# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sending half of the data path: inner packets in, sealed datagrams out (whitepaper section 5.4.6).

No I/O and no clock. The unit is a batch: all packets of a call have one destination, and what comes out for a peer goes
to one endpoint, so that the caller can hand it to the kernel at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Optional

from .addresses import packed_address
from .aead import Buffer
from .allowed_ips import AllowedIPs
from .batch import Core, PythonCore, Sealer
from .constants import NEVER, REJECT_AFTER_TIME, STAGED_PACKETS, TRANSPORT_OVERHEAD
from .errors import DropReason
from .events import DataSent, Dropped, Event, HandshakeNeeded, KeepaliveSent, Path, endpoint_of
from .keypair import Keypair
from .queues import ALL, Share

_UDP = 17
_PORTS = Struct("!HH")

Batch = tuple[Path, Sequence[Buffer]]
"""Datagrams in the order of their counters, all for one endpoint."""


class KnownDestination(NamedTuple):
    """How packets to an address, packed, are sent: until the session is over, or the counter used up."""

    destination: bytes
    sealer: Sealer
    path: Path
    expires_at: float


class _Session:
    """The sending side of one keypair."""

    __slots__ = ("expires_at", "local_index", "sealer")

    def __init__(self, keypair: Keypair, sealer: Sealer) -> None:
        self.sealer = sealer
        self.expires_at = keypair.created_at + REJECT_AFTER_TIME
        self.local_index = keypair.local_index


class _Peer:
    __slots__ = ("endpoint", "endpoint_address", "newest", "public_key", "session", "staged", "used")

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key
        self.endpoint: Optional[Path] = None
        self.endpoint_address = b""  # the same, packed
        self.session: Optional[_Session] = None
        # When the newest keypair was made that was ever used, and the index of each that was made then.
        self.newest = NEVER
        self.used: tuple[int, ...] = ()
        # None while there are none, as for most peers at most times.
        self.staged: Optional[deque[bytes]] = None


class _Sent:
    """What was sent on one keypair since the last report."""

    __slots__ = ("at", "bytes", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.at = 0.0


class Outbound:
    """Routes packets by allowed IPs, seals them, and stages them while a peer has no keypair.

    mtu is the tunnel's: padding never makes a packet longer than that.
    `urgent` is true while an event waits that must not be held back to be summed up with later ones, and none has to be
    told by a time that is `due`.
    `port` is the one that datagrams are sent from, 0 while that is not known.
    share: of the keypairs' counters, where others seal on the same keypairs.
    allowed_ips: those of an Inbound that is told of the same peers, in the same process.
    """

    def __init__(
        self,
        mtu: int,
        core: Optional[Core] = None,
        share: Optional[Share] = None,
        allowed_ips: Optional[AllowedIPs] = None,
    ) -> None:
        self.urgent = False
        self.due = float("inf")
        self.port = 0
        self._mtu = mtu
        self._share = share
        self._core: Core = core or PythonCore()
        self._allowed_ips = AllowedIPs() if allowed_ips is None else allowed_ips
        self._peers: dict[bytes, _Peer] = {}
        self._route: tuple[Optional[bytes], Optional[_Peer]] = (None, None)  # the last destination's
        self._needed: dict[bytes, None] = {}
        self._keepalives: dict[bytes, float] = {}
        self._sent: dict[tuple[bytes, int], _Sent] = {}
        self._dropped: dict[DropReason, int] = {}
        # Those whose sealer may send by itself, by peer and keypair.
        self._known: dict[tuple[bytes, int], tuple[_Peer, _Session]] = {}

    # --- configuration and commands

    def set_peer(self, public_key: bytes, allowed_ips: Sequence[str]) -> None:
        """Add the peer, or give it other allowed IPs; its session stays. Raises ValueError for a malformed prefix."""
        self._peers.setdefault(public_key, _Peer(public_key))
        self._allowed_ips.remove_peer(public_key)
        for prefix in allowed_ips:
            self._allowed_ips.insert(prefix, public_key)
        self._route = (None, None)

    def remove_peer(self, public_key: bytes) -> None:
        peer = self._peers.pop(public_key, None)
        if peer is None:
            return
        self._allowed_ips.remove_peer(public_key)
        self._route = (None, None)
        self._drop_staged(peer, DropReason.PEER_REMOVED)

    def set_mtu(self, mtu: int) -> None:
        """The tunnel's MTU is another now."""
        self._mtu = mtu
        for peer in self._peers.values():
            if peer.session is not None:
                peer.session.sealer.mtu = mtu

    def set_endpoint(self, public_key: bytes, endpoint: Path) -> None:
        peer = self._peers.get(public_key)
        if peer is not None:
            peer.endpoint = endpoint
            peer.endpoint_address = packed_address(endpoint[0])
            self._route = (None, None)

    def forget_source(self, public_key: bytes) -> None:
        peer = self._peers.get(public_key)
        if peer is not None and peer.endpoint is not None:
            peer.endpoint = endpoint_of(peer.endpoint)

    def use_keypair(self, public_key: bytes, keypair: Keypair, now: float, *, confirm: bool = True) -> list[Batch]:
        """Send with this keypair from now on; return what was staged, sealed.

        An initiator with nothing staged sends an empty packet: the responder waits for a first one (section 5.1).
        Without `confirm` that is left to another worker.
        A keypair that was in use already, or that is older than one that was, is not taken up again: its counter would
        begin anew, and a counter is never used twice.
        """
        peer = self._peers.get(public_key)
        if peer is None or keypair.created_at < peer.newest:
            return []
        if keypair.created_at > peer.newest:
            peer.newest = keypair.created_at
            peer.used = ()
        if keypair.local_index in peer.used:
            return []
        peer.used += (keypair.local_index,)
        counters = self._share.counters(keypair) if self._share is not None else ALL
        sealer = self._core.sealer(keypair.send_key, keypair.remote_index, self._mtu, counters)
        peer.session = _Session(keypair, sealer)
        return self.send_keepalive(public_key, now) if keypair.initiator and confirm else self._flush(peer, now)

    def remove_keypair(self, public_key: bytes, local_index: int) -> None:
        peer = self._peers.get(public_key)
        if peer is not None and peer.session is not None and peer.session.local_index == local_index:
            peer.session = None

    def send_keepalive(self, public_key: bytes, now: float) -> list[Batch]:
        """Send what is staged or, when nothing is, one empty packet (section 6.5)."""
        peer = self._peers.get(public_key)
        if peer is None:
            return []
        return self._flush(peer, now) if peer.staged else self._seal(peer, (b"",), now)

    def drop_staged(self, public_key: bytes, reason: DropReason) -> None:
        peer = self._peers.get(public_key)
        if peer is not None:
            self._drop_staged(peer, reason)

    # --- packets

    def send(self, packets: Sequence[Buffer], now: float) -> list[Batch]:
        """Take IP packets with one destination. What cannot be sent now is staged or dropped, and counted."""
        if not packets:
            return []
        destination = self._core.destination(packets)
        if not destination:
            self.drop(DropReason.MALFORMED_OUTGOING_PACKET, len(packets))
            return []
        known, peer = self._route
        if destination != known:
            owner = self._allowed_ips.lookup(destination)
            # Of shared allowed IPs the owner may not be known here yet, or no more.
            peer = None if owner is None else self._peers.get(owner)
            if peer is not None and destination == peer.endpoint_address:
                packets = self._without_our_own(packets, peer)
                if not packets:
                    return []
            else:
                self._route = (destination, peer)
        if peer is None:
            self.drop(DropReason.NO_PEER_FOR_DESTINATION, len(packets))
            return []
        return self._seal(peer, packets, now)

    def known_destination(self) -> Optional[KnownDestination]:
        """The last destination, where nothing but a command can change what becomes of packets to it."""
        destination, peer = self._route
        if not destination or peer is None or peer.session is None or peer.endpoint is None:
            return None
        session = peer.session
        self._known[peer.public_key, session.local_index] = peer, session
        return KnownDestination(destination, session.sealer, peer.endpoint, session.expires_at)

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count packets that were dropped, here or by whoever carries the packets further."""
        self._dropped[reason] = self._dropped.get(reason, 0) + count

    def take_events(self) -> list[Event]:
        """What happened since the last call, summed up by peer and keypair."""
        self._collect()
        events: list[Event] = [HandshakeNeeded(peer) for peer in self._needed]
        events += [
            DataSent(peer, sent.packets, sent.bytes, index, sent.at) for (peer, index), sent in self._sent.items()
        ]
        events += [KeepaliveSent(peer, at) for peer, at in self._keepalives.items()]
        events += [Dropped(reason, count) for reason, count in self._dropped.items()]
        self._needed.clear()
        self._sent.clear()
        self._keepalives.clear()
        self._dropped.clear()
        self.urgent = False
        return events

    def _without_our_own(self, packets: Sequence[Buffer], peer: _Peer) -> Sequence[Buffer]:
        """Drop what we have sealed already: the way to the endpoint leads into the tunnel, and it would come again."""
        ports = _PORTS.pack(self.port, peer.endpoint[1] if peer.endpoint else 0)
        others = [packet for packet in packets if _udp_ports(packet) != ports]
        if len(others) == len(packets):
            return packets
        self.drop(DropReason.ROUTING_LOOP, len(packets) - len(others))
        return others

    def _seal(self, peer: _Peer, packets: Sequence[Buffer], now: float) -> list[Batch]:
        session, endpoint = peer.session, peer.endpoint
        if endpoint is None:
            self.drop(DropReason.NO_ENDPOINT, len(packets))
            return []
        if session is None or now >= session.expires_at or not session.sealer.ready(len(packets)):
            peer.session = None
            self._stage(peer, packets)
            return []
        datagrams, size = session.sealer.seal(packets)
        if size:
            self._count(
                (peer.public_key, session.local_index), len(packets), size + TRANSPORT_OVERHEAD * len(packets), now
            )
        else:
            self._keepalives[peer.public_key] = now
            self.urgent = True
        return [(endpoint, datagrams)]

    def _count(self, keypair: tuple[bytes, int], packets: int, size: int, at: float) -> None:
        sent = self._sent.get(keypair)
        if sent is None:
            sent = self._sent[keypair] = _Sent()
        sent.packets += packets
        sent.bytes += size
        sent.at = max(sent.at, at)

    def _collect(self) -> None:
        """Count what sealers have sent by themselves."""
        over = []
        for keypair, (peer, session) in self._known.items():
            sent = session.sealer.sent()
            if sent is not None:
                self._count(keypair, *sent)
            if peer.session is not session:
                over.append(keypair)
        for keypair in over:
            del self._known[keypair]

    def _flush(self, peer: _Peer, now: float) -> list[Batch]:
        staged, peer.staged = peer.staged, None
        return self._seal(peer, list(staged), now) if staged else []

    def _stage(self, peer: _Peer, packets: Sequence[Buffer]) -> None:
        # The first staged packet starts a handshake; those behind it remind the control half, should it have given up.
        if not peer.staged:
            self.urgent = True
        self._needed[peer.public_key] = None
        staged = peer.staged = peer.staged or deque()
        staged.extend(bytes(packet) for packet in packets if packet)
        surplus = len(staged) - STAGED_PACKETS
        if surplus > 0:
            for _packet in range(surplus):
                staged.popleft()  # the oldest: whoever sent it has most likely sent it again
            self.drop(DropReason.STAGED_QUEUE_FULL, surplus)

    def _drop_staged(self, peer: _Peer, reason: DropReason) -> None:
        if peer.staged:
            self.drop(reason, len(peer.staged))
            peer.staged = None


def _udp_ports(packet: Buffer) -> bytes:
    """Source and destination port as they are in the packet; empty when it is not UDP, or a later fragment."""
    if packet[0] >> 4 == 6:
        at, protocol, fragment = 40, packet[6], 0
    else:
        at, protocol, fragment = (packet[0] & 15) * 4, packet[9], (packet[6] & 0x1F) << 8 | packet[7]
    return bytes(packet[at : at + 4]) if protocol == _UDP and not fragment else b""
