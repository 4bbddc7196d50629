# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DNS settings of the whole network: nameservers, split domains, search domains and extra records.

The checks here are shared by the compiler, which reads an inventory, and the model, which reads a map.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .endpoint import literal_address

STUB_IPV4 = "100.100.100.100"
"""Where every node's own resolver answers: the address at which other mesh software does, too."""

_STUB_OFFSET = int(ipaddress.IPv4Address(STUB_IPV4)) - int(ipaddress.IPv4Address("100.64.0.0"))

A = "A"
AAAA = "AAAA"
CNAME = "CNAME"
RECORD_TYPES = (A, AAAA, CNAME)

MAX_NAME = 253
"""Characters of a name in text: on the wire, the 255 bytes of RFC 1035, section 2.3.4."""

MAX_NAMESERVERS = 16
"""Of one rule: more than anybody has, and few enough to ask them all."""

# Wider than RFC 1123: an underscore is common in reverse zones delegated by RFC 2317 and in service names.
_LABEL = re.compile(r"(?!-)[a-z0-9_/-]{1,63}(?<!-)\Z")


@dataclass(frozen=True)
class Record:
    """An extra record. name and, of a CNAME, value: full names in lower case, without the final dot."""

    name: str
    type: str
    value: str


@dataclass(frozen=True)
class DnsSettings:
    """nameservers: for names without a rule, instead of the host's own if `override`, else where it has none.

    split: by suffix, the nameservers of that domain and all below it. search: after the network's own domain.
    """

    nameservers: tuple[str, ...] = ()
    override: bool = False
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()


def check_domain_suffix(text: str) -> str:
    """A domain in lower case, without the final dot, at most MAX_NAME long. Raises ValueError with the reason."""
    name = text[:-1] if text.endswith(".") else text
    if len(name) > MAX_NAME:
        raise ValueError(f"is longer than a DNS name can be ({MAX_NAME})")
    name = name.lower()
    if not name or not all(_LABEL.match(label) for label in name.split(".")):
        raise ValueError("is not a DNS name")
    if literal_address(name) is not None:
        raise ValueError("is an address, not a DNS name")
    return name


def is_below(name: str, suffix: str) -> bool:
    """Whether the name is the suffix or ends in it. The empty suffix is the root, below which is everything."""
    return not suffix or name == suffix or name.endswith(f".{suffix}")


def check_nameserver(text: str) -> str:
    """A nameserver's address in canonical form. Raises ValueError for what is none, or is none that hosts share."""
    address = literal_address(text)
    if address is None:
        raise ValueError("is not an IP address, which a nameserver is given by")
    if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local:
        raise ValueError("is not the address of one host that all others reach")
    if str(address) == STUB_IPV4:
        raise ValueError("is where every node's own resolver answers")
    return str(address)


def check_record(record: Record) -> None:
    """Raises ValueError, with the reason, for a record whose parts are not in canonical form or do not fit together."""
    if record.type not in RECORD_TYPES:
        raise ValueError(f"has a type that is none of {', '.join(RECORD_TYPES)}")
    if check_domain_suffix(record.name) != record.name:
        raise ValueError("has a name that is not in lower case or ends in a dot")
    if record.type == CNAME:
        if check_domain_suffix(record.value) != record.value:
            raise ValueError("has a target that is not in lower case or ends in a dot")
        return
    address = literal_address(record.value)
    if address is None or str(address) != record.value or address.version != (4 if record.type == A else 6):
        raise ValueError(f"has a value that is not an IPv{4 if record.type == A else 6} address")


def stub_addresses(pools: tuple[str, ...]) -> tuple[str, ...]:
    """Where the stub resolver answers: 100.100.100.100 and, in the IPv6 pool, the address with the same offset.

    The offset is that of 100.100.100.100 in 100.64.0.0/10, whatever the IPv4 pool is.
    """
    ipv6 = (ipaddress.IPv6Network(pool) for pool in pools if ":" in pool)
    inside = (pool[_STUB_OFFSET] for pool in ipv6 if pool.num_addresses > _STUB_OFFSET)
    return (STUB_IPV4, *(str(address) for address in inside))


def reverse_zones(pools: tuple[str, ...]) -> tuple[str, ...]:
    """The reverse zones that cover the pools exactly (RFC 1035, section 3.5; RFC 3596, section 2.5).

    A pool that does not end at a label's border takes several: 64 for 100.64.0.0/10.
    """
    zones = []
    for pool in map(ipaddress.ip_network, pools):
        step = 8 if pool.version == 4 else 4
        length = -(-pool.prefixlen // step) * step
        for part in pool.subnets(new_prefix=length):
            labels = part.network_address.reverse_pointer.split(".")
            zones.append(".".join(labels[(part.max_prefixlen - length) // step :]))
    return tuple(zones)
