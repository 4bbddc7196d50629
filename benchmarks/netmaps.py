"""Netmaps of networks from 10 to 10,000 nodes: compile, sign, verify, and derive a node's view; and their size.

Callable by itself: `benchmarks/netmaps.py` measures just this.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import ipaddress
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import records  # noqa: E402

from sennit.beacon.messages import Kept  # noqa: E402
from sennit.netmap.admit import admit  # noqa: E402
from sennit.netmap.compile import compile_netmap  # noqa: E402
from sennit.netmap.inventory import Host, Report  # noqa: E402
from sennit.netmap.signing import generate_signing_key, sign, verify, verify_key_of  # noqa: E402
from sennit.netmap.view import derive  # noqa: E402

SIZES = (10, 100, 1_000, 10_000)
NETWORK = "bench"
BEACONS = 3
T = TypeVar("T")
# Milliseconds, with 10,000 nodes.
AIMS = {"compile": 10_000.0, "compile-again": 10_000.0, "view": 1_000.0}
# What a node may cost among 10,000, to what it does among 1,000: the same, but for what else the machine does.
GROWTH = 1.25


def inventory(size: int) -> list[Host]:
    """Of each ten nodes one has a LAN behind it and four have an endpoint; the first three are beacons."""
    return [_host(number) for number in range(size)]


def _host(number: int) -> Host:
    name = f"node{number:05}"
    groups = ["sennit", "sennit_nodes"]
    variables: dict[str, Any] = {"sennit_network": NETWORK, "sennit_domain": "bench.internal"}
    lan = f"10.{number >> 8}.{number & 255}"  # each node has its own: among them the ones that are advertised
    if number % 10 == 0:
        groups.append("sennit_subnet_routers")
        variables["sennit_advertise_routes"] = [f"{lan}.0/24", f"fd00:{number:x}::/64"]
    if number % 5 < 2:
        variables["sennit_endpoint"] = f"{ipaddress.ip_address('203.0.0.0') + number}:51820"
    if number < BEACONS:
        groups.append("sennit_beacons")
        variables["sennit_endpoint"] = f"beacon{number}.example.test:51820"
    key = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
    report = Report(key, (f"{lan}.10/24", f"2001:db8:{number:x}::10/64"), NETWORK, (f"{lan}.10",))
    return Host(name, tuple(groups), variables, report)


def measure(rounds: int) -> list[records.Record]:
    """Milliseconds of each step, and bytes a node."""
    found = records.Rounds()
    for size in SIZES:
        hosts = inventory(size)
        for _round in range(rounds):
            for what, value, unit in _steps(hosts):
                aim = AIMS.get(what) if size == SIZES[-1] else None
                found.add(f"netmap-{what}", _subject(size), value, unit, aim)
    made = found.records()
    return made + growth(made)


def _steps(hosts: list[Host]) -> list[tuple[str, float, str]]:
    """What is measured, its value and its unit."""
    seed = generate_signing_key()
    key = verify_key_of(seed)
    steps = []

    def timed(what: str, function: Callable[..., T], *arguments: object) -> T:
        started = time.perf_counter()
        result = function(*arguments)
        steps.append((what, 1e3 * (time.perf_counter() - started), "ms"))
        return result

    netmap = timed("compile", compile_netmap, hosts, None, key).netmap
    timed("compile-again", compile_netmap, [*hosts, _host(len(hosts))], netmap, key)
    payload = netmap.to_bytes()
    signed = timed("sign", sign, payload, seed)
    timed("verify", verify, signed, key)
    # All that an agent does with a map before it follows it: the last node's, which is the last to be found.
    timed("view", lambda: derive(admit(signed, key, NETWORK), netmap.nodes[-1].public_key))
    return [*steps, ("bytes-a-node", len(Kept.of(signed, netmap.version).packed) / len(hosts), "B")]


def growth(made: list[records.Record]) -> list[records.Record]:
    """How many times as much a node costs in the largest network as in the second largest; 1 is linear."""
    medians = {(each["work"], each["subject"]): each["value"] for each in made}
    found = []
    for what in AIMS:
        less, more = (medians[f"netmap-{what}", _subject(size)] / size for size in SIZES[-2:])
        found.append(records.record(f"netmap-{what}-growth", "sennit", [more / less], "times", GROWTH))
    return found


def _subject(size: int) -> str:
    return f"sennit, {size:,} nodes"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    print(records.table(measure(parser.parse_args().rounds)))
