"""Names: the stub resolver beside dnsmasq and unbound, in the same run and in turns, asked by dnsperf.

All of them run in one network namespace and answer over its loopback device, as on a host. They have the same names
of a mesh, and forward the others to the same nameserver, whose answers have a TTL of 0, so that nobody's cache answers.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import records
from tests.interop import nameservers
from tests.interop.namespaces import network_namespace

SECONDS = 3.0
UPSTREAM = "127.0.0.9"
DIRECT = "the nameserver"
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
    """Where each of them answers, by name; and the nameserver itself."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(network_namespace())
        stack.enter_context(nameservers.dnsmasq(directory, UPSTREAM, other_names()))
        stack.enter_context(nameservers.dnsmasq(directory, "127.0.0.2", mesh_names(), servers=[UPSTREAM]))
        stack.enter_context(nameservers.unbound(directory, "127.0.0.3", mesh_names(), servers=[UPSTREAM]))
        stack.enter_context(nameservers.stub(mesh_names(), default=[UPSTREAM]))
        yield {"sennit": STUB, "dnsmasq": "127.0.0.2", "unbound": "127.0.0.3", DIRECT: UPSTREAM}


def dnsperf(server: str, queries: Path, *options: str) -> str:
    command = ["dnsperf", "-s", server, "-d", str(queries), "-l", f"{SECONDS:g}", *options]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    codes = _after(output, "Response codes:")
    if "100.00%" not in codes or not codes.startswith("NOERROR"):
        raise RuntimeError(f"{server}: {codes}")
    return output


def rate(server: str, queries: Path) -> float:
    """Answers a second, with as many queries outstanding as dnsperf has by default (100)."""
    return float(_after(dnsperf(server, queries), "Queries per second:"))


def latencies(server: str, queries: Path) -> list[float]:
    """Milliseconds that each answer took under a light load, sorted."""
    output = dnsperf(server, queries, "-v", "-Q", str(LIGHT_LOAD))
    answers = (line.split() for line in output.splitlines() if line.startswith("> "))
    return sorted(1000 * float(words[-1]) for words in answers if words[1] != "T")  # T: there was none in time


def _after(output: str, label: str) -> str:
    return next(line for line in output.splitlines() if label in line).split(label)[1].strip()


def measure(rounds: int) -> list[records.Record]:
    found = records.Rounds()
    with tempfile.TemporaryDirectory(prefix="sennit-bench-") as text, subjects(Path(text)) as servers:
        works = {"mesh": mesh_names(), "forwarded": other_names()}
        for work, names in works.items():
            queries = Path(text) / work
            queries.write_text("".join(f"{name} A\n" for name in names))
            for _round in range(rounds):
                median = {}
                for subject, server in servers.items():
                    if subject == DIRECT and work == "mesh":
                        continue
                    took = latencies(server, queries)
                    median[subject] = statistics.median(took)
                    found.add(f"dns-{work}-median", subject, median[subject], "ms")
                    found.add(f"dns-{work}-p99", subject, took[int(len(took) * 0.99)], "ms")
                    if subject != DIRECT:
                        found.add(f"dns-{work}", subject, rate(server, queries), "queries/s")
                if DIRECT in median:
                    found.add(f"dns-{work}-added", "sennit", median["sennit"] - median[DIRECT], "ms")
    return found.records()
