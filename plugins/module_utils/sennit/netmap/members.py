# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host of the inventory, read by itself: its kind, endpoint, addresses, prefixes and, if static, its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar, Union

from .endpoint import join_endpoint, literal_address, split_endpoint
from .inventory import (
    EXIT_NODE,
    GROUP,
    GROUP_BEACONS,
    GROUP_EXIT_NODES,
    GROUP_LAN_DEVICES,
    GROUP_STATIC_PEERS,
    GROUP_SUBNET_ROUTERS,
    NO_EXIT_NODE,
    NODE_GROUPS,
    Findings,
    Host,
    Refusal,
    is_set,
    read_boolean,
    read_integer,
    read_list,
    read_text,
)
from .model import KIND_NODE, KIND_STATIC, check_name, decode_key
from .prefixes import IPAddress, IPNetwork, host_network, parse_address, parse_prefix, unroutable

DEFAULT_LISTEN_PORT = 51820
DEFAULT_BEACON_PORT = 21472

Parsed = TypeVar("Parsed")
Pools = Mapping[int, IPNetwork]  # by IP version, 4 and 6


@dataclass(frozen=True)
class Claim:
    """That an address or prefix is a host's: the variable that says so, and the text as it stands there."""

    host: str
    variable: str
    value: str

    def __str__(self) -> str:
        return f"{self.value} of {self.host} ({self.variable})"


@dataclass
class Member:
    """A host on its way into the map. public_key is None as long as it has no agent."""

    host: Host
    kind: str
    public_key: Optional[bytes] = None
    endpoint: Optional[str] = None
    persistent_keepalive: int = 0
    addresses: tuple[tuple[IPAddress, Claim], ...] = ()
    routes: tuple[tuple[IPNetwork, Claim], ...] = ()
    offers_exit_node: bool = False
    beacon: Optional[int] = None

    @property
    def name(self) -> str:
        return self.host.name


def read_member(host: Host, pools: Pools, findings: Findings) -> Optional[Member]:
    """The host as a member, as far as it can be read; what cannot goes to the findings.

    None: a LAN device, which is no member, or one of which not even its kind can be read.
    """
    kind = _kind(host, findings)
    if kind is None:
        return None
    member = Member(host=host, kind=kind)
    try:
        check_name(host.name)
    except ValueError as error:
        findings.refuse(host.name, "inventory_hostname", host.name, error)
    with findings.collecting():
        member.persistent_keepalive = read_integer(host, "sennit_persistent_keepalive", 0, 0, 65535)
    with findings.collecting():
        member.endpoint = _endpoint(host, kind, pools)
    member.addresses = tuple(_each(host, "sennit_addresses", parse_address, findings))
    if kind == KIND_NODE:
        member.routes = tuple(_each(host, "sennit_advertise_routes", _parse_route, findings))
        if member.routes and GROUP_SUBNET_ROUTERS not in host.groups:
            findings.warnings.append(f"{host.name} advertises routes but is not in group {GROUP_SUBNET_ROUTERS}")
        with findings.collecting():
            member.offers_exit_node = read_boolean(host, "sennit_offer_exit_node", GROUP_EXIT_NODES in host.groups)
        if member.offers_exit_node and GROUP_EXIT_NODES not in host.groups:
            findings.warnings.append(f"{host.name} offers to be an exit node but is not in group {GROUP_EXIT_NODES}")
        with findings.collecting():
            member.beacon = _beacon(host, member.endpoint)
    else:
        with findings.collecting():
            member.public_key = _static_key(host)
        _read_allowed_ips(member, pools, findings)
    return member


def _kind(host: Host, findings: Findings) -> Optional[str]:
    ours = [group for group in (*NODE_GROUPS, GROUP_STATIC_PEERS, GROUP_LAN_DEVICES) if group in host.groups]
    node_groups = [group for group in ours if group in NODE_GROUPS]
    for group in (GROUP_STATIC_PEERS, GROUP_LAN_DEVICES):
        if group in ours and ours[0] != group:
            findings.refuse(host.name, "group", group, f"is for hosts that are not in {ours[0]}")
            return None
    if GROUP_LAN_DEVICES in ours:
        return None
    if node_groups:
        kind, unfit = KIND_NODE, ["sennit_public_key", "sennit_allowed_ips"]
        reason = "is for static peers; a node makes its key itself and states sennit_advertise_routes"
    elif GROUP_STATIC_PEERS in host.groups:
        kind, unfit = KIND_STATIC, ["sennit_advertise_routes", EXIT_NODE]
        reason = "is for nodes; a static peer states its prefixes in sennit_allowed_ips"
    else:
        of = f"none of {', '.join((*NODE_GROUPS, GROUP_STATIC_PEERS, GROUP_LAN_DEVICES))}"
        findings.refuse(host.name, "group", GROUP, f"is not enough: the host is in {of}")
        return None
    for variable in unfit:
        value = host.variables.get(variable)
        if is_set(value) and (variable, value) != (EXIT_NODE, NO_EXIT_NODE):
            findings.refuse(host.name, variable, value, reason)
    return kind


