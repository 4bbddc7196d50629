# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network map: frozen values, and the one parser that every map passes.

Format 1, as JSON (the signature is around it, see signing.py)::

    {"format": 1, "version": 7,
     "network": {"name": "demo", "domain": "demo.internal", "pools": ["100.64.0.0/10", "fd..::/48"]},
     "allocations": {"alpha": ["100.64.0.1", "fd..::1"]},
     "nodes": [{"name": "alpha", "kind": "node", "public_key": "<base64>", "addresses": ["100.64.0.1", "fd..::1"],
                "endpoint": "192.0.2.1:51820", "routes": ["192.168.10.0/24"], "persistent_keepalive": 0,
                "unapproved_routes": ["10.0.0.0/8"], "exit_node": "approved", "beacon": 21472}],
     "dns": {"nameservers": ["192.0.2.53"], "override": true, "split": {"company.test": ["192.168.10.53"]},
             "search": ["company.test"], "records": [{"name": "git.demo.internal", "type": "CNAME", "value": "..."}]}}

`unapproved_routes` is left out when empty, `exit_node` when the node does not offer to be one, `beacon` when it is
none, `dns` when it says nothing.
A reader ignores keys that it does not know, so that a newer control node can say more; what an older agent must not
ignore gets a new format number, which it refuses.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Optional

from .dns import MAX_NAMESERVERS, DnsSettings, Record, check_domain_suffix, check_nameserver, check_record
from .endpoint import address_text, check_dns_name, packed_address, split_endpoint

FORMAT = 1
MAX_NETMAP_BYTES = 16 * 1024 * 1024
MAX_VERSION = 2**53 - 1  # JSON readers elsewhere keep integers exact up to here (RFC 8259, section 6)

KIND_NODE = "node"
KIND_STATIC = "static"

# A node that offers to be an exit node is one only when the network approves it.
EXIT_NODE_APPROVED = "approved"
EXIT_NODE_OFFERED = "offered"

# Why a map is refused: NetmapError.reason, and the error code of the control API.
TOO_LARGE = "too-large"
MALFORMED = "malformed"
UNKNOWN_FORMAT = "unknown-format"
BAD_SIGNATURE = "bad-signature"
OTHER_NETWORK = "other-network"
OLDER = "older"
NO_SUCH_NODE = "no-such-node"

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_NETWORK_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class NetmapError(Exception):
    """A map that is refused. `reason` is one of the constants above, the text says what exactly."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Network:
    """The mesh itself: its name, its DNS domain and the pools that mesh addresses come from."""

    name: str
    domain: str
    pools: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """One peer of the mesh, as all the others see it.

    public_key: 32 bytes. addresses: host addresses within the pools. endpoint: ``host:port`` or None.
    routes: prefixes behind this node. persistent_keepalive: seconds at which it keeps its paths to others open; 0 is
    never. unapproved_routes: prefixes that it advertises in vain. exit_node: EXIT_NODE_APPROVED, EXIT_NODE_OFFERED or
    None. beacon: the TCP port, at its mesh addresses, of a node that is one; else None.
    """

    name: str
    kind: str
    public_key: bytes
    addresses: tuple[str, ...]
    endpoint: Optional[str] = None
    routes: tuple[str, ...] = ()
    persistent_keepalive: int = 0
    unapproved_routes: tuple[str, ...] = ()
    exit_node: Optional[str] = None
    beacon: Optional[int] = None


@dataclass(frozen=True)
class Netmap:
    """The whole network. `allocations` keeps the addresses of every name that was ever a member, the newest first."""

    network: Network
    version: int
    nodes: tuple[Node, ...]
    allocations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dns: DnsSettings = field(default_factory=DnsSettings)

    @classmethod
    def parse(cls, payload: bytes) -> Netmap:
        """The map that these bytes hold. Raises NetmapError, and nothing else, whatever they are."""
        if len(payload) > MAX_NETMAP_BYTES:
            raise NetmapError(TOO_LARGE, f"{len(payload)} bytes; the limit is {MAX_NETMAP_BYTES}")
        try:
            document = json.loads(
                payload.decode("utf-8"),
                object_pairs_hook=_unique_keys,
                parse_int=_integer,
                parse_float=_no_number,
                parse_constant=_no_number,
            )
        except RecursionError:
            raise NetmapError(MALFORMED, "nested too deeply") from None
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both one
            raise NetmapError(MALFORMED, f"not JSON: {error}") from None
        return _netmap(document)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same content always gives the same bytes."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": self.version,
            "network": {"name": self.network.name, "domain": self.network.domain, "pools": list(self.network.pools)},
            "allocations": {name: list(addresses) for name, addresses in self.allocations.items()},
            "nodes": [_node_document(node) for node in self.nodes],
        }
        if self.dns != DnsSettings():
            document["dns"] = _dns_document(self.dns)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _node_document(node: Node) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": node.name,
        "kind": node.kind,
        "public_key": encode_key(node.public_key),
        "addresses": list(node.addresses),
        "endpoint": node.endpoint,
        "routes": list(node.routes),
        "persistent_keepalive": node.persistent_keepalive,
    }
    # Left out when they say nothing: a map without them keeps the bytes that it had before there were any.
    if node.unapproved_routes:
        document["unapproved_routes"] = list(node.unapproved_routes)
    if node.exit_node is not None:
        document["exit_node"] = node.exit_node
    if node.beacon is not None:
        document["beacon"] = node.beacon
    return document


def _dns_document(dns: DnsSettings) -> dict[str, Any]:
    return {
        "nameservers": list(dns.nameservers),
        "override": dns.override,
        "split": {suffix: list(nameservers) for suffix, nameservers in dns.split.items()},
        "search": list(dns.search),
        "records": [{"name": record.name, "type": record.type, "value": record.value} for record in dns.records],
    }


def encode_key(key: bytes) -> str:
    """A key as `wg` writes it: base64, 44 characters."""
    return base64.b64encode(key).decode("ascii")


def decode_key(text: str) -> bytes:
    """The 32 bytes of a base64 key. Raises ValueError for anything else, the all-zero key (no key at all) included."""
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("is not base64") from None
    if len(key) != 32:
        raise ValueError(f"is {len(key)} bytes long, a key is 32")
    if encode_key(key) != text:
        raise ValueError("is not canonical base64")
    if not any(key):
        raise ValueError("is all zero")
    return key


def check_name(name: str) -> str:
    """A node's name: it becomes a DNS name below the network's domain. Raises ValueError with the reason."""
    if not _NAME.match(name) or any(not label or len(label) > 63 for label in name.split(".")):
        raise ValueError("is not a name of letters, digits, '-', '_' and '.', a letter or digit at each end")
    if name.replace(".", "").isdigit():
        raise ValueError("is a number or an address, not a name")
    return name


def check_network_name(name: str) -> str:
    """A network's name: one DNS label, in lower case. Raises ValueError with the reason."""
    if not _NETWORK_NAME.match(name):
        raise ValueError("is not one label of lower-case letters, digits and hyphens, at most 63 long")
    return name


