# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What two members cannot both have: a name, a key, an address, a prefix.

Of a prefix that a member advertises, it is refused that it shares an address with

- a prefix of another member, or a pool of the mesh;
- an address or on-link prefix that another node reports: that node's underlay;
- the endpoint of another member: packets for it could end up in the tunnel that they are to carry.

The advertiser's own networks and endpoint may be in the prefix, they are what it is there to advertise. Another node
on the advertised LAN is refused although that node could keep its own way: everybody else would reach it by a path
that its answers do not take.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from .allocate import AddressBook
from .endpoint import literal_address, split_endpoint
from .inventory import Findings
from .members import Claim, Member, Pools
from .model import KIND_STATIC, encode_key
from .prefixes import IPNetwork, Owned, host_network, overlaps, parse_address, parse_on_link, unroutable

_NAMED_AT_MOST = 3  # others that one message names

MESH = "the mesh"  # as the host of a claim: a pool's


def refuse_collisions(members: Sequence[Member], pools: Pools, book: AddressBook, findings: Findings) -> None:
    """Note every collision between these members, and every explicit address that the book keeps for another name."""
    names = [(member.name.lower(), Claim(member.name, "inventory_hostname", member.name)) for member in members]
    keys = [(member.public_key, key_claim(member)) for member in members if member.public_key is not None]
    addresses = [held for member in members for held in member.addresses]
    _one_each(names, "name, in lower case,", findings)
    _one_each(keys, "key", findings)
    _one_each(addresses, "address", findings)
    _explicit_addresses(members, pools, book, findings)
    _prefixes(members, pools, findings)


def key_claim(member: Member) -> Claim:
    """Whose key it is, for a message."""
    variable = "sennit_public_key" if member.kind == KIND_STATIC else "public key (the agent's own)"
    return Claim(member.name, variable, encode_key(member.public_key) if member.public_key else "")


def _one_each(claims: Iterable[tuple[Hashable, Claim]], noun: str, findings: Findings) -> None:
    first: dict[Hashable, Claim] = {}
    for thing, claim in claims:
        other = first.setdefault(thing, claim)
        if other.host != claim.host:
            reason = f"is also the {noun} of {other.host} ({other.variable})"
            findings.refuse(claim.host, claim.variable, claim.value, reason)


def _explicit_addresses(members: Sequence[Member], pools: Pools, book: AddressBook, findings: Findings) -> None:
    current = {member.name: [address for address, _claim in member.addresses] for member in members}
    for member in members:
        for address, claim in member.addresses:
            pool = pools[address.version]
            owner = book.owner(address)
            if address not in pool:
                findings.refuse(claim.host, claim.variable, claim.value, f"is not in the mesh's pool {pool}")
            elif book.reserved(address):
                findings.refuse(claim.host, claim.variable, claim.value, book.reserved(address))
            elif owner not in (None, member.name) and address not in current.get(owner or "", ()):
                left = "" if owner in current else ", which has left"
                reason = f"was given to {owner}{left}; an address is never passed on"
                findings.refuse(claim.host, claim.variable, claim.value, reason)


def _prefixes(members: Sequence[Member], pools: Pools, findings: Findings) -> None:
    advertised = [Owned(prefix, claim) for member in members for prefix, claim in member.routes]
    of_the_mesh = [Owned(pool, Claim(MESH, f"sennit_ipv{version}_pool", str(pool))) for version, pool in pools.items()]
    underlay = [owned for member in members for owned in _underlay(member, findings)]
    collisions: dict[Claim, list[Claim]] = {}
    for one, other in overlaps(advertised, of_the_mesh + underlay):
        if one.owner.host != other.owner.host:
            # Of two advertised prefixes the later, narrower one is told of; of all others, the advertised one.
            subject, object_ = (other, one) if other.owner.variable in _ADVERTISED else (one, other)
            collisions.setdefault(subject.owner, []).append(object_.owner)
    for claim, others in collisions.items():
        findings.refuse(claim.host, claim.variable, claim.value, f"overlaps {_listed(others)}")
    in_pools: dict[Claim, list[Claim]] = {}
    for pool, other in overlaps(of_the_mesh, underlay):
        in_pools.setdefault(pool.owner, []).append(other.owner)
    for pool_claim, others in in_pools.items():
        findings.warnings.append(
            f"{pool_claim.variable} = {pool_claim.value} overlaps {_listed(others)}: mesh addresses there win"
        )


_ADVERTISED = ("sennit_advertise_routes", "sennit_allowed_ips")


def _underlay(member: Member, findings: Findings) -> Iterable[Owned[Claim]]:
    if member.endpoint is not None:
        address = literal_address(split_endpoint(member.endpoint)[0])
        if address is not None:
            claim = Claim(member.name, "endpoint", member.endpoint)
            yield Owned(host_network(parse_address(str(address))), claim)
    for text in member.host.report.underlay if member.host.report else ():
        claim = Claim(member.name, "underlay", text)
        try:
            prefix: IPNetwork = parse_on_link(text)
        except ValueError as error:
            findings.refuse(claim.host, "underlay (reported by the host)", text, error)
            continue
        if unroutable(prefix) is None:
            yield Owned(prefix, claim)


def _listed(claims: Sequence[Claim]) -> str:
    shown = list(dict.fromkeys(str(claim) for claim in claims))
    more = len(shown) - _NAMED_AT_MOST
    return ", ".join(shown[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
