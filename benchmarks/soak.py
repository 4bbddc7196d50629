"""`make soak`: both cores under a load that changes all the time. What is held must not grow, nor packets go astray.

Memory and descriptors of all processes are looked at after each turn of loads, with nothing under way. The first part
of the time is for what an agent fills once: caches, the allocator's arenas, both keypairs of a session.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import iperf  # noqa: E402
from benchmarks.processes import resident  # noqa: E402
from benchmarks.subjects import NATIVE, PURE, Subject, available  # noqa: E402
from tests.interop.agents import Host, Mesh  # noqa: E402
from tests.interop.stock import transfer  # noqa: E402

_WARM_UP = 1 / 3  # of the time
_GROWTH = 1.0  # MB of an end, over the rest of it
_FEWEST = 6  # samples that say anything of growth
_REORDERED = "replayed-counter"

_LOADS = (
    [],
    ["--reverse"],
    ["--parallel", "8"],
    ["--bidir"],
    ["--udp", "--length", "64", "--bitrate", "10M"],
    ["--udp", "--length", "1200", "--bitrate", "100M", "--reverse"],
    ["--set-mss", "300"],
    ["--bitrate", "5M"],
)


@dataclass
class Held:
    """What one end had, sample by sample."""

    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    reordered: int = 0

    def faults(self) -> list[str]:
        found = []
        if len(self.memory) < _FEWEST:
            found.append(f"{len(self.memory)} samples are too few")
        else:
            if (growth := _growth(self.memory)) > _GROWTH:
                found.append(f"memory grew by {growth:.2f} MB")
            if (growth := _growth(self.descriptors)) >= 1:
                found.append(f"descriptors grew by {growth:g}")
        if self.reordered:
            found.append(f"{self.reordered} packets were dropped as {_REORDERED}")
        return found


def _growth(samples: Sequence[float]) -> float:
    """From the first third's median to that of the last third: one sample high or low makes no difference."""
    third = len(samples) // 3
    return statistics.median(samples[-third:]) - statistics.median(samples[:third])


def sample(subject: Subject, host: Host, held: Held, warm: bool) -> None:
    pids = subject.processes(host)
    if warm:
        held.memory.append(resident(pids)[0])
        held.descriptors.append(sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids))
    held.reordered = host.status()["drops"].get(_REORDERED, 0)


def load(subject: Subject, chance: random.Random) -> None:
    """One of the loads for a second or two, and a file that has to arrive as it was."""
    with iperf.server(subject):
        iperf.client(subject, chance.choice([1, 2]), *chance.choice(_LOADS))
    content = chance.randbytes(chance.choice([1, 1000, 1_000_000, 5_000_000]))
    if transfer(subject.near, subject.far, subject.address, content) != content:
        raise RuntimeError(f"{subject.name}: a file arrived changed")
    subject.near.run(
        "ping", "-n", "-q", "-f", "-c", "500", "-s", str(chance.choice([0, 56, 1392, 8000])), subject.address
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311
    makers = available()
    names = ("pure1", "pure2", "native1", "native2")
    with tempfile.TemporaryDirectory(prefix="sennit-soak-") as directory, Mesh(Path(directory), *names) as mesh:
        subjects = [makers[PURE](*mesh.hosts[:2]), makers[NATIVE](*mesh.hosts[2:])]
        held = {(subject, host): Held() for subject in subjects for host in (subject.near, subject.far)}
        for subject in subjects:
            subject.up()
        started = time.monotonic()
        lasts = 60 * arguments.minutes
        while (passed := time.monotonic() - started) < lasts:
            for subject in subjects:
                load(subject, chance)
            for (subject, host), each in held.items():
                sample(subject, host, each, passed > lasts * _WARM_UP)
            print(f"{passed / 60:.1f} min: {_line(held)}", flush=True)
        for subject in subjects:
            subject.down()
    faults = [
        f"{subject.name} on {host.name}: {each}" for (subject, host), one in held.items() for each in one.faults()
    ]
    print("\n".join(faults) or "nothing grew, and no packet was dropped for its order")
    return 1 if faults else 0


def _line(held: dict[tuple[Subject, Host], Held]) -> str:
    return ", ".join(
        f"{host.name} {each.memory[-1]:.1f} MB, {each.descriptors[-1]} descriptors"
        if each.memory
        else f"{host.name} warms up"
        for (_subject, host), each in held.items()
    )


if __name__ == "__main__":
    sys.exit(main())
