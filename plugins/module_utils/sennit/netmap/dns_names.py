# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of the members and of the extra records together: each one's own, none too long, no alias astray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from .dns import CNAME, MAX_NAME, DnsSettings, Record, is_below
from .dns_inventory import VARIABLE, record_text
from .inventory import Findings
from .names import full_name


def refuse_names(dns: DnsSettings, members: Iterable[str], domain: str, host: str, findings: Findings) -> None:
    """Note every name that cannot be. members: their names; host: at which the records are told of."""
    owners = {full_name(member, domain): member for member in members}
    for name, member in owners.items():
        if len(name) > MAX_NAME:
            too_long = f"is, with the domain {domain}, longer than a DNS name can be ({MAX_NAME})"
            findings.refuse(member, "inventory_hostname", member, too_long)
    names = _Names(dns, owners, domain)
    for index, record in enumerate(dns.records):
        reason = names.collision(index) or names.astray(record)
        if reason is not None:
            findings.refuse(host, f"{VARIABLE}.records", record_text(record), reason)


class _Names:
    def __init__(self, dns: DnsSettings, owners: Mapping[str, str], domain: str) -> None:
        self._records = dns.records
        self._owners = owners
        self._domain = domain
        self._aliases = {record.name: record.value for record in reversed(dns.records) if record.type == CNAME}
        self._known = {*owners, *(record.name for record in dns.records), domain}

    def collision(self, index: int) -> Optional[str]:
        """Who else has this record's name and must not."""
        record = self._records[index]
        if record.name in self._owners:
            return f"has the name of {self._owners[record.name]}"
        if record in self._records[:index]:
            return "is in the list twice"
        if record.type != CNAME:
            return None
        if record.name == self._domain:
            return "has the name of the network's domain, which cannot be an alias"
        for other in self._records:
            if other.name == record.name and other != record:
                return f"is an alias, and so cannot share its name with {record_text(other)}"
        return None

    def astray(self, record: Record) -> Optional[str]:
        """Why an alias leads nowhere, if it does."""
        if record.type != CNAME:
            return None
        if is_below(record.value, self._domain) and record.value not in self._known:
            return f"leads to a name in {self._domain} that nobody has"
        passed, name = {record.name}, record.value
        while name in self._aliases and name not in passed:
            passed.add(name)
            name = self._aliases[name]
        # Aliases that only lead into others' loop are well again when that is.
        return "leads back to itself" if name == record.name else None
