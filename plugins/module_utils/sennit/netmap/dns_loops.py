# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nameservers that are nodes of the mesh themselves.

Such a node must not accept the network's DNS. Its own resolver would take the network's rules, and so ask the
nameserver on the same host. That one, unless it knows the answer, asks whom the host asks: the resolver again. This
holds for the nameservers of all names and for those of one domain alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from .dns import DnsSettings
from .dns_inventory import VARIABLE
from .inventory import Findings, Host, is_set, read_boolean
from .members import Member, Pools
from .model import KIND_NODE
from .prefixes import parse_address

ACCEPT_DNS = "sennit_accept_dns"


def refuse_loops(
    dns: DnsSettings,
    members: Sequence[Member],
    addresses: Mapping[str, tuple[str, ...]],
    pools: Pools,
    findings: Findings,
    *,
    host: str,
) -> None:
    """Note every nameserver that would ask itself, and every one in the mesh that nobody is.

    addresses: by member. host: at which the settings are told of.
    """
    owners = {address: member for member in members for address in _own_addresses(member, addresses[member.name])}
    told = set()
    for variable, address in _nameservers(dns):
        member = owners.get(address)
        if member is None:
            pool = pools[parse_address(address).version]
            if parse_address(address) in pool:
                reason = f"is in the mesh's pool {pool}, but no member has it"
                findings.refuse(host, variable, address, reason)
        elif member.kind == KIND_NODE and member.name not in told:
            told.add(member.name)
            with findings.collecting():
                _refuse_accepting(member.host, variable, address, findings)


def _refuse_accepting(host: Host, variable: str, address: str, findings: Findings) -> None:
    stated = is_set(host.variables.get(ACCEPT_DNS))
    accepts = read_boolean(host, ACCEPT_DNS, True) if stated else _preference(host)
    what = f"this host is the nameserver {address} ({variable})"
    if accepts is None:
        warning = f"{host.name}: {what}; it was not asked whether it accepts the network's DNS, and so would ask itself"
        findings.warnings.append(f"{warning} ({ACCEPT_DNS}: false says that it does not)")
    elif accepts:
        wrong = "is not false" if stated else "has to be stated as false"
        reason = f"{wrong}: {what}, and its own resolver would ask itself; set {ACCEPT_DNS}: false for it"
        findings.refuse(host.name, ACCEPT_DNS, host.variables[ACCEPT_DNS] if stated else None, reason)


def _preference(host: Host) -> Optional[bool]:
    """What the host's agent has now, at first to accept; None if this run does not reach it."""
    if host.report is None:
        return None
    return host.report.accept_dns is not False


def _own_addresses(member: Member, in_mesh: tuple[str, ...]) -> tuple[str, ...]:
    return (*in_mesh, *(member.host.report.addresses if member.host.report else ()))


def _nameservers(dns: DnsSettings) -> Iterator[tuple[str, str]]:
    """Every nameserver's address, after the variable that names it."""
    for address in dns.nameservers:
        yield f"{VARIABLE}.nameservers", address
    for suffix, nameservers in dns.split.items():
        for address in nameservers:
            yield f"{VARIABLE}.split.{suffix}", address
