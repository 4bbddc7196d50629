"""What sennit.mesh.status_info would tell of the hosts of a mesh."""

from __future__ import annotations

import copy
from typing import Any

NOW = 1_800_000_000.0
UNREACHABLE = {"unreachable": True, "changed": False, "msg": "Connection timed out"}

Path = tuple[str, str | None, float | None]
"""Kind, relay, round-trip time in seconds."""


def peer(name: str, number: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "node",
        "public_key": "KEY=",
        "addresses": [f"100.64.{number // 256}.{number % 256}", f"fd5e::{number:x}"],
        "routes": [],
        "unapproved_routes": [],
        "exit_node": False,
        "allowed_ips": [],
        "path": None,
        "endpoint": None,
        "latest_handshake": None,
        "rtt": None,
        "rx_bytes": 0,
        "tx_bytes": 0,
        "persistent_keepalive": 0,
        **changes,
    }


def status(name: str, peers: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "time": NOW,
        "network": "demo",
        "interface": "sennit0",
        "datapath": "userspace",
        "core": "native",
        "node": name,
        "public_key": "KEY=",
        "addresses": ["100.64.0.99"],
        "unapproved_routes": [],
        "listen_port": 51820,
        "uptime": 5.0,
        "netmap": {"version": 7, "sha256": "00", "origin": "the control node", "refused": None},
        "preferences": {},
        "trial": None,
        "exit_node": None,
        "peers": peers,
        "routes": [],
        "beacons": [],
        "beacon": None,
        "netmap_url": None,
        "problems": [],
        "drops": {},
        **changes,
    }


def reports(
    names: list[str],
    paths: dict[tuple[str, str], Path],
    facts: dict[str, dict[str, Any]] | None = None,
    statuses: dict[str, dict[str, Any]] | None = None,
    silent: dict[str, dict[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Of these hosts, with these paths between each two (in the order of the names).

    facts: by host, what its peers say of it. statuses: what it says of itself. silent: what is registered for those
    that say nothing; None for those that were not asked.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in (silent or {}):
            if silent and silent[name] is not None:
                found[name] = silent[name]
            continue
        peers = []
        for number, other in enumerate(names, start=1):
            if other == name:
                continue
            path = paths.get((name, other)) or paths.get((other, name))
            live = {}
            if path:
                kind, relay, rtt = path
                live = {
                    "path": {"kind": kind, "relay": relay},
                    "endpoint": f"198.51.100.{number % 250}:51820",
                    "latest_handshake": NOW - 20,
                    "rtt": rtt,
                }
            peers.append(peer(other, number, **live, **(facts or {}).get(other, {})))
        number = names.index(name) + 1
        own = status(name, peers, addresses=peer(name, number)["addresses"], **(statuses or {}).get(name, {}))
        found[name] = {"installed": True, "agent": copy.deepcopy(own)}
    return found


def example() -> dict[str, dict[str, Any]]:
    """Eleven hosts of all sorts."""
    names = [
        "alpha",
        "beta",
        "camera-nvr",
        "gateway-berlin",
        "harbor",
        "laptop",
        "mole",
        "old",
        "phone",
        "warehouse",
        "wharf",
    ]
    paths: dict[tuple[str, str], Path] = {
        ("alpha", "beta"): ("lan", None, 0.0004),
        ("alpha", "camera-nvr"): ("lan", None, 0.0006),
        ("beta", "camera-nvr"): ("lan", None, 0.0005),
        ("harbor", "wharf"): ("ipv6", None, 0.0112),
        ("gateway-berlin", "harbor"): ("ipv6", None, 0.0231),
        ("laptop", "warehouse"): ("relay", "mole", 0.084),
        ("alpha", "laptop"): ("relay", "harbor", 0.0612),
        ("gateway-berlin", "laptop"): ("direct", None, 0.0333),
        ("mole", "phone"): ("direct", None, 0.0455),
    }
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if "phone" not in (one, other) and (one, other) not in paths and (one, other) != ("beta", "warehouse"):
                paths[one, other] = ("direct", None, 0.012 + 0.0031 * (index + len(other)))
    beacons = [
        {"name": name, "since": NOW - 400, "version": 7, "refused": None, "problem": None}
        for name in ("harbor", "mole")
    ]
    relay = {"port": 21473, "attached": 8, "forwarded_bytes": 73_400_320, "drops": {}, "problem": None}
    own = {"port": 21472, "clients": ["alpha", "beta", "laptop"], "refused": {}, "problem": None, "relay": relay}
    statuses = {name: {"beacons": beacons} for name in names}
    statuses["harbor"] = {"beacons": beacons[1:], "beacon": own}
    statuses["mole"] = {"beacons": beacons[:1], "beacon": own}
    statuses["laptop"]["exit_node"] = {"name": "gateway-berlin", "state": "active"}
    statuses["wharf"]["netmap"] = {"version": 6, "sha256": "0", "origin": "beacon mole", "refused": None}
    statuses["alpha"]["routes"] = [
        {"prefix": "192.168.50.0/24", "via": "harbor", "state": "installed"},
        {"prefix": "192.168.60.0/24", "via": "wharf", "state": "not-accepted"},
    ]
    facts = {
        "harbor": {"routes": ["192.168.50.0/24", "fd50:5e9:a::/64"], "exit_node": True},
        "wharf": {"routes": ["192.168.60.0/24"], "unapproved_routes": ["10.0.0.0/8"]},
        "gateway-berlin": {"exit_node": True},
        "phone": {"kind": "static"},
    }
    silent: dict[str, Any] = {"old": UNREACHABLE, "phone": None}
    return reports(names, paths, facts, statuses, silent)


def large(count: int) -> dict[str, dict[str, Any]]:
    """So many hosts, each of which reaches all; every seventh pair is relayed."""
    names = [f"node-{number:03}.example" for number in range(count)]
    paths: dict[tuple[str, str], Path] = {}
    for index, one in enumerate(names):
        for number, other in enumerate(names[index + 1 :]):
            if index // 5 == (index + 1 + number) // 5:
                paths[one, other] = ("lan", None, 0.0005)
            elif (index + 7 * number) % 41 == 0:
                paths[one, other] = ("relay", names[0], 0.07)
            else:
                paths[one, other] = ("direct", None, 0.021)
    return reports(names, paths)
