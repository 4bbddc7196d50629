# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cross-platform API's messages (https://www.wireguard.com/xplatform/#configuration-protocol). No I/O.

A request is lines of key=value, the first of them get=1 or set=1, and an empty line. So is an answer, which ends with
errno: 0, or the negative of one of errno.h, as wireguard-go has it and `wg` reads it.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional, Union

from ..netmap.endpoint import address_text, join_endpoint, packed_address
from ..wireguard.events import Endpoint, PeerConfig
from ..wireguard.peer import PeerStatus

MAX_LINE = 4096
MAX_REQUEST_BYTES = 32 << 20
"""Room for a hundred thousand peers."""

_KEY = re.compile(r"[0-9a-fA-F]{64}\Z")
_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}\Z", re.ASCII)


class UapiError(Exception):
    """A request that is refused. The only exception that reading one raises; code is one of errno.h."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Get:
    """What there is."""


@dataclass
class PeerChange:
    """What is set of one peer; None: left as it is. allowed_ips: prefixes, and whether they come or go, in order."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: Optional[bytes] = field(default=None, repr=False)
    endpoint: Optional[Endpoint] = None
    persistent_keepalive: Optional[int] = None
    replace_allowed_ips: bool = False
    allowed_ips: list[tuple[str, bool]] = field(default_factory=list)


@dataclass
class Set:
    """What is set of the interface; None: left as it is. A private key of 32 zero bytes is none."""

    private_key: Optional[bytes] = field(default=None, repr=False)
    listen_port: Optional[int] = None
    fwmark: Optional[int] = None
    replace_peers: bool = False
    peers: list[PeerChange] = field(default_factory=list)


Request = Union[Get, Set]


# --- requests


