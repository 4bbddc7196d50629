"""`make bench`: measure Sennit beside its peers, in the same run and in turns."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import (  # noqa: E402
    beacon,
    datagrams,
    delivery,
    fleet,
    handshakes,
    latency,
    memory,
    names,
    netmaps,
    plot,
    records,
    recovery,
    relayed,
    rest,
    streams,
)
from benchmarks.subjects import running  # noqa: E402

# How often each subject has its turn where three times would take long and tell nothing new.
ROUNDS = {"udp": 2, "latency": 2, "handshakes": 1, "recovery": 2, "names": 2, "site": 2, "delivery": 2}
# On subjects that are all up; and those that bring up their own.
TOGETHER = {
    "tcp": streams.measure,
    "udp": datagrams.measure,
    "latency": latency.measure,
    # After the work: what an agent looks up when it starts is done, and what it keeps of traffic is seen.
    "rest": rest.measure,
}
ALONE = {
    "memory": memory.measure,
    "handshakes": handshakes.measure,
    "recovery": recovery.measure,
    "relayed": relayed.measure,
    "names": names.measure,
    "site": fleet.site_again,
    "netmaps": netmaps.measure,
    "beacon": beacon.measure,
    "delivery": delivery.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    works = [*TOGETHER, *ALONE]
    parser.add_argument("--only", action="append", choices=works, metavar="WORK", help=", ".join(works))
    parser.add_argument("--subject", action="append", metavar="NAME", help="only these, and what they are compared to")
    parser.add_argument("--rounds", type=int, help="how often each subject has its turn")
    parser.add_argument("--seconds", type=float, default=1.5, help="for how long, each time")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    wanted = arguments.only or works
    rounds = {work: arguments.rounds or ROUNDS.get(work, 3) for work in works}
    parts = Parts()
    if any(work in TOGETHER for work in wanted):
        with (
            parts.one("all tunnels together"),
            tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory,
            running(Path(directory)) as subjects,
        ):
            chosen = [each for each in subjects if not arguments.subject or each.name in arguments.subject]
            for work, measure in TOGETHER.items():
                if work in wanted:
                    with parts.one(work):
                        records.save(measure(chosen, rounds[work], arguments.seconds))
    for work, alone in ALONE.items():
        if work in wanted:
            with parts.one(work):
                records.save(alone(rounds[work]))
    written = [records.PATH, *plot.draw(records.load())]
    print(f"\n{records.table(records.load())}\n\nwritten to {', '.join(str(p.relative_to(ROOT)) for p in written)}")
    print(f"took {', '.join(parts.took)}")
    if parts.failed:
        print(f"failed, see above: {', '.join(parts.failed)}", file=sys.stderr)
    return 1 if parts.failed else 0


class Parts:
    """What is measured, one after the other: the failure of one is told, and the others go on."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.failed: list[str] = []

    @contextlib.contextmanager
    def one(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except Exception:
            traceback.print_exc()
            self.failed.append(name)
        self.took.append(f"{name} {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
