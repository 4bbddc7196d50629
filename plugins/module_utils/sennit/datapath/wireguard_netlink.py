# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel's WireGuard is told and tells (linux/uapi/linux/wireguard.h, generic netlink). Pure."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Optional

from ..netlink import NetlinkError, attribute, attributes, nested, unpack
from ..wireguard.constants import KEY_LENGTH
from ..wireguard.events import Endpoint, PeerConfig

FAMILY = "wireguard"
_VERSION = 1
_GET_DEVICE = 0
_SET_DEVICE = 1

_DEVICE_IFINDEX = 1
_DEVICE_PRIVATE_KEY = 3
_DEVICE_PUBLIC_KEY = 4
_DEVICE_LISTEN_PORT = 6
_DEVICE_FWMARK = 7
_DEVICE_PEERS = 8
_PEER_PUBLIC_KEY = 1
_PEER_PRESHARED_KEY = 2
_PEER_FLAGS = 3
_PEER_ENDPOINT = 4
_PEER_KEEPALIVE = 5
_PEER_LAST_HANDSHAKE = 6
_PEER_RX_BYTES = 7
_PEER_TX_BYTES = 8
_PEER_ALLOWED_IPS = 9
_PEER_REMOVE_ME = 0x1
_ALLOWED_IP_FAMILY = 1
_ALLOWED_IP_ADDRESS = 2
_ALLOWED_IP_LENGTH = 3

# linux/genetlink.h
CONTROL = 16
_CONTROL_GET_FAMILY = 3
_CONTROL_ID = 1
_CONTROL_NAME = 2

_GENERIC = Struct("=BBxx")  # command, version
_BYTE = Struct("=B")
_SHORT = Struct("=H")
_NUMBER = Struct("=I")
_LONG = Struct("=Q")
_TIME = Struct("=qq")  # seconds, nanoseconds
_SOCKADDR_IN = Struct("=HH4s8x")
_SOCKADDR_IN6 = Struct("=HHI16sI")  # family, port, flow information, address, scope

# Of the peers in one request, for an attribute holds no more than 64 KiB.
_MAX_BYTES = 32 * 1024
_MAX_ALLOWED_IPS = 500

Prefix = tuple[bytes, int]
"""A network's address of 4 or 16 bytes, and its length."""


@dataclass
class LivePeer:
    """A peer as the kernel has it. latest_handshake is None when there was none yet."""

    public_key: bytes
    preshared_key: bytes = field(default=bytes(KEY_LENGTH), repr=False)
    endpoint: Optional[Endpoint] = None
    persistent_keepalive: int = 0
    latest_handshake: Optional[float] = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    allowed_ips: set[Prefix] = field(default_factory=set)


@dataclass
class LiveDevice:
    """An interface as the kernel has it. public_key is empty while it has no private key."""

    public_key: bytes = b""
    listen_port: int = 0
    peers: dict[bytes, LivePeer] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerChange:
    """What is to become of one peer; None: stays as it is. allowed_ips are added, and thereby taken from others."""

    public_key: bytes
    preshared_key: Optional[bytes] = field(default=None, repr=False)
    endpoint: Optional[Endpoint] = None
    persistent_keepalive: Optional[int] = None
    allowed_ips: tuple[Prefix, ...] = ()
    remove: bool = False


# --- requests


def get_family() -> bytes:
    """Body of a request to CONTROL: the type that messages to the kernel's WireGuard have."""
    return _GENERIC.pack(_CONTROL_GET_FAMILY, 1) + attribute(_CONTROL_NAME, FAMILY.encode() + b"\0")


def get_device(index: int) -> bytes:
    return _GENERIC.pack(_GET_DEVICE, _VERSION) + attribute(_DEVICE_IFINDEX, _NUMBER.pack(index))


def set_device(index: int, private_key: bytes, listen_port: int, fwmark: int) -> bytes:
    """With the private key that it has, the interface keeps its sessions."""
    return _set(
        index,
        attribute(_DEVICE_PRIVATE_KEY, private_key),
        attribute(_DEVICE_LISTEN_PORT, _SHORT.pack(listen_port)),
        attribute(_DEVICE_FWMARK, _NUMBER.pack(fwmark)),
    )