def _each(
    host: Host, variable: str, parse: Callable[[str], Parsed], findings: Findings
) -> Iterator[tuple[Parsed, Claim]]:
    texts: Sequence[str] = ()
    with findings.collecting():
        texts = read_list(host, variable)
    for text in texts:
        try:
            yield parse(text), Claim(host.name, variable, text)
        except ValueError as error:
            findings.refuse(host.name, variable, text, error)


def _endpoint(host: Host, kind: str, pools: Pools) -> Optional[str]:
    port = read_integer(host, "sennit_listen_port", DEFAULT_LISTEN_PORT, 1, 65535)
    text = read_text(host, "sennit_endpoint")
    if text is not None:
        try:
            endpoint, stated_port = split_endpoint(text, port)
            address = literal_address(endpoint)
            if address is not None and parse_address(str(address)) in pools[address.version]:
                raise ValueError(f"is in the mesh's own pool {pools[address.version]}, not on the underlay")
        except ValueError as error:
            raise Refusal(host.name, "sennit_endpoint", text, str(error)) from None
        return join_endpoint(endpoint, stated_port)
    # How Ansible reaches a node is a fair guess of how others do, if it is an address, and one of the underlay: a play
    # may come through the mesh itself.
    address = literal_address(str(host.variables.get("ansible_host") or "")) if kind == KIND_NODE else None
    if address is None or parse_address(str(address)) in pools[address.version]:
        return None
    try:
        return join_endpoint(*split_endpoint(str(address), port))
    except ValueError:  # loopback, link-local: a way for Ansible alone
        return None


def _beacon(host: Host, endpoint: Optional[str]) -> Optional[int]:
    """The TCP port of a beacon's service; None for a host that is no beacon."""
    if GROUP_BEACONS not in host.groups:
        return None
    # What is wrong with one that is stated has been noted already.
    if endpoint is None and not is_set(host.variables.get("sennit_endpoint")):
        reason = f"is not set, and ansible_host is no address that others reach; a host in {GROUP_BEACONS} needs one"
        raise Refusal(host.name, "sennit_endpoint", "", reason)
    return read_integer(host, "sennit_beacon_port", DEFAULT_BEACON_PORT, 1, 65535)


def _static_key(host: Host) -> bytes:
    text = read_text(host, "sennit_public_key")
    if text is None:
        raise Refusal(host.name, "sennit_public_key", "", "is not set; a static peer states its public key")
    try:
        return decode_key(text)
    except ValueError as error:
        raise Refusal(host.name, "sennit_public_key", text, str(error)) from None


def _read_allowed_ips(member: Member, pools: Pools, findings: Findings) -> None:
    """Single addresses of the pools are the static peer's own, all else is behind it."""

    def parse(text: str) -> Union[IPAddress, IPNetwork]:
        prefix = parse_prefix(text) if "/" in text else host_network(parse_address(text))
        if prefix.size == 1 and prefix.ip in pools[prefix.version]:
            return prefix.ip
        return _routable(prefix)

    for parsed, claim in _each(member.host, "sennit_allowed_ips", parse, findings):
        if isinstance(parsed, IPNetwork):
            member.routes += ((parsed, claim),)
        elif parsed not in [address for address, _claim in member.addresses]:
            member.addresses += ((parsed, claim),)


def _parse_route(text: str) -> IPNetwork:
    return _routable(parse_prefix(text))


def _routable(prefix: IPNetwork) -> IPNetwork:
    what = unroutable(prefix)
    if what == "default route":
        raise ValueError("is a default route, which a subnet router does not advertise")
    if what is not None:
        raise ValueError(f"holds addresses that cannot be routed ({what})")
    return prefix
