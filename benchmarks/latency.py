"""Round trips through each tunnel, at rest and beside a TCP stream."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
from collections.abc import Iterator

from benchmarks import iperf, records
from benchmarks.subjects import Subject

# Below 10 ms ping does not sleep between two, and keeps a core busy: no rest, but nothing new beside a stream.
_INTERVALS = {"rest": 0.02, "load": 0.004}
_TIME = re.compile(r"time=([\d.]+) ms")


def measure(subjects: list[Subject], rounds: int, seconds: float) -> list[records.Record]:
    """Median and 99th percentile of round-trip times, in milliseconds."""
    found = records.Rounds()
    for _round in range(rounds):
        for state, beside in (("rest", _nothing), ("load", _stream)):
            for subject in subjects:
                with beside(subject, seconds):
                    times = round_trips(subject, 2 * seconds, _INTERVALS[state])
                found.add(f"latency-{state}-p50", subject.name, statistics.median(times), "ms")
                found.add(f"latency-{state}-p99", subject.name, statistics.quantiles(times, n=100)[98], "ms")
    return found.records()


def round_trips(subject: Subject, seconds: float, interval: float = 0.02) -> list[float]:
    """Of echoes that are asked for at this interval, in milliseconds."""
    command = "ping", "-n", "-i", str(interval), "-c", str(int(seconds / interval)), "-W", "2", subject.address
    return [float(time) for time in _TIME.findall(subject.near.run(*command))]


@contextlib.contextmanager
def _nothing(_subject: Subject, _seconds: float) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _stream(subject: Subject, seconds: float) -> Iterator[None]:
    """A TCP stream that is there before the block, and outlasts it."""
    with iperf.server(subject):
        command = iperf.command(subject, 2 * seconds + 10)
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # A stream that has just begun is not yet as fast as it gets.
            round_trips(subject, 0.5)
            yield
        finally:
            client.kill()
            client.wait()
