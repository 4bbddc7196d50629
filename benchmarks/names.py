"""Names: the stub resolver beside dnsmasq and unbound, in the same run and in turns, asked by dnsperf.

All of them run in one network namespace and answer over its loopback device, as on a host. They have the same names
of a mesh, and forward the others to the same nameserver, whose answers have a TTL of 0, so that nobody's cache answers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import records  # noqa: E402
from tests.interop import nameservers  # noqa: E402
from tests.interop.namespaces import network_namespace  # noqa: E402

REFERENCE = "dnsmasq"
UPSTREAM = "127.0.0.9"
STUB = "100.100.100.100"
DOMAIN = "demo.internal"
NODES = 200
FORWARDED = 2000
LIGHT_LOAD = 500
"""Queries a second at which latency is measured: more than a host has, and less than any of them can answer."""


def mesh_names() -> dict[str, str]:
    return {f"node{number}.{DOMAIN}": f"100.64.{number // 200}.{number % 200 + 1}" for number in range(NODES)}


def other_names() -> dict[str, str]:
    return {f"www{number}.example.test": f"192.0.2.{number % 250 + 1}" for number in range(FORWARDED)}


@contextlib.contextmanager
def subjects(directory: Path) -> Iterator[dict[str, str]]:
    """Where each of them answers, by name; `direct` is the nameserver itself."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(network_namespace())
        stack.enter_context(nameservers.dnsmasq(directory, UPSTREAM, other_names()))
        stack.enter_context(nameservers.dnsmasq(directory, "127.0.0.2", mesh_names(), servers=[UPSTREAM]))
        stack.enter_context(nameservers.unbound(directory, "127.0.0.3", mesh_names(), servers=[UPSTREAM]))
        stack.enter_context(nameservers.stub(mesh_names(), default=[UPSTREAM]))
        yield {"sennit": STUB, "dnsmasq": "127.0.0.2", "unbound": "127.0.0.3", "direct": UPSTREAM}


def dnsperf(server: str, queries: Path, seconds: float, *options: str) -> str:
    command = ["dnsperf", "-s", server, "-d", str(queries), "-l", f"{seconds:g}", *options]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lost = float(_after(output, "Queries lost:").split()[0])
    bad = [line for line in output.splitlines() if "Response codes:" in line and "NOERROR" not in line]
    if lost or bad:
        raise RuntimeError(f"{server}: {lost:g} queries lost {bad}\n{output[-2000:]}")
    return output


def rate(server: str, queries: Path, seconds: float) -> float:
    """Answers a second, with as many queries outstanding as dnsperf has by default (100)."""
    return float(_after(dnsperf(server, queries, seconds), "Queries per second:"))


def latencies(server: str, queries: Path, seconds: float) -> list[float]:
    """Milliseconds that each answer took under a light load, sorted."""
    output = dnsperf(server, queries, seconds, "-v", "-Q", str(LIGHT_LOAD))
    return sorted(1000 * float(line.split()[-1]) for line in output.splitlines() if line.startswith("> "))


def _after(output: str, label: str) -> str:
    return next(line for line in output.splitlines() if label in line).split(label)[1].strip()


def measure(rounds: int, seconds: float) -> list[records.Record]:
    values: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sennit-bench-dns-") as text:
        directory = Path(text)
        works = {"mesh": mesh_names(), "forwarded": other_names()}
        for work, names in works.items():
            (directory / work).write_text("".join(f"{name} A\n" for name in names))
        with subjects(directory) as servers:
            for number in range(rounds):
                for work in works:
                    direct = 0.0
                    # The nameserver itself comes first: what the others take is compared with it.
                    for name in sorted(servers, key=lambda name: name != "direct"):
                        if name == "direct" and work == "mesh":
                            continue
                        queries, server = directory / work, servers[name]
                        found = latencies(server, queries, seconds)
                        median, p99 = statistics.median(found), found[int(len(found) * 0.99)]
                        values.setdefault((f"dns-{work}-p99", name, "ms"), []).append(p99)
                        if name == "direct":
                            direct = median
                            continue
                        if work == "forwarded":
                            values.setdefault((f"dns-{work}-added", name, "ms"), []).append(median - direct)
                        answered = rate(server, queries, seconds)
                        values.setdefault((f"dns-{work}", name, "queries/s"), []).append(answered)
                        print(
                            f"round {number + 1} of {rounds}: {work} names: {name}: {answered:.0f} queries/s, "
                            f"p99 {p99:.3f} ms",
                            flush=True,
                        )
    return [records.record(work, subject, each, unit) for (work, subject, unit), each in values.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each resolver has its turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="for how long, each time")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    measured = measure(arguments.rounds, arguments.seconds)
    records.save(measured)
    print(f"\n{records.table(measured, REFERENCE)}\n\nwritten to {records.PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
