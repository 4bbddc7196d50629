"""1,000 nodes and one beacon: how soon all have a new map, what the beacon needs at rest, and its restart.

The beacon is an agent as it is on a host. The nodes are simulated, each with a key, WireGuard sessions and a stream of
its own (crowd.py); they share the machine's cores with the beacon. Callable by itself, e.g. with fewer nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import records  # noqa: E402
from benchmarks.processes import cpu_seconds, resident  # noqa: E402
from tests.interop.agents import NETWORK, PORT, Host, Mesh  # noqa: E402
from tests.interop.hostile import BEACON_PORT  # noqa: E402
from tests.native import library  # noqa: E402

from sennit.netmap.model import KIND_NODE, Node  # noqa: E402
from sennit.netmap.signing import verify_key_of  # noqa: E402
from sennit.wireguard.noise import StaticKeys  # noqa: E402

NODES = 1000
# Seconds, and MB.
PUSH_AIM = 2.0
MEMORY_AIM = 300.0
RETURN_AIM = 30.0
_REST = 30.0  # seconds at which the beacon is watched while nothing happens
_PATIENCE = 120.0
_UNDERLAY = "198.18.0.0/15"


@dataclass(frozen=True)
class Member:
    """A simulated node."""

    keys: StaticKeys
    node: Node
    underlay: str


def members(count: int) -> list[Member]:
    made = []
    for number in range(1, count + 1):
        keys = StaticKeys.of(os.urandom(32))
        place = f"{number // 250}.{number % 250 + 1}"
        # Half of them are behind a router that lets nobody in.
        endpoint = f"198.18.{place}:51820" if number % 2 else None
        addresses = (f"100.65.{place}", f"fd5e::1:{number:x}")
        made.append(
            Member(keys, Node(f"node{number:04}", KIND_NODE, keys.public, addresses, endpoint), f"198.18.{place}")
        )
    return made


class Crowd:
    """The process of the simulated nodes, and what it tells."""

    def __init__(self, host: Host, path: Path) -> None:
        self._events: list[tuple[str, int, float, str]] = []
        self._more = threading.Condition()
        self._ended = False
        command = ["ip", "netns", "exec", host.namespace, sys.executable, str(ROOT / "benchmarks/crowd.py"), str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            what, number, at, *more = line.rstrip("\n").split(" ", 3)
            with self._more:
                self._events.append((what, int(number), float(at), "".join(more)))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def when(self, what: str, since: float, more: str = "") -> dict[int, float]:
        """By node, when this last happened to it since then."""
        with self._more:
            return {
                number: at for kind, number, at, text in self._events if (kind, text) == (what, more) and at >= since
            }

    def all_at(self, count: int, what: str, since: float, more: str = "") -> list[float]:
        """The times at which this happened to so many nodes, when it has happened to all of them."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = self.when(what, since, more)
            if len(found) == count:
                return list(found.values())
            with self._more:
                if self._ended:
                    raise RuntimeError("the crowd has ended")
                if not self._more.wait(deadline - time.monotonic()):
                    raise RuntimeError(f"{what} {more}: {len(found)} of {count} nodes within {_PATIENCE:g} s")


@contextlib.contextmanager
def beacon_and_crowd(directory: Path, who: list[Member]) -> Iterator[tuple[Host, Crowd]]:
    """The beacon's host, and the nodes, which connect."""
    with Mesh(directory, "beacon", "crowd") as mesh:
        beacon, crowd = mesh.hosts
        beacon.environment["SENNIT_NATIVE"] = str(library())
        beacon.run("ip", "route", "add", _UNDERLAY, "via", crowd.underlay[0])
        (directory / "addresses").write_text("".join(f"addr add {each.underlay}/32 dev eth0\n" for each in who))
        crowd.run("ip", "-batch", str(directory / "addresses"))
        beacon.start()
        signed = netmap(beacon, who, 1)
        beacon.apply(signed)
        (directory / "netmap").write_bytes(signed)
        told = {
            "netmap": str(directory / "netmap"),
            "network": NETWORK.name,
            "signing_key": verify_key_of(mesh.signing_key),
            "public_key": who[0].keys.public.hex(),
            "endpoint": [beacon.underlay[0], PORT],
            "mtu": json.loads(beacon.run("ip", "-j", "link", "show", "sennit0"))[0]["mtu"],
            "nodes": [
                {"private_key": each.keys.private.hex(), "underlay": each.underlay, "addresses": each.node.addresses}
                for each in who
            ],
        }
        (directory / "crowd.json").write_text(json.dumps(told))
        with Crowd(crowd, directory / "crowd.json") as nodes:
            yield beacon, nodes


