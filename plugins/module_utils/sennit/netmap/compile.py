# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an inventory and the newest map to the next map. A pure function, on the control node only (it needs netaddr).

The inventory decides who is a member and what each member's variables say. Of the previous map it takes what no
inventory holds: the addresses that were given out, and the public keys of members that this run did not reach. So a
run with ``--limit`` or with a host down loses nobody, and no map depends on which runs came before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from .allocate import AddressBook, PoolExhaustedError
from .approvals import Approvals, read_approvals
from .collisions import refuse_collisions
from .dns_inventory import read_dns
from .dns_loops import refuse_loops
from .dns_names import refuse_names
from .exit_nodes import refuse_exit_nodes
from .inventory import (
    GROUP,
    NODE_GROUPS,
    CompileError,
    Findings,
    Host,
    Refusal,
    read_agreed,
)
from .members import Member, read_member
from .model import (
    EXIT_NODE_APPROVED,
    EXIT_NODE_OFFERED,
    KIND_NODE,
    Netmap,
    Network,
    Node,
    check_domain,
    check_network_name,
    decode_key,
)
from .prefixes import IPNetwork, parse_prefix, unroutable

DEFAULT_NETWORK = "sennit"
DEFAULT_IPV4_POOL = "100.64.0.0/10"


@dataclass(frozen=True)
class Compiled:
    """A compiled map.

    pending: members without a key, which therefore are not in the map, and the addresses they would get.
    routes: the approved routes of every member, pending or not. exit_nodes: the members that are approved ones.
    warnings: what an administrator should know though it stops nothing.
    """

    netmap: Netmap
    pending: Mapping[str, tuple[str, ...]]
    routes: Mapping[str, tuple[str, ...]]
    exit_nodes: tuple[str, ...]
    warnings: tuple[str, ...]


def compile_netmap(
    hosts: Sequence[Host],
    previous: Optional[Netmap],
    verify_key: str,
    require_keys: bool = True,
    superseding: bool = False,
) -> Compiled:
    """The next map of the network that these hosts, in inventory order, make up.

    previous: the newest valid map. verify_key: base64; the network's own IPv6 prefix is derived from it the first time.
    require_keys: whether a host that answered without a key (no agent yet) is refused, or left pending. superseding:
    count the version up even if nothing differs, because another map of the previous one's version is about.

    The version is the previous one's plus one if anything differs, else the same. Raises CompileError with every
    refusal there is.
    """
    if not hosts:
        raise CompileError([Refusal("inventory", "group", GROUP, "has no hosts")])
    findings = Findings()
    network, pools = _network(hosts, previous, verify_key, findings)
    read = [read_member(host, pools, findings) for host in hosts]
    members = [member for member in read if member is not None]
    known = {node.name: node for node in previous.nodes if node.kind == KIND_NODE} if previous else {}
    for member in members:
        if member.kind == KIND_NODE:
            _find_key(member, known.get(member.name), require_keys, findings)
    book = AddressBook(pools, previous.allocations if previous else {})
    refuse_collisions(members, pools, book, findings)
    approvals = read_approvals(hosts, findings)
    refuse_exit_nodes(members, approvals, findings)
    dns = read_dns(hosts, network, findings)
    refuse_names(dns, [member.name for member in members], network.domain, hosts[0].name, findings)
    _raise(findings)

    addresses = _assign(members, book)
    refuse_loops(dns, members, addresses, pools, findings, host=hosts[0].name)
    _raise(findings)
    kept = {member.name for member in members if member.public_key} | set(previous.allocations if previous else ())
    netmap = Netmap(
        network=network,
        version=previous.version if previous else 1,
        nodes=tuple(
            _node(member, member.public_key, addresses[member.name], approvals)
            for member in sorted(members, key=lambda each: each.name)
            if member.public_key is not None
        ),
        allocations={name: held for name, held in book.table().items() if name in kept},
        dns=dns,
    )
    if previous is not None and (superseding or netmap != previous):
        netmap = replace(netmap, version=previous.version + 1)
    return Compiled(
        netmap=netmap,
        pending={member.name: addresses[member.name] for member in members if member.public_key is None},
        routes={member.name: _routes(member, approvals)[0] for member in members},
        exit_nodes=tuple(
            member.name for member in members if member.offers_exit_node and approvals.exit_node(member.host)
        ),
        warnings=tuple(findings.warnings),
    )


def _raise(findings: Findings) -> None:
    if findings.refusals:
        raise CompileError(findings.refusals)


def _node(member: Member, public_key: bytes, addresses: tuple[str, ...], approvals: Approvals) -> Node:
    routes, unapproved = _routes(member, approvals)
    exit_node = None
    if member.offers_exit_node:
        exit_node = EXIT_NODE_APPROVED if approvals.exit_node(member.host) else EXIT_NODE_OFFERED
    return Node(
        name=member.name,
        kind=member.kind,
        public_key=public_key,
        addresses=addresses,
        endpoint=member.endpoint,
        routes=routes,
        persistent_keepalive=member.persistent_keepalive,
        unapproved_routes=unapproved,
        exit_node=exit_node,
        beacon=member.beacon,
    )


