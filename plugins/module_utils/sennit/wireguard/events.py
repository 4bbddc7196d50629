# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parts of the core tell each other.

The control half (handshakes, timers) and the two data halves (outbound, inbound) may live in different processes, so
they share no state: they exchange these values. All are frozen, small and picklable. A peer is named by its
32-byte public key. Byte counts are those of whole WireGuard datagrams, as in `wg show`.

The halves report in their own time, so what one of them says may be older than what the other said before. `at` is
therefore when it happened, for a sum the newest of it: monotonic time in seconds, on the one clock of all halves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from .errors import DropReason
from .keypair import Keypair

Endpoint = tuple[str, int]
"""Address and port. IPv4-mapped IPv6 addresses are given as IPv4; only link-local ones carry a scope."""

Path = Union[Endpoint, tuple[str, int, str, int]]
"""An endpoint and, when packets have come from there, the address of ours and the index of the interface they came to.

To be sent back by the same way (the kernel's and wireguard-go's sticky sockets); the core only keeps and compares it.
With interface 0 it is for one answer from that address and no more.
"""


def endpoint_of(path: Path) -> Endpoint:
    return path[0], path[1]


def for_one_answer(path: Path) -> Path:
    """For whom we know nothing of: nothing is looked up for, or kept of, a source that may be forged."""
    return path if len(path) == 2 else (*path[:3], 0)


# --- from the data halves to the control half


@dataclass(frozen=True)
class HandshakeNeeded:
    """Outbound holds packets for the peer and has no keypair it may use."""

    peer: bytes


@dataclass(frozen=True)
class DataSent:
    """Outbound sent a batch of packets with data in them. keypair_index is the keypair's local index."""

    peer: bytes
    packets: int
    bytes: int
    keypair_index: int
    at: float


@dataclass(frozen=True)
class KeepaliveSent:
    """Outbound sent an empty packet."""

    peer: bytes
    at: float


@dataclass(frozen=True)
class DataReceived:
    """Inbound authenticated packets with data in them, on the keypair of local_index.

    The first packet on a keypair must be reported at once, as it lets the responder send; later ones may be summed up
    for a short while. The endpoint is the source of the newest of them.
    """

    peer: bytes
    packets: int
    bytes: int
    local_index: int
    endpoint: Path
    at: float


@dataclass(frozen=True)
class KeepaliveReceived:
    """Inbound authenticated an empty packet, on the keypair of local_index."""

    peer: bytes
    local_index: int
    endpoint: Path
    at: float


@dataclass(frozen=True)
class HandshakeReceived:
    """A datagram of message type 1, 2 or 3, of the right length and with a valid mac1 where there is one."""

    datagram: bytes
    source: Path


@dataclass(frozen=True)
class Dropped:
    """A data half dropped this many packets for this reason."""

    reason: DropReason
    count: int


Event = Union[HandshakeNeeded, DataSent, KeepaliveSent, DataReceived, KeepaliveReceived, HandshakeReceived, Dropped]


# --- from the control half to the data halves and the shell


@dataclass(frozen=True)
class SendDatagram:
    """For the socket: send these bytes as they are."""

    datagram: bytes
    endpoint: Path


@dataclass(frozen=True)
class SetIdentity:
    """For inbound: take handshake messages that are meant for this public key of ours, and no others."""

    public_key: bytes


@dataclass(frozen=True)
class AskForCookies:
    """For inbound: until this time, on the monotonic clock, the control half answers handshake messages with cookies of
    this secret when they have no valid mac2; whoever can may do so for it.
    """

    secret: bytes = field(repr=False)
    until: float


@dataclass(frozen=True)
class InstallKeypair:
    """For inbound: packets may arrive on this keypair."""

    peer: bytes
    keypair: Keypair


@dataclass(frozen=True)
class UseKeypair:
    """For outbound: send with this keypair from now on, staged packets first; as initiator an empty one if none is.

    confirm: without it no empty one, as another outbound worker sends a first packet.
    """

    peer: bytes
    keypair: Keypair
    confirm: bool = True


@dataclass(frozen=True)
class RemoveKeypair:
    """For both data halves: forget the keypair of this local index."""

    peer: bytes
    local_index: int


@dataclass(frozen=True)
class SetEndpoint:
    """For outbound: send to this endpoint from now on."""

    peer: bytes
    endpoint: Path


@dataclass(frozen=True)
class ForgetSource:
    """For outbound: let the host choose how packets to the peer leave, wherever it is by what outbound knows.

    That may be newer than what the control half knows (Inbound.take_commands), so this does not say where.
    """

    peer: bytes


@dataclass(frozen=True)
class SendKeepalive:
    """For outbound: send what is staged or, when nothing is, one empty packet."""

    peer: bytes


@dataclass(frozen=True)
class DropStaged:
    """For outbound: drop the packets staged for the peer, and count them under this reason."""

    peer: bytes
    reason: DropReason


@dataclass(frozen=True)
class HandshakeCompleted:
    """For the log: a session with the peer is up. `at` is wall-clock time, in seconds since the epoch."""

    peer: bytes
    at: float


@dataclass(frozen=True)
class HandshakeGaveUp:
    """For the log: the peer did not answer for REKEY_ATTEMPT_TIME."""

    peer: bytes


Command = Union[
    SetIdentity,
    AskForCookies,
    SendDatagram,
    InstallKeypair,
    UseKeypair,
    RemoveKeypair,
    SetEndpoint,
    ForgetSource,
    SendKeepalive,
    DropStaged,
    HandshakeCompleted,
    HandshakeGaveUp,
]


# --- configuration


@dataclass(frozen=True)
class PeerConfig:
    """What is configured of a peer. allowed_ips are prefixes in text; persistent_keepalive is in seconds, 0 = off.

    A preshared key of 32 zero bytes is the same as none (whitepaper section 5.2).
    """

    public_key: bytes
    allowed_ips: tuple[str, ...] = ()
    endpoint: Union[Endpoint, None] = None
    persistent_keepalive: int = 0
    preshared_key: bytes = field(default=bytes(32), repr=False)