def set_peers(index: int, changes: Iterable[PeerChange]) -> Iterator[bytes]:
    """Requests that make these changes in this order, as few as hold them."""
    peers: list[bytes] = []
    size = 0
    for change in changes:
        for peer in _peer(change):
            if peers and size + len(peer) > _MAX_BYTES:
                yield _set(index, nested(_DEVICE_PEERS, *peers))
                peers, size = [], 0
            peers.append(peer)
            size += len(peer)
    if peers:
        yield _set(index, nested(_DEVICE_PEERS, *peers))


def _set(index: int, *parts: bytes) -> bytes:
    return _GENERIC.pack(_SET_DEVICE, _VERSION) + attribute(_DEVICE_IFINDEX, _NUMBER.pack(index)) + b"".join(parts)


def _peer(change: PeerChange) -> Iterator[bytes]:
    """One peer, more than once when it has very many allowed IPs."""
    parts = [attribute(_PEER_PUBLIC_KEY, change.public_key)]
    if change.remove:
        parts.append(attribute(_PEER_FLAGS, _NUMBER.pack(_PEER_REMOVE_ME)))
    if change.preshared_key is not None:
        parts.append(attribute(_PEER_PRESHARED_KEY, change.preshared_key))
    endpoint = _sockaddr(change.endpoint) if change.endpoint else None
    if endpoint is not None:
        parts.append(attribute(_PEER_ENDPOINT, endpoint))
    if change.persistent_keepalive is not None:
        parts.append(attribute(_PEER_KEEPALIVE, _SHORT.pack(change.persistent_keepalive)))
    for start in range(0, max(1, len(change.allowed_ips)), _MAX_ALLOWED_IPS):
        allowed_ips = [_allowed_ip(*prefix) for prefix in change.allowed_ips[start : start + _MAX_ALLOWED_IPS]]
        yield nested(0, *parts, nested(_PEER_ALLOWED_IPS, *allowed_ips))
        parts = parts[:1]


def _allowed_ip(address: bytes, length: int) -> bytes:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return nested(
        0,
        attribute(_ALLOWED_IP_FAMILY, _SHORT.pack(family)),
        attribute(_ALLOWED_IP_ADDRESS, address),
        attribute(_ALLOWED_IP_LENGTH, _BYTE.pack(length)),
    )


def _sockaddr(endpoint: Endpoint) -> Optional[bytes]:
    """None for an address on an interface that is not there."""
    host, port = endpoint
    if ":" not in host:
        return _SOCKADDR_IN.pack(socket.AF_INET, socket.htons(port), socket.inet_pton(socket.AF_INET, host))
    host, _percent, scope = host.partition("%")
    try:
        index = socket.if_nametoindex(scope) if scope else 0
    except OSError:
        return None
    return _SOCKADDR_IN6.pack(socket.AF_INET6, socket.htons(port), 0, socket.inet_pton(socket.AF_INET6, host), index)


# --- answers. What does not make sense raises NetlinkError.


def parse_family(body: memoryview) -> int:
    """The answer to get_family()."""
    unpack(_GENERIC, body)
    for what, value in attributes(body[_GENERIC.size :]):
        if what == _CONTROL_ID:
            return unpack(_SHORT, value)[0]
    raise NetlinkError("no type of messages")


def parse_device(bodies: Iterable[memoryview]) -> LiveDevice:
    """The answers to get_device(), which are as many as it takes. The private key in them is left alone."""
    device = LiveDevice()
    for body in bodies:
        unpack(_GENERIC, body)
        for what, value in attributes(body[_GENERIC.size :]):
            if what == _DEVICE_PUBLIC_KEY:
                device.public_key = _key(value)
            elif what == _DEVICE_LISTEN_PORT:
                device.listen_port = unpack(_SHORT, value)[0]
            elif what == _DEVICE_PEERS:
                for _position, peer in attributes(value):
                    _parse_peer(peer, device.peers)
    return device


def _parse_peer(data: memoryview, peers: dict[bytes, LivePeer]) -> None:
    """A peer, or more allowed IPs of one that began in the message before."""
    values = dict(attributes(data))
    if _PEER_PUBLIC_KEY not in values:
        raise NetlinkError("a peer without its key")
    public_key = _key(values[_PEER_PUBLIC_KEY])
    peer = peers.setdefault(public_key, LivePeer(public_key))
    for what, value in values.items():
        if what == _PEER_PRESHARED_KEY:
            peer.preshared_key = _key(value)
        elif what == _PEER_ENDPOINT:
            peer.endpoint = _endpoint(value)
        elif what == _PEER_KEEPALIVE:
            peer.persistent_keepalive = unpack(_SHORT, value)[0]
        elif what == _PEER_LAST_HANDSHAKE:
            seconds, nanoseconds = unpack(_TIME, value)
            peer.latest_handshake = seconds + nanoseconds / 1e9 if seconds or nanoseconds else None
        elif what == _PEER_RX_BYTES:
            peer.rx_bytes = unpack(_LONG, value)[0]
        elif what == _PEER_TX_BYTES:
            peer.tx_bytes = unpack(_LONG, value)[0]
        elif what == _PEER_ALLOWED_IPS:
            peer.allowed_ips.update(_prefix(prefix) for _position, prefix in attributes(value))


