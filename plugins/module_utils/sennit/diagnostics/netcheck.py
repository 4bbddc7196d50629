# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the underlay is like from this host: NAT, IPv6, the beacons and the paths to them.

The beacons and the agent have the word on how this host looks from outside; the rest is measured here, past the mesh,
with the agent's mark, so that an exit node in use does not answer for the network around.
"""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Optional

from ..netmap.endpoint import literal_address, split_endpoint
from . import path_mtu
from .echo import Pinger, family_of
from .nat import RELAY, WIREGUARD, Nat, Sighting, classify
from .rtt import measure, wake

# Seconds, each for all beacons together: a session through the tunnel (a lost initiation is sent again after 5), names,
# an echo past it, sizes of packets.
TUNNEL_TIMEOUT = 6.0
NAMES_TIMEOUT = 2.0
ECHO_TIMEOUT = 1.5
MTU_TIMEOUT = 5.0
# Addresses of beacons to try, at most.
MOST_ADDRESSES = 32

# What a packet of the mesh has around it: IP and UDP header, WireGuard's header and tag (whitepaper, section 5.4.6).
OVERHEAD = {socket.AF_INET: 20 + 8 + 32, socket.AF_INET6: 40 + 8 + 32}

USUAL_MTU = 1500

# An address of the internet, of those that are nobody's (RFC 3849): to ask for the way there, never to send to.
_ANYWHERE = "2001:db8::1"

Ask = Callable[[], Mapping[str, Any]]
"""Gives the agent's status. Raises ApiError."""


@dataclasses.dataclass
class Underlay:
    """One address of a beacon, past the mesh. rtt in seconds; mtu in bytes, as measured, and as the kernel has it."""

    address: str
    source: Optional[str] = None
    rtt: Optional[float] = None
    mtu: Optional[int] = None
    kernel_mtu: Optional[int] = None
    problem: Optional[str] = None


def netcheck(ask: Ask) -> dict[str, Any]:
    """All of it, within fifteen seconds. Raises ApiError, OSError (no permission to send ICMP)."""
    status = _through_the_tunnel(ask)
    mark = status["fwmark"]
    peers = {peer["name"]: peer for peer in status["peers"]}
    places = _places([peers[beacon["name"]] for beacon in status["beacons"] if beacon["name"] in peers])
    paths = {address: Underlay(address) for found in places.values() for address in found}
    _look(paths.values(), mark)
    own = {path.source for path in paths.values() if path.source}
    nats = {f"ipv{version}": _nat(status, version, own) for version in (4, 6)}
    beacons = [
        _beacon(beacon, peers.get(beacon["name"]), [paths[address] for address in places.get(beacon["name"], ())])
        for beacon in status["beacons"]
    ]
    result = {
        "node": status["node"],
        "listen_port": status["listen_port"],
        "own_addresses": sorted(own),
        "nat": {family: dataclasses.asdict(nat) for family, nat in nats.items()},
        "ipv6": _ipv6(paths.values(), mark),
        "beacons": beacons,
        "relays": [beacon["name"] for beacon in beacons if beacon["relay"]],
        "tunnel_mtu": _interface_mtu(status["interface"]),
    }
    return {**result, "problems": list(_problems(result, status["beacon"] is not None))}


def _through_the_tunnel(ask: Ask) -> Mapping[str, Any]:
    """The status, with round-trip times to the beacons, though there was no session before."""
    status = ask()
    names = {beacon["name"] for beacon in status["beacons"]}
    only = {**status, "peers": [peer for peer in status["peers"] if peer["name"] in names]}
    wake(only, time.time(), TUNNEL_TIMEOUT)
    status = ask()
    only = {**status, "peers": [peer for peer in status["peers"] if peer["name"] in names]}
    measured = {peer["name"]: peer for peer in measure(only, time.time())["peers"]}
    return {**status, "peers": [measured.get(peer["name"], peer) for peer in status["peers"]]}


