# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network's DNS settings as the inventory states them: ``sennit_dns``, one for the whole network.

A dictionary with `nameservers`, `override`, `split`, `search` and `records`; what is empty is unset. The name of a
record and the target of a CNAME without any dot are completed with the network's domain; all others are full names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from .dns import (
    CNAME,
    MAX_NAMESERVERS,
    DnsSettings,
    Record,
    check_domain_suffix,
    check_nameserver,
    check_record,
    is_below,
    reverse_zones,
    stub_addresses,
)
from .endpoint import literal_address
from .inventory import Findings, Host, Refusal, agreed_value, as_boolean, as_list, is_set
from .model import Network

VARIABLE = "sennit_dns"

_KEYS = ("nameservers", "override", "split", "search", "records")
_RECORD_KEYS = ("name", "type", "value")


def read_dns(hosts: Sequence[Host], network: Network, findings: Findings) -> DnsSettings:
    """The variable; what is wrong with it goes to the findings."""
    with findings.collecting():
        value = agreed_value(hosts, VARIABLE)
        if value is not None:
            return _Reader(hosts[0].name, network, findings).settings(value)
    return DnsSettings()


def _is_prefix(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def record_text(record: Record) -> str:
    """A record as a message shows it."""
    return f"{record.name} {record.type} {record.value}"


class _Reader:
    """Reads the parts. Each raises Refusal, or notes it and leaves out what it is about."""

    def __init__(self, host: str, network: Network, findings: Findings) -> None:
        self._host = host
        self._network = network
        self._findings = findings
        self._stub = stub_addresses(network.pools)
        self._mesh_zones = reverse_zones(network.pools)

    def settings(self, value: Any) -> DnsSettings:
        entries = self._mapping(VARIABLE, value)
        for key in sorted(entries.keys() - set(_KEYS)):
            self._findings.refuse(
                self._host, f"{VARIABLE}.{key}", entries[key], f"is no setting; there are {', '.join(_KEYS)}"
            )
        nameservers = self._nameservers(f"{VARIABLE}.nameservers", entries.get("nameservers"))
        override = False
        with self._findings.collecting():
            override = as_boolean(self._host, f"{VARIABLE}.override", entries.get("override"), False)
            if override and not is_set(entries.get("nameservers")):
                reason = "is for nameservers to be used instead of the host's own; there are none"
                raise Refusal(self._host, f"{VARIABLE}.override", True, reason)
        return DnsSettings(
            nameservers=nameservers,
            override=override,
            split=dict(self._split(entries.get("split"))),
            search=self._texts(f"{VARIABLE}.search", entries.get("search"), check_domain_suffix),
            records=tuple(self._records(entries.get("records"))),
        )

    def _nameservers(self, variable: str, value: Any) -> tuple[str, ...]:
        nameservers = self._texts(variable, value, self._nameserver)
        if len(nameservers) > MAX_NAMESERVERS:
            reason = f"is a list of {len(nameservers)}; {MAX_NAMESERVERS} nameservers are as many as there can be"
            self._findings.refuse(self._host, variable, value, reason)
        return nameservers

    def _nameserver(self, text: str) -> str:
        address = check_nameserver(text)
        if address in self._stub:
            raise ValueError("is where every node's own resolver answers")
        return address

    def _split(self, value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
        variable = f"{VARIABLE}.split"
        with self._findings.collecting():
            seen = set()
            for key, nameservers in (self._mapping(variable, value) if is_set(value) else {}).items():
                try:
                    suffix = self._split_domain(key)
                    if suffix in seen:
                        raise ValueError("is there twice")
                except ValueError as error:
                    self._findings.refuse(self._host, variable, key, error)
                    continue
                seen.add(suffix)
                if not is_set(nameservers):
                    self._findings.refuse(self._host, f"{variable}.{suffix}", nameservers, "names no nameserver")
                yield suffix, self._nameservers(f"{variable}.{suffix}", nameservers)

    def _split_domain(self, text: str) -> str:
        if text.strip(".") == "":
            raise ValueError("stands for all names; the nameservers for those are sennit_dns.nameservers")
        if _is_prefix(text):
            zones = ", ".join(reverse_zones((text,))[:3])
            raise ValueError(f"is a prefix, not a domain; the names of its addresses are below {zones}")
        suffix = check_domain_suffix(text)
        if is_below(suffix, self._network.domain):
            raise ValueError(f"is within {self._network.domain}, which every node answers from the map alone")
        for zone in self._mesh_zones:
            if is_below(suffix, zone):
                raise ValueError("holds mesh addresses alone, whose names every node answers from the map")
        return suffix

    def _records(self, value: Any) -> Iterator[Record]:
        variable = f"{VARIABLE}.records"
        with self._findings.collecting():
            items = value if isinstance(value, (list, tuple)) else [value] if is_set(value) else []
            for item in items:
                with self._findings.collecting():
                    yield self._record(variable, item)

    def _record(self, variable: str, item: Any) -> Record:
        if not isinstance(item, Mapping) or set(item) != set(_RECORD_KEYS):
            raise Refusal(self._host, variable, item, f"is no record, which has {', '.join(_RECORD_KEYS)}")
        if not all(isinstance(item[key], str) for key in _RECORD_KEYS):
            raise Refusal(self._host, variable, item, "is a record of which not every part is a string")
        name, type_, value = (item[key].strip() for key in _RECORD_KEYS)
        try:
            if type_ == CNAME:
                value = self._full(value)
            else:
                address = literal_address(value)
                value = value if address is None else str(address)
            record = Record(self._full(name), type_, value)
            check_record(record)
        except ValueError as error:
            raise Refusal(self._host, variable, f"{name} {type_} {value}", str(error)) from None
        for zone in self._mesh_zones:
            if is_below(record.name, zone):
                reason = "has the name of a mesh address, which is answered from the map"
                raise Refusal(self._host, variable, record_text(record), reason)
        return record

    def _full(self, name: str) -> str:
        return check_domain_suffix(name if "." in name else f"{name}.{self._network.domain}")

    def _texts(self, variable: str, value: Any, check: Callable[[str], str]) -> tuple[str, ...]:
        """A list of texts in canonical form, none of them twice."""
        found: list[str] = []
        with self._findings.collecting():
            for text in as_list(self._host, variable, value):
                try:
                    canonical = check(text)
                    if canonical in found:
                        raise ValueError("is in the list twice")
                    found.append(canonical)
                except ValueError as error:
                    self._findings.refuse(self._host, variable, text, error)
        return tuple(found)

    def _mapping(self, variable: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise Refusal(self._host, variable, value, "is not a dictionary with names for keys")
        return value