def _key(value: memoryview) -> bytes:
    if len(value) != KEY_LENGTH:
        raise NetlinkError(f"a key of {len(value)} bytes")
    return bytes(value)


def _prefix(data: memoryview) -> Prefix:
    values = dict(attributes(data))
    try:
        address, length = bytes(values[_ALLOWED_IP_ADDRESS]), unpack(_BYTE, values[_ALLOWED_IP_LENGTH])[0]
    except KeyError:
        raise NetlinkError("half an allowed IP") from None
    if len(address) not in (4, 16) or length > 8 * len(address):
        raise NetlinkError("an allowed IP that is none")
    return address, length


def _endpoint(value: memoryview) -> Endpoint:
    family = unpack(_SHORT, value)[0]
    if family == socket.AF_INET:
        if len(value) < _SOCKADDR_IN.size:
            raise NetlinkError("half an endpoint")
        _family, port, address = _SOCKADDR_IN.unpack_from(value)
        return socket.inet_ntop(socket.AF_INET, address), socket.ntohs(port)
    if family != socket.AF_INET6 or len(value) < _SOCKADDR_IN6.size:
        raise NetlinkError(f"an endpoint of family {family} and {len(value)} bytes")
    _family, port, _flow, address, index = _SOCKADDR_IN6.unpack_from(value)
    host = socket.inet_ntop(socket.AF_INET6, address)
    if index:
        # Unless the interface is gone since.
        with contextlib.suppress(OSError, OverflowError):
            host += "%" + socket.if_indextoname(index)
    return host, socket.ntohs(port)


# --- from what there is to what is wanted


def changes(
    wanted: Mapping[bytes, PeerConfig],
    live: Mapping[bytes, LivePeer],
    configured: Mapping[bytes, PeerConfig],
    spare_key: bytes,
) -> list[PeerChange]:
    """What makes these peers of the live ones.

    configured is what was wanted before: an endpoint that the kernel learned stays until the configured one changes.
    Prefixes are only ever moved, so that no packet meets a peer that has lost all of them for a moment: those that a
    peer has to give up go to one of spare_key, which is removed with them.
    """
    todo: list[PeerChange] = []
    allowed_ips = {public_key: prefixes(config.allowed_ips) for public_key, config in wanted.items()}
    owners = {prefix: public_key for public_key, peer in live.items() for prefix in peer.allowed_ips}
    for public_key, config in wanted.items():
        present = live.get(public_key) or LivePeer(public_key)
        before = configured.get(public_key)
        moved = (before is None or before.endpoint != config.endpoint) and present.endpoint != config.endpoint
        change = PeerChange(
            public_key,
            config.preshared_key if config.preshared_key != present.preshared_key else None,
            config.endpoint if moved else None,
            config.persistent_keepalive if config.persistent_keepalive != present.persistent_keepalive else None,
            tuple(prefix for prefix in allowed_ips[public_key] if owners.get(prefix) != public_key),
        )
        owners.update(dict.fromkeys(allowed_ips[public_key], public_key))
        if public_key not in live or change != PeerChange(public_key):
            todo.append(change)
    surplus = tuple(
        prefix
        for prefix, public_key in owners.items()
        if public_key in wanted and prefix not in allowed_ips[public_key]
    )
    if surplus:
        todo += [PeerChange(spare_key, allowed_ips=surplus), PeerChange(spare_key, remove=True)]
    todo += [PeerChange(public_key, remove=True) for public_key in live if public_key not in wanted]
    return todo


def prefixes(allowed_ips: Iterable[str]) -> dict[Prefix, None]:
    """Allowed IPs as the kernel has them, in order. Raises ValueError."""
    networks = (ipaddress.ip_network(text, strict=False) for text in allowed_ips)
    return {(network.network_address.packed, network.prefixlen): None for network in networks}