def check_domain(domain: str) -> str:
    """The DNS domain of a network, in lower case and without the final dot. Raises ValueError with the reason."""
    if check_dns_name(domain) != domain:
        raise ValueError("is not in lower case or ends in a dot")
    return domain


# --- the parser's parts: each takes what JSON held and returns the typed value, or refuses


def _refuse(what: str, why: object) -> NoReturn:
    raise NetmapError(MALFORMED, f"{what} {why}")


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _integer(text: str) -> int:
    # int() takes quadratic time on the Pythons that do not limit it.
    if len(text) > 20:
        raise ValueError("a number is too long")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text:.20} is no number that a netmap holds")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(what, "is not an object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(what, "is not a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        _refuse(what, "is not a string")
    return value


def _number(value: Any, what: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(what, f"is not a number from {low} to {high}")
    return value


def _netmap(value: Any) -> Netmap:
    document = _object(value, "the netmap")
    if _number(document.get("format"), "format", 1, MAX_VERSION) != FORMAT:
        raise NetmapError(UNKNOWN_FORMAT, f"format {document['format']}; this agent knows format {FORMAT}")
    network = _network(document.get("network"))
    pools = tuple(_Pool(ipaddress.ip_network(pool)) for pool in network.pools)
    nodes = tuple(_node(entry, pools) for entry in _list(document.get("nodes"), "nodes"))
    for what, values in (
        ("name", [node.name.lower() for node in nodes]),
        ("public key", [encode_key(node.public_key) for node in nodes]),
        ("address", [address for node in nodes for address in node.addresses]),
        ("route", [route for node in nodes for route in (*node.routes, *node.unapproved_routes)]),
    ):
        if len(set(values)) != len(values):
            _refuse("nodes:", f"one {what} is there twice")
    return Netmap(
        network=network,
        version=_number(document.get("version"), "version", 1, MAX_VERSION),
        nodes=nodes,
        allocations={
            _name(name): tuple(_address(address, f"allocations of {name}:") for address in _list(addresses, name))
            for name, addresses in _object(document.get("allocations"), "allocations").items()
        },
        dns=_dns(document.get("dns", {})),
    )


def _network(value: Any) -> Network:
    document = _object(value, "network")
    try:
        name = check_network_name(_text(document.get("name"), "network.name"))
        domain = check_domain(_text(document.get("domain"), "network.domain"))
    except ValueError as error:
        _refuse("network:", error)
    pools = tuple(_prefix(pool, "network.pools:") for pool in _list(document.get("pools"), "network.pools"))
    return Network(name=name, domain=domain, pools=pools)


def _name(value: Any) -> str:
    try:
        return check_name(_text(value, "a node's name"))
    except ValueError as error:
        _refuse("a node's name", error)


class _Pool:
    """A prefix, to be compared with packed addresses."""

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        self._bytes = network.max_prefixlen // 8
        self._behind = network.max_prefixlen - network.prefixlen
        self._number = int(network.network_address) >> self._behind

    def has(self, packed: bytes) -> bool:
        return len(packed) == self._bytes and int.from_bytes(packed, "big") >> self._behind == self._number


def _node(value: Any, pools: Sequence[_Pool]) -> Node:
    document = _object(value, "a node")
    name = _name(document.get("name"))
    kind = _text(document.get("kind"), f"{name}: kind")
    if kind not in (KIND_NODE, KIND_STATIC):
        _refuse(f"{name}: kind", f"is neither {KIND_NODE} nor {KIND_STATIC}")
    exit_node = document.get("exit_node")
    if exit_node not in (None, EXIT_NODE_APPROVED, EXIT_NODE_OFFERED):
        _refuse(f"{name}: exit_node", f"is neither {EXIT_NODE_APPROVED} nor {EXIT_NODE_OFFERED}")
    if exit_node is not None and kind != KIND_NODE:
        _refuse(f"{name}: exit_node", f"is for a {KIND_NODE}, not for one that is {kind}")
    endpoint, beacon = document.get("endpoint"), document.get("beacon")
    if beacon is not None:
        _number(beacon, f"{name}: beacon", 1, 65535)
        if kind != KIND_NODE or endpoint is None:
            _refuse(f"{name}: beacon", f"is for a {KIND_NODE} with an endpoint")
    try:
        public_key = decode_key(_text(document.get("public_key"), f"{name}: public_key"))
        if endpoint is not None:
            split_endpoint(_text(endpoint, f"{name}: endpoint"))
    except ValueError as error:
        _refuse(f"{name}: public_key or endpoint", error)
    addresses = tuple(_address(address, name) for address in _list(document.get("addresses"), f"{name}: addresses"))
    for address in addresses:
        packed = packed_address(address)
        if not any(pool.has(packed) for pool in pools):
            _refuse(f"{name}: address {address}", "is not in the pools")
    return Node(
        name=name,
        kind=kind,
        public_key=public_key,
        addresses=addresses,
        endpoint=endpoint,
        routes=tuple(_prefix(route, name) for route in _list(document.get("routes"), f"{name}: routes")),
        persistent_keepalive=_number(document.get("persistent_keepalive"), f"{name}: persistent_keepalive", 0, 65535),
        unapproved_routes=tuple(
            _prefix(route, name) for route in _list(document.get("unapproved_routes", []), f"{name}: unapproved_routes")
        ),
        exit_node=exit_node,
        beacon=beacon,
    )


def _dns(value: Any) -> DnsSettings:
    document = _object(value, "dns")
    override = document.get("override", False)
    if not isinstance(override, bool):
        _refuse("dns.override", "is neither true nor false")
    return DnsSettings(
        nameservers=_nameservers(document.get("nameservers", []), "dns.nameservers"),
        override=override,
        split={
            _suffix(suffix, "dns.split:"): _nameservers(nameservers, f"dns.split.{suffix:.60}", least=1)
            for suffix, nameservers in _object(document.get("split", {}), "dns.split").items()
        },
        search=tuple(_suffix(suffix, "dns.search:") for suffix in _list(document.get("search", []), "dns.search")),
        records=tuple(_record(entry) for entry in _list(document.get("records", []), "dns.records")),
    )


def _nameservers(value: Any, what: str, least: int = 0) -> tuple[str, ...]:
    nameservers = tuple(_address(address, f"{what}:") for address in _list(value, what))
    if not least <= len(nameservers) <= MAX_NAMESERVERS:
        _refuse(what, f"are {len(nameservers)} nameservers, not {least} to {MAX_NAMESERVERS}")
    try:
        for address in nameservers:
            check_nameserver(address)
    except ValueError as error:
        _refuse(what, error)
    return nameservers


def _suffix(value: Any, what: str) -> str:
    text = _text(value, f"{what} a domain")
    try:
        canonical = check_domain_suffix(text)
    except ValueError as error:
        _refuse(f"{what} {text[:60]!r}", error)
    if canonical != text:
        _refuse(f"{what} {text[:60]!r}", "is not in lower case or ends in a dot")
    return text


def _record(value: Any) -> Record:
    document = _object(value, "a DNS record")
    record = Record(*(_text(document.get(key), f"a DNS record's {key}") for key in ("name", "type", "value")))
    try:
        check_record(record)
    except ValueError as error:
        _refuse(f"DNS record {record.name[:60]!r}", error)
    return record


def _address(value: Any, what: str) -> str:
    text = _text(value, f"{what} an address")
    try:
        canonical = address_text(packed_address(text))
    except ValueError:
        canonical = None
    if canonical != text or "%" in text:
        _refuse(what, f"{text[:60]!r} is not an address in canonical form")
    return text


def _prefix(value: Any, what: str) -> str:
    text = _text(value, f"{what} a prefix")
    try:
        canonical = str(ipaddress.ip_network(text))
    except ValueError:
        canonical = None
    if canonical != text or "%" in text:
        _refuse(what, f"{text[:60]!r} is not a prefix in canonical form")
    return text
