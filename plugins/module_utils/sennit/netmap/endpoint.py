# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a node is reached on the underlay: ``host:port``, ``[v6]:port``, or a bare host with the default port."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Optional, Union

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_NUMERIC = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)\Z")

_EMBEDDED = bytes(10)  # before an IPv4 address in an IPv6 one

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def split_endpoint(text: str, default_port: Optional[int] = None) -> tuple[str, int]:
    """Host (an address in canonical form, or a DNS name in lower case) and port of an endpoint.

    Raises ValueError, with the reason, for what is neither; also when the port is left out and there is no default.
    """
    bare = literal_address(text)
    if bare is not None:
        host, port_text = text, ""
    elif text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise ValueError("an IPv6 endpoint is written [address]:port")
        port_text = rest[1:]
        bare = literal_address(host)
        if bare is None or ":" not in host:
            raise ValueError("what is between the brackets is not an IPv6 address")
    else:
        host, colon, port_text = text.partition(":")
        if ":" in port_text:
            raise ValueError("is neither an IPv6 address nor host:port")
        if colon and not port_text:
            raise ValueError("has a colon but no port")
        bare = literal_address(host)
    if bare is not None:
        host = str(bare)
        if bare.is_unspecified or bare.is_multicast or bare.is_loopback or bare.is_link_local or bare.is_reserved:
            raise ValueError("is an address at which no other host can reach this one")
    else:
        host = check_dns_name(host)
    return host, _port(port_text, default_port)


def join_endpoint(host: str, port: int) -> str:
    """The canonical text of an endpoint, as `wg` writes it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def literal_address(text: str) -> Optional[IPAddress]:
    """The address if `text` is one, written without a scope; else None. An IPv4-mapped one is the IPv4 address."""
    if "%" in text or "/" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def packed_address(text: str) -> bytes:
    """The 4 or 16 bytes of an address without a scope. Raises ValueError.

    With address_text() it does what the library's ipaddress does, in a fifth of the time: a map has thousands.
    """
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError as error:
        raise ValueError("is no address") from error


def address_text(packed: bytes) -> str:
    """The canonical text of an address, as ipaddress writes it."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed.startswith(_EMBEDDED):
        # Libraries differ in whether they write the last four bytes as in IPv4.
        return str(ipaddress.IPv6Address(packed))
    return socket.inet_ntop(socket.AF_INET6, packed)


def check_dns_name(name: str) -> str:
    """The name in lower case and without the final dot. Raises ValueError for what is no DNS name (RFC 1123, 2.1)."""
    labels = (name[:-1] if name.endswith(".") else name).split(".")
    if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        raise ValueError("is neither an address nor a DNS name")
    # libc reads "10.1", "0x7f.1" and "300.1.1.1" as addresses or not at all, never as names; no top-level domain is
    # a number.
    if _NUMERIC.match(labels[-1]):
        raise ValueError("ends in a number but is not an address")
    return ".".join(labels).lower()


def _port(text: str, default: Optional[int]) -> int:
    if not text:
        if default is None:
            raise ValueError("has no port")
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError("has a port that is not a number from 1 to 65535")
    return int(text)
