# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is answered from the map, and never asked of anybody: the mesh's domain, extra records, the pools' PTR names.

No I/O. All TTLs are 0, also of negative answers (the minimum of the SOA, RFC 2308, section 5): so no cache holds on to
what the next map changes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Optional

from ..netmap.dns import is_below, reverse_zones
from ..netmap.names import DnsView
from .message import Query, dns, new_answer

_TTL = 0
_MAX_ALIASES = 8
_LOCALHOST = {"A": ("127.0.0.1",), "AAAA": ("::1",)}  # RFC 6761, section 6.3
_NOWHERE = ("invalid", "onion")  # RFC 6761, section 6.4; RFC 7686, section 2


class Zone:
    """The names of one map."""

    def __init__(self, view: DnsView) -> None:
        self._addresses = view.addresses
        self._aliases = view.aliases
        self._pointers = {
            ipaddress.ip_address(address).reverse_pointer: name for address, name in view.pointers.items()
        }
        self._zones = (view.domain, *reverse_zones(view.pools))
        # Names that hold nothing, but under which there are others: they exist (RFC 8020).
        self._inner = {
            parent
            for name in (*view.addresses, *view.aliases, *self._pointers, *self._zones)
            for parent in _parents(name)
        }

    def answer(self, query: Query) -> Optional[dns.message.Message]:
        """The answer from the map; None if the name is not the map's to answer."""
        name = query.name
        if name in self._addresses or name in self._aliases:
            return self._records(query)
        zone = next((zone for zone in self._zones if is_below(name, zone)), None)
        if zone is not None:
            return self._within(query, zone)
        last = name.rpartition(".")[2]
        if last == "localhost":
            return _local(query)
        return _negative(query, last, dns.rcode.NXDOMAIN) if last in _NOWHERE else None

    def _records(self, query: Query) -> dns.message.Message:
        answer = new_answer(query)
        answer.flags |= dns.flags.AA
        wanted = dns.rdatatype.to_text(query.type)
        owner, name = query.message.question[0].name, query.name
        for _alias in range(_MAX_ALIASES):
            target = self._aliases.get(name)
            if target is None:
                break
            answer.answer.append(dns.rrset.from_text(owner, _TTL, "IN", "CNAME", f"{target}."))
            if wanted in ("CNAME", "ANY"):
                return answer
            owner, name = dns.name.from_text(f"{target}."), target
        for kind, version in (("A", 4), ("AAAA", 6)):
            values = [text for text in self._addresses.get(name, ()) if (":" in text) == (version == 6)]
            if values and wanted in (kind, "ANY"):
                answer.answer.append(dns.rrset.from_text(owner, _TTL, "IN", kind, *values))
        if not answer.answer:
            zone = next((zone for zone in self._zones if is_below(query.name, zone)), query.name)
            answer.authority.append(_soa(zone))
        return answer

    def _within(self, query: Query, zone: str) -> dns.message.Message:
        pointer = self._pointers.get(query.name)
        if pointer is not None and query.type in (dns.rdatatype.PTR, dns.rdatatype.ANY):
            answer = new_answer(query)
            answer.flags |= dns.flags.AA
            owner = query.message.question[0].name
            answer.answer.append(dns.rrset.from_text(owner, _TTL, "IN", "PTR", f"{pointer}."))
            return answer
        if query.name == zone and query.type == dns.rdatatype.SOA:
            answer = new_answer(query)
            answer.flags |= dns.flags.AA
            answer.answer.append(_soa(zone))
            return answer
        exists = pointer is not None or query.name == zone or query.name in self._inner
        return _negative(query, zone, dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)


def _parents(name: str) -> Iterator[str]:
    _label, dot, rest = name.partition(".")
    while dot:
        yield rest
        _label, dot, rest = rest.partition(".")


def _local(query: Query) -> dns.message.Message:
    answer = new_answer(query)
    values = _LOCALHOST.get(dns.rdatatype.to_text(query.type))
    if values:
        answer.answer.append(dns.rrset.from_text(query.message.question[0].name, _TTL, "IN", query.type, *values))
    else:
        answer.authority.append(_soa("localhost"))
    return answer


def _negative(query: Query, zone: str, rcode: dns.rcode.Rcode) -> dns.message.Message:
    answer = new_answer(query, rcode)
    answer.flags |= dns.flags.AA
    answer.authority.append(_soa(zone))
    return answer


def _soa(zone: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{zone}.", _TTL, "IN", "SOA", f"{zone}. hostmaster.{zone}. 1 3600 600 86400 0")
