# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and prefixes on the control node: strict parsing and overlaps, through netaddr."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Optional, TypeVar

try:
    from netaddr import INET_PTON, AddrFormatError, IPAddress, IPNetwork

    NETADDR_IMPORT_ERROR: Optional[str] = None
except ImportError:
    NETADDR_IMPORT_ERROR = traceback.format_exc()
    # The two names stand in annotations; nothing is called when the library is missing (see NETADDR_IMPORT_ERROR).
    IPAddress = IPNetwork = object

__all__ = [
    "NETADDR_IMPORT_ERROR",
    "IPAddress",
    "IPNetwork",
    "Owned",
    "host_network",
    "overlaps",
    "parse_address",
    "parse_on_link",
    "parse_prefix",
    "unroutable",
]

Owner = TypeVar("Owner")

# Nothing in these can be routed to another host, or through a tunnel (RFC 6890 and its registries).
_UNROUTABLE = (
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
)


def parse_address(text: str) -> IPAddress:
    """One address, written in full. Raises ValueError with the reason."""
    try:
        # inet_pton takes dotted quads only; inet_aton would read "10.1" as 10.0.0.1 and 010.0.0.1 as octal.
        return IPAddress(text, flags=INET_PTON)
    except (AddrFormatError, ValueError):
        raise ValueError("is not an IP address") from None


def parse_prefix(text: str) -> IPNetwork:
    """A prefix, ``address/length``, without host bits. Raises ValueError with the reason."""
    address_text, slash, length = text.partition("/")
    try:
        address = IPAddress(address_text, flags=INET_PTON)
    except (AddrFormatError, ValueError):
        raise ValueError("is not a prefix like 192.168.10.0/24 or fd12::/64") from None
    if not slash:
        raise ValueError("has no prefix length")
    limit = 32 if address.version == 4 else 128
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= limit):
        raise ValueError(f"has a prefix length that is not a number from 0 to {limit}")
    prefix = IPNetwork(f"{address}/{int(length)}")
    if prefix.ip != prefix.network:
        raise ValueError(f"has host bits set; the prefix is {prefix.cidr}")
    return prefix


def parse_on_link(text: str) -> IPNetwork:
    """What a host reports of its own networks: an address, a prefix, or an address with its prefix length.

    Raises ValueError for what is none of them.
    """
    address, slash, length = text.partition("/")
    try:
        parsed = IPAddress(address.partition("%")[0], flags=INET_PTON)
        return IPNetwork(f"{parsed}/{length}" if slash else str(parsed)).cidr
    except (AddrFormatError, ValueError):
        raise ValueError("is neither an address nor a prefix") from None


def host_network(address: IPAddress) -> IPNetwork:
    """The prefix of one address alone."""
    return IPNetwork(address)


def unroutable(prefix: IPNetwork) -> Optional[str]:
    """What the prefix holds that no tunnel may carry, e.g. ``link-local``; None if nothing."""
    if prefix.prefixlen == 0:
        return "default route"
    for text, what in _UNROUTABLE:
        special = IPNetwork(text)
        if special.version == prefix.version and (special in prefix or prefix in special):
            return what
    return None


@dataclass(frozen=True)
class Owned(Generic[Owner]):
    """A prefix and whose it is."""

    prefix: IPNetwork
    owner: Owner


def overlaps(
    claims: Iterable[Owned[Owner]], others: Iterable[Owned[Owner]] = ()
) -> Iterator[tuple[Owned[Owner], Owned[Owner]]]:
    """Each pair of a claim and another claim, or one of the others, that share an address.

    Two prefixes either nest or are apart. So in order of their first address, wider first, a prefix overlaps just those
    before it that have not ended yet: O(n log n) and the pairs found, where all against all would take minutes.
    """
    marked = [(claim, True) for claim in claims] + [(other, False) for other in others]
    marked.sort(key=lambda item: (item[0].prefix.version, item[0].prefix.first, item[0].prefix.prefixlen))
    open_claims: list[Owned[Owner]] = []
    open_others: list[Owned[Owner]] = []
    for entry, is_claim in marked:
        version, first = entry.prefix.version, entry.prefix.first
        for opened in (open_claims, open_others):
            while opened and (opened[-1].prefix.version != version or opened[-1].prefix.last < first):
                opened.pop()
        for claim in open_claims:
            yield claim, entry
        if is_claim:
            for other in open_others:
                yield entry, other
        (open_claims if is_claim else open_others).append(entry)