def _routes(member: Member, approvals: Approvals) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The member's routes, approved and not."""
    routes, unapproved = approvals.routes(member.host, (prefix for prefix, _claim in member.routes))
    return tuple(str(prefix) for prefix in routes), tuple(str(prefix) for prefix in unapproved)


def default_ipv6_pool(network: str, verify_key: str) -> str:
    """A /48 of the network's own (RFC 4193, section 3.2.2: a hash of what is unique makes the global ID)."""
    digest = hashlib.sha256(f"sennit ipv6 pool\n{network}\n{verify_key}".encode()).hexdigest()
    return str(parse_prefix(f"fd{digest[:2]}:{digest[2:6]}:{digest[6:10]}::/48"))


def _network(
    hosts: Sequence[Host], previous: Optional[Netmap], verify_key: str, findings: Findings
) -> tuple[Network, dict[int, IPNetwork]]:
    def agreed(variable: str) -> Optional[str]:
        with findings.collecting():
            return read_agreed(hosts, variable)
        return None

    name = agreed("sennit_network") or DEFAULT_NETWORK
    domain = agreed("sennit_domain")
    checks: dict[str, tuple[Optional[str], Callable[[str], str]]] = {
        "sennit_network": (name, check_network_name),
        "sennit_domain": (domain, check_domain),
    }
    for variable, (value, check) in checks.items():
        try:
            if value is not None:
                check(value)
        except ValueError as error:
            findings.refuse(hosts[0].name, variable, value, error)
    for host in hosts:
        if host.report and host.report.network not in (None, name):
            reason = f"is not the network {host.report.network}, which this host is in; take it out of that one first"
            findings.refuse(host.name, "sennit_network", name, reason)

    # The derived prefix stays what it is when the signing key is changed one day.
    before = previous.network.pools if previous else ()
    derived = next((pool for pool in before if ":" in pool), None) or default_ipv6_pool(name, verify_key)
    pools = {}
    for version, default in ((4, DEFAULT_IPV4_POOL), (6, derived)):
        variable = f"sennit_ipv{version}_pool"
        text = agreed(variable) or default
        try:
            pools[version] = _pool(text, version)
        except ValueError as error:
            findings.refuse(hosts[0].name, variable, text, error)
            pools[version] = parse_prefix(default)
    network = Network(name=name, domain=domain or f"{name}.internal", pools=(str(pools[4]), str(pools[6])))
    if before and before != network.pools:
        findings.warnings.append(
            f"the pools change from {', '.join(before)} to {', '.join(network.pools)}: members whose addresses are in "
            "neither get new ones"
        )
    return network, pools


def _pool(text: str, version: int) -> IPNetwork:
    pool = parse_prefix(text)
    what = unroutable(pool)
    if pool.version != version:
        raise ValueError(f"is not an IPv{version} prefix")
    if what is not None:
        raise ValueError(f"holds addresses that cannot be routed ({what})")
    if pool.size < 4:
        raise ValueError("has no room for two nodes")
    return pool


def _find_key(member: Member, before: Optional[Node], require_keys: bool, findings: Findings) -> None:
    """The key that the node reports, else the one it had. A node without any is refused, or waits until it has one."""
    host = member.host
    group = next(group for group in NODE_GROUPS if group in host.groups)
    answered = host.report is not None
    if host.report is not None and host.report.public_key is not None:
        try:
            member.public_key = decode_key(host.report.public_key)
        except ValueError as error:
            findings.refuse(host.name, "public key (reported by the host)", host.report.public_key, error)
    elif before is not None:
        member.public_key = before.public_key
        if host.in_play and (require_keys or not answered):
            why = "has no agent" if answered else "could not be reached"
            findings.warnings.append(f"{host.name} {why}; it stays in the map with the key it had")
    elif not host.in_play:
        findings.warnings.append(f"{host.name} is not in the map yet, and this run leaves it out")
    elif not answered:
        where = host.variables.get("ansible_host") or host.name
        reason = f"could not be reached, and no map knows this host of group {group}; mend it, or use --limit"
        findings.refuse(host.name, "ansible_host", where, reason)
    elif require_keys:
        findings.refuse(host.name, "group", group, "has this host, which has no agent and so no key")


def _assign(members: Sequence[Member], book: AddressBook) -> dict[str, tuple[str, ...]]:
    # First what is stated, so that nothing given out below takes it.
    for member in members:
        for address, _claim in reversed(member.addresses):
            book.claim(member.name, address)
    addresses = {}
    for member in members:
        explicit = [address for address, _claim in member.addresses]
        try:
            addresses[member.name] = tuple(str(address) for address in book.assign(member.name, explicit))
        except PoolExhaustedError as error:
            variable = f"sennit_ipv{error.pool.version}_pool"
            raise CompileError([Refusal(member.name, variable, str(error.pool), "has no free address left")]) from None
    return addresses
