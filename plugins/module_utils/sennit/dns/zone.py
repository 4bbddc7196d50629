# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is answered from the map, and never asked of anybody: the mesh's domain, extra records, the pools' PTR names.

No I/O. All TTLs are 0, also of negative answers (the minimum of the SOA, RFC 2308, section 5): so no cache holds on to
what the next map changes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Optional

from ..netmap.dns import reverse_zones
from ..netmap.names import DnsView
from .message import Query, dns, new_answer, suffixes

_TTL = 0
_MAX_ALIASES = 8
_LOCALHOST = {"A": ("127.0.0.1",), "AAAA": ("::1",)}  # RFC 6761, section 6.3
_NOWHERE = ("invalid", "onion")  # RFC 6761, section 6.4; RFC 7686, section 2

_Records = Mapping[str, tuple[str, ...]]
"""By type, the values of one name, as text."""


class Zone:
    """The names of one map."""

    def __init__(self, view: DnsView) -> None:
        self._addresses = view.addresses
        self._aliases = view.aliases
        self._pointers = {
            ipaddress.ip_address(address).reverse_pointer: name for address, name in view.pointers.items()
        }
        self._zones = frozenset((view.domain, *reverse_zones(view.pools)))
        self._suffix = f".{view.domain}"
        # Names that hold nothing, but under which there are others: they exist (RFC 8020).
        held = (*view.addresses, *view.aliases, *self._pointers, *self._zones)
        self._inner = {parent for name in held for parent in suffixes(name) if parent != name}

    def aliases(self, query: Query) -> tuple[str, ...]:
        """The names that the asked one leads to by aliases of the map, in order. Empty for a query of the alias itself.

        A short name leads to the full one: a program that knows no search list must not carry it off the host either.
        """
        if query.type in (dns.rdatatype.CNAME, dns.rdatatype.ANY):
            return ()
        name, found = query.name, []
        if "." not in name and query.type in (dns.rdatatype.A, dns.rdatatype.AAAA) and name not in self._zones:
            full = f"{name}{self._suffix}"
            if full in self._addresses or full in self._aliases:
                name = full
                found.append(name)
        while name in self._aliases and len(found) < _MAX_ALIASES:
            name = self._aliases[name]
            found.append(name)
        return tuple(found)

    def alias_records(self, query: Query) -> list[dns.rrset.RRset]:
        """The CNAME records from the asked name to the last of its aliases."""
        owner, records = query.owner, []
        for target in self.aliases(query):
            records.append(dns.rrset.from_text(owner, _TTL, "IN", "CNAME", f"{target}."))
            owner = dns.name.from_text(target)
        return records

    def answer(self, query: Query) -> Optional[dns.message.Message]:
        """The answer from the map; None if nameservers are to be asked, for the last of its aliases if it has any."""
        name = (query.name, *self.aliases(query))[-1]
        zone = next((suffix for suffix in suffixes(name) if suffix in self._zones), None)
        records: _Records = {}
        rcode = dns.rcode.NOERROR
        if name in self._aliases:
            if query.type not in (dns.rdatatype.CNAME, dns.rdatatype.ANY):  # they lead in a circle
                return new_answer(query, dns.rcode.SERVFAIL)
            records = {"CNAME": (f"{self._aliases[name]}.",)}
        elif name in self._addresses:
            values = self._addresses[name]
            records = {
                "A": tuple(value for value in values if ":" not in value),
                "AAAA": tuple(value for value in values if ":" in value),
            }
        elif name in self._pointers:
            records = {"PTR": (f"{self._pointers[name]}.",)}
        elif name == zone:
            records = {"SOA": (_soa(zone),)}
        elif name == "localhost" or name.endswith(".localhost"):
            records = _LOCALHOST
        elif zone is not None or name.rpartition(".")[2] in _NOWHERE:
            rcode = dns.rcode.NOERROR if name in self._inner else dns.rcode.NXDOMAIN
        else:
            return None
        return self._authoritative(query, zone or name, records, rcode)

    def _authoritative(self, query: Query, zone: str, records: _Records, rcode: dns.rcode.Rcode) -> dns.message.Message:
        """With its aliases first; with the zone's SOA if there is nothing of the type that was asked for."""
        answer = new_answer(query, rcode)
        answer.flags |= dns.flags.AA
        answer.answer = self.alias_records(query)
        aliases = len(answer.answer)
        owner = dns.name.from_text(self.aliases(query)[-1]) if aliases else query.owner
        wanted = dns.rdatatype.to_text(query.type)
        for kind, values in records.items():
            if values and wanted in (kind, "ANY"):
                answer.answer.append(dns.rrset.from_text(owner, _TTL, "IN", kind, *values))
        if len(answer.answer) == aliases:
            answer.authority = [dns.rrset.from_text(f"{zone}.", _TTL, "IN", "SOA", _soa(zone))]
        return answer


def _soa(zone: str) -> str:
    return f"{zone}. hostmaster.{zone}. 1 3600 600 86400 0"
