# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the network approves of what its nodes advertise: ``sennit_approved_routes``.

A list, each entry with `prefixes` and `groups`: a node in one of the groups may advertise every prefix within one of
the prefixes. The default routes, 0.0.0.0/0 and ::/0, stand for exit nodes, and for nothing narrower: whoever may be the
way to the internet may not for that offer LANs. Without the variable, everything that the inventory declares is
approved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from .inventory import Findings, Host, Refusal, agreed_value
from .prefixes import IPNetwork, parse_prefix

VARIABLE = "sennit_approved_routes"


@dataclass(frozen=True)
class Approval:
    """Who may advertise what."""

    prefixes: tuple[IPNetwork, ...]
    groups: frozenset[str]


class Approvals:
    """The network's approvals; None instead of a list approves everything."""

    def __init__(self, entries: Optional[Sequence[Approval]]) -> None:
        self._entries = entries

    def routes(self, host: Host, prefixes: Iterable[IPNetwork]) -> tuple[list[IPNetwork], list[IPNetwork]]:
        """Of the prefixes that a host advertises, the approved and the others, each once and in order."""
        approved: list[IPNetwork] = []
        others: list[IPNetwork] = []
        ranges = [prefix for prefix in self._prefixes(host) if prefix.prefixlen > 0]
        for prefix in sorted(set(prefixes)):
            good = self._entries is None or any(prefix in wider for wider in ranges)
            (approved if good else others).append(prefix)
        return approved, others

    def exit_node(self, host: Host) -> bool:
        """Whether the host may be an exit node: for both families, as clients send it both."""
        if self._entries is None:
            return True
        return {prefix.version for prefix in self._prefixes(host) if prefix.prefixlen == 0} == {4, 6}

    def _prefixes(self, host: Host) -> Iterable[IPNetwork]:
        for entry in self._entries or ():
            if not entry.groups.isdisjoint(host.groups):
                yield from entry.prefixes


def read_approvals(hosts: Sequence[Host], findings: Findings) -> Approvals:
    """The variable, which is one for the whole network; what is wrong with it goes to the findings."""
    value = None
    with findings.collecting():
        value = agreed_value(hosts, VARIABLE)
    if value is None:
        return Approvals(None)
    entries = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        with findings.collecting():
            entries.append(_entry(hosts[0].name, item))
    _warn_of_little(hosts, entries, findings)
    return Approvals(entries)


def _entry(host: str, item: Any) -> Approval:
    if not isinstance(item, dict) or set(item) != {"prefixes", "groups"}:
        raise Refusal(host, VARIABLE, item, "is not a list of entries with prefixes and groups")
    prefixes = []
    for text in _texts(host, item, "prefixes"):
        try:
            prefixes.append(parse_prefix(text))
        except ValueError as error:
            raise Refusal(host, VARIABLE, text, str(error)) from None
    return Approval(tuple(prefixes), frozenset(_texts(host, item, "groups")))


def _texts(host: str, item: Any, key: str) -> list[str]:
    value = item[key]
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal(host, VARIABLE, item, f"has an entry whose {key} are no list of strings")
    return [text.strip() for text in texts]


def _warn_of_little(hosts: Sequence[Host], entries: Sequence[Approval], findings: Findings) -> None:
    """Of what is written otherwise than meant: a group of nobody, an exit node for one family."""
    inhabited = {group for host in hosts for group in host.groups}
    for name in sorted({group for entry in entries for group in entry.groups} - inhabited):
        findings.warnings.append(f"{VARIABLE} names group {name}, in which no member of the network is")
    for entry in entries:
        families = {prefix.version for prefix in entry.prefixes if prefix.prefixlen == 0}
        if len(families) == 1:
            groups = ", ".join(sorted(entry.groups))
            findings.warnings.append(
                f"{VARIABLE} has a default route of one family for {groups}; an exit node needs 0.0.0.0/0 and ::/0"
            )