class RequestReader:
    """Takes what a client sends, in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._request: Optional[Request] = None
        self._error: Optional[UapiError] = None
        self._bytes = 0

    def feed(self, data: bytes) -> Iterator[Union[Request, UapiError]]:
        """The requests that are complete now; an error in place of one that is malformed, which is read to its end.

        Raises UapiError when it is not known where the next request begins. Then there is no going on.
        """
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._bytes += len(line) + 1
            self._check(line)
            if line or self._request is None:
                self._take(line)
            else:
                yield self._error or self._request
                self._request = self._error = None
                self._bytes = 0
        self._check(self._rest)

    def _check(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise UapiError(errno.EMSGSIZE, f"a line of more than {MAX_LINE} bytes")
        if self._bytes > MAX_REQUEST_BYTES:
            raise UapiError(errno.EMSGSIZE, f"a request of more than {MAX_REQUEST_BYTES} bytes")

    def _take(self, line: bytes) -> None:
        if self._request is None:
            if line not in (b"get=1", b"set=1"):
                raise UapiError(errno.EPROTO, f"{line[:60]!r} is neither get=1 nor set=1")
            self._request = Get() if line == b"get=1" else Set()
        elif self._error is None:
            try:
                _read_line(self._request, line)
            except UapiError as error:
                self._error = error


def _read_line(request: Request, line: bytes) -> None:
    """Add one line to the request. Raises UapiError."""
    try:
        key, equals, value = line.decode("ascii").partition("=")
    except UnicodeDecodeError:
        raise UapiError(errno.EINVAL, f"{line[:60]!r} is not ASCII") from None
    if not equals:
        raise UapiError(errno.EPROTO, f"{line[:60]!r} is not key=value")
    if isinstance(request, Get):
        raise UapiError(errno.EINVAL, f"{key[:60]} in a get")
    try:
        if key == "public_key":
            request.peers.append(PeerChange(_key(value)))
        elif request.peers:
            _PEER_KEYS[key](request.peers[-1], value)
        else:
            _DEVICE_KEYS[key](request, value)
    except KeyError:
        where = "a peer" if request.peers else "the interface"
        raise UapiError(errno.EINVAL, f"{key[:60]} is nothing that {where} has") from None
    except ValueError as error:
        raise UapiError(errno.EINVAL, f"{key}: {error}") from None


def _key(value: str) -> bytes:
    if not _KEY.match(value):
        raise ValueError("not a key of 64 hexadecimal digits")
    return bytes.fromhex(value)


def _number(value: str, limit: int) -> int:
    if not (value.isdigit() and len(value) <= 10 and int(value) < limit):
        raise ValueError(f"not a number below {limit}")
    return int(value)


def _true(value: str) -> bool:
    if value != "true":
        raise ValueError("may only be true")
    return True


def _endpoint(value: str) -> Endpoint:
    host, _colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError("not an address and a port") from None
    if bracketed != (address.version == 6):
        raise ValueError("not an address and a port")
    return str(getattr(address, "ipv4_mapped", None) or address), _number(port, 1 << 16)


def _prefix(value: str) -> tuple[str, bool]:
    """The prefix in its canonical form, and whether it comes; with a minus before it, it goes."""
    address, _slash, length = value.lstrip("-").partition("/")
    if "%" in address or not _PREFIX_LENGTH.match(length) or value.startswith("--"):
        raise ValueError("not a prefix")
    try:
        return _canonical(address, int(length)), not value.startswith("-")
    except ValueError:
        raise ValueError("not a prefix") from None


def _canonical(address: str, length: int) -> str:
    """Raises ValueError."""
    packed = packed_address(address)
    behind = 8 * len(packed) - length
    if behind < 0:
        raise ValueError("a prefix longer than an address")
    network = int.from_bytes(packed, "big") >> behind << behind
    return f"{address_text(network.to_bytes(len(packed), 'big'))}/{length}"


def _version(_peer: PeerChange, value: str) -> None:
    if value != "1":
        raise ValueError("only version 1 is known")


def _replace_allowed_ips(peer: PeerChange, value: str) -> None:
    peer.replace_allowed_ips = _true(value)
    peer.allowed_ips.clear()


_DEVICE_KEYS: Mapping[str, Callable[[Set, str], None]] = {
    "private_key": lambda device, value: setattr(device, "private_key", _key(value)),
    "listen_port": lambda device, value: setattr(device, "listen_port", _number(value, 1 << 16)),
    "fwmark": lambda device, value: setattr(device, "fwmark", _number(value, 1 << 32)),
    "replace_peers": lambda device, value: setattr(device, "replace_peers", _true(value)),
}
_PEER_KEYS: Mapping[str, Callable[[PeerChange, str], None]] = {
    "remove": lambda peer, value: setattr(peer, "remove", _true(value)),
    "update_only": lambda peer, value: setattr(peer, "update_only", _true(value)),
    "preshared_key": lambda peer, value: setattr(peer, "preshared_key", _key(value)),
    "endpoint": lambda peer, value: setattr(peer, "endpoint", _endpoint(value)),
    "persistent_keepalive_interval": lambda peer, value: setattr(peer, "persistent_keepalive", _number(value, 1 << 16)),
    "replace_allowed_ips": _replace_allowed_ips,
    "allowed_ip": lambda peer, value: peer.allowed_ips.append(_prefix(value)),
    "protocol_version": _version,
}


# --- answers


def status(error: Optional[UapiError] = None) -> bytes:
    """The end of an answer."""
    return f"errno={-error.code if error else 0}\n\n".encode()


def description(
    private_key: bytes,
    listen_port: int,
    fwmark: int,
    peers: Mapping[bytes, PeerConfig],
    live: Mapping[bytes, PeerStatus],
) -> bytes:
    """The answer to Get, without its end. peers: what is configured; live: what there is of those."""
    lines = [f"private_key={private_key.hex()}"] if any(private_key) else []
    lines.append(f"listen_port={listen_port}")
    if fwmark:
        lines.append(f"fwmark={fwmark}")
    for public_key, config in peers.items():
        now = live[public_key]
        seconds, rest = divmod(now.latest_handshake or 0.0, 1)
        lines += [
            f"public_key={public_key.hex()}",
            f"preshared_key={config.preshared_key.hex()}",
            "protocol_version=1",
            *([f"endpoint={join_endpoint(*now.endpoint)}"] if now.endpoint else []),
            f"last_handshake_time_sec={int(seconds)}",
            f"last_handshake_time_nsec={int(rest * 1e9)}",
            f"tx_bytes={now.tx_bytes}",
            f"rx_bytes={now.rx_bytes}",
            f"persistent_keepalive_interval={config.persistent_keepalive}",
            *(f"allowed_ip={prefix}" for prefix in config.allowed_ips),
        ]
    return "\n".join([*lines, ""]).encode()