def netmap(beacon: Host, who: list[Member], version: int) -> bytes:
    """Of each version, another node has another route."""
    nodes = [each.node for each in who]
    changed = version % len(nodes)
    nodes[changed] = dataclasses.replace(nodes[changed], routes=(f"10.{version // 256}.{version % 256}.0/24",))
    return beacon.mesh.netmap(version, beacon.node(beacon=BEACON_PORT), *nodes)


def measure(rounds: int, count: int = NODES) -> list[records.Record]:
    found = records.Rounds()
    subject = f"sennit, {count:,} nodes"
    who = members(count)
    with (
        tempfile.TemporaryDirectory(prefix="sennit-bench-") as text,
        beacon_and_crowd(Path(text), who) as (beacon, crowd),
    ):
        crowd.all_at(count, "served", 0.0)
        used, lasted = cpu_seconds(processes(beacon)), time.monotonic()
        time.sleep(_REST)
        used, lasted = cpu_seconds(processes(beacon)) - used, time.monotonic() - lasted
        memory, proportional = resident(processes(beacon))
        found.add("beacon-rest-cpu", subject, 100 * used / lasted, "% of a core")
        found.add("beacon-rest-memory", subject, memory, "MB", MEMORY_AIM)
        found.add("beacon-rest-memory-pss", subject, proportional, "MB", MEMORY_AIM)
        for version in range(2, 2 + rounds):
            took, used = push(beacon, crowd, who, version)
            found.add("beacon-push-median", subject, percentile(took, 0.50), "s")
            found.add("beacon-push-p99", subject, percentile(took, 0.99), "s", PUSH_AIM)
            found.add("beacon-push-cpu", subject, used, "s")
            memory, _proportional = resident(processes(beacon))
            found.add("beacon-push-memory", subject, memory, "MB", MEMORY_AIM)
        back, connected = restart(beacon, crowd, count)
        found.add("beacon-restart-median", subject, percentile(back, 0.50), "s")
        found.add("beacon-restart-all-back", subject, max(back), "s", RETURN_AIM)
        found.add("beacon-restart-peak", subject, busiest(connected, 1.0), "connections/s")
    return found.records()


def processes(beacon: Host) -> list[int]:
    """The agent's, all of them."""
    return [*([beacon.agent.pid] if beacon.agent else []), *beacon.workers()]


def push(beacon: Host, crowd: Crowd, who: list[Member], version: int) -> tuple[list[float], float]:
    """Seconds from a map's delivery to the beacon until each node has all of it; the beacon's processor seconds."""
    signed = netmap(beacon, who, version)
    used = cpu_seconds(processes(beacon))
    started = time.monotonic()
    beacon.apply(signed)
    took = [at - started for at in crowd.all_at(len(who), "complete", started, str(version))]
    return took, cpu_seconds(processes(beacon)) - used


def restart(beacon: Host, crowd: Crowd, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of a beacon, whose agent was killed, until each node is served again; and the times of
    their connections.
    """
    beacon.stop(signal.SIGKILL)
    started = time.monotonic()
    beacon.start()
    served = crowd.all_at(count, "served", started)
    return [at - started for at in served], list(crowd.when("connected", started).values())


def percentile(values: list[float], share: float) -> float:
    """The least value that is not exceeded by this share of them (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def busiest(times: list[float], seconds: float) -> int:
    """The most that are in any window of so many seconds."""
    ordered = sorted(times)
    most = first = 0
    for number, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, number - first + 1)
    return most


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(records.table(measure(arguments.rounds, arguments.nodes)))