def _places(peers: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The underlay addresses of each beacon, by its name: where packets go now, and what the netmap says."""
    found: dict[str, dict[str, None]] = {peer["name"]: {} for peer in peers}
    names: dict[str, str] = {}
    for peer in peers:
        # What is sent by a relay goes to the relay's address.
        relayed = peer["path"] is not None and peer["path"]["kind"] == "relay"
        for endpoint in ((None if relayed else peer["endpoint"]), peer["configured_endpoint"]):
            if endpoint is None:
                continue
            host = _host_of(endpoint)
            if host is None:
                continue
            if literal_address(host) is None:
                names[peer["name"]] = host
            else:
                found[peer["name"]][host] = None
    for name, addresses in _resolve(names).items():
        found[name].update(dict.fromkeys(addresses))
    left = MOST_ADDRESSES
    for addresses_of in found.values():
        for address in list(addresses_of)[left:]:
            del addresses_of[address]
        left -= len(addresses_of)
    return {name: list(addresses) for name, addresses in found.items()}


def _host_of(endpoint: str) -> Optional[str]:
    try:
        return split_endpoint(endpoint)[0]
    except ValueError:
        # One of the link alone, perhaps: without the interface, nothing can be sent there.
        return None


def _resolve(names: Mapping[str, str]) -> dict[str, list[str]]:
    """All addresses of these names, of those that are found in time."""
    found: dict[str, list[str]] = {}

    def look_up(key: str, name: str) -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except OSError:
            return
        found[key] = [str(address[0]) for _family, _type, _protocol, _name, address in answers]

    # The system's resolver cannot be told to give up; a thread that it holds up is left behind.
    threads = [threading.Thread(target=look_up, args=item, daemon=True) for item in names.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + NAMES_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def _look(paths: Iterable[Underlay], mark: int) -> None:
    """Fill them in."""
    known = {path.address: path for path in paths}
    for path in known.values():
        try:
            path.source, path.kernel_mtu = path_mtu.route_to(path.address, mark)
        except OSError as error:
            path.problem = error.strerror
    reachable = [path.address for path in known.values() if path.source]
    if not reachable:
        return
    with Pinger(reachable, mark) as pinger:
        for answer in pinger.round(1, ECHO_TIMEOUT):
            known[answer.address].rtt = answer.rtt
            known[answer.address].problem = answer.problem or None
    rtts = {path.address: path.rtt for path in known.values() if path.rtt is not None}
    # What the kernel reckons with may be less than the path has: once learned, it is believed for ten minutes.
    highest = {address: max(known[address].kernel_mtu or 0, USUAL_MTU) for address in rtts}
    for address, mtu in path_mtu.measure(rtts, highest, mark, MTU_TIMEOUT).items():
        known[address].mtu = mtu


def _nat(status: Mapping[str, Any], version: int, own: Iterable[str]) -> Nat:
    return classify(
        [seen for seen in _sightings(status["beacons"]) if (":" in seen.address) == (version == 6)],
        set(own),
        status["listen_port"],
    )


def _sightings(beacons: Iterable[Mapping[str, Any]]) -> Iterator[Sighting]:
    for beacon in beacons:
        seen_as = beacon.get("seen_as") or {}
        for key, by in (("observed", WIREGUARD), ("by_relay", RELAY)):
            if seen_as.get(key):
                yield Sighting(beacon["name"], by, *split_endpoint(seen_as[key]))


def _beacon(beacon: Mapping[str, Any], peer: Optional[Mapping[str, Any]], paths: Sequence[Underlay]) -> dict[str, Any]:
    return {
        "name": beacon["name"],
        "connected": beacon["since"] is not None,
        "problem": beacon["problem"],
        "tunnel_rtt": peer["rtt"] if peer else None,
        "path": peer["path"] if peer else None,
        "seen_as": beacon.get("seen_as") or {"observed": None, "by_relay": None},
        "relay": bool(beacon.get("relay")),
        "underlay": [dataclasses.asdict(path) for path in paths],
    }


def _ipv6(paths: Iterable[Underlay], mark: int) -> dict[str, Any]:
    """address: this host's own; works: True, False, or None if there is nobody to try it with."""
    try:
        address: Optional[str] = path_mtu.route_to(_ANYWHERE, mark)[0]
    except OSError:
        address = None
    tried = [path for path in paths if family_of(path.address) == socket.AF_INET6]
    answered = [path.address for path in tried if path.rtt is not None]
    if answered:
        return {"address": address, "works": True, "reason": f"{answered[0]} answers"}
    if address is None:
        return {"address": None, "works": False, "reason": "no address with a way to the internet"}
    if tried:
        return {"address": address, "works": False, "reason": f"no answer from {tried[0].address}"}
    return {"address": address, "works": None, "reason": "no beacon is known to have an IPv6 address"}


def _interface_mtu(interface: str) -> Optional[int]:
    try:
        with open(f"/sys/class/net/{interface}/mtu", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _problems(result: Mapping[str, Any], is_beacon: bool) -> Iterator[str]:
    if not result["node"]:
        yield "there is no netmap yet, so no beacon is known"
    elif not result["beacons"]:
        other = " other" if is_beacon else ""
        yield f"the network has no{other} beacon: nobody can say how this host looks from outside"
    for beacon in result["beacons"]:
        if beacon["tunnel_rtt"] is None:
            reason = f": {beacon['problem']}" if beacon["problem"] else ""
            yield f"beacon {beacon['name']} does not answer through the mesh{reason}"
        for path in beacon["underlay"]:
            room = path["mtu"] - OVERHEAD[family_of(path["address"])] if path["mtu"] else None
            if room is not None and result["tunnel_mtu"] and room < result["tunnel_mtu"]:
                yield (
                    f"the path to {beacon['name']} ({path['address']}) carries {path['mtu']} bytes, which is room for"
                    f" {room} of the mesh's own; its MTU is {result['tunnel_mtu']}: large packets go in fragments"
                )
