"""What an end costs that has nothing to do: processor time and memory."""

from __future__ import annotations

import time

from benchmarks import records
from benchmarks.processes import cpu_seconds, resident
from benchmarks.subjects import Subject

_SECONDS = 20.0


def measure(subjects: list[Subject], _rounds: int, _seconds: float) -> list[records.Record]:
    """All at the same time, as none of them does anything."""
    tunnels = [subject for subject in subjects if subject.tunnel]
    before = [cpu_seconds(subject.processes(subject.near)) for subject in tunnels]
    started = time.monotonic()
    time.sleep(_SECONDS)
    lasted = time.monotonic() - started
    found = records.Rounds()
    for subject, used in zip(tunnels, before, strict=True):
        pids = subject.processes(subject.near)
        memory, proportional = resident(pids)
        found.add("at-rest-cpu", subject.name, 100 * (cpu_seconds(pids) - used) / lasted, "% of a core")
        found.add("at-rest-memory", subject.name, memory, "MB")
        found.add("at-rest-memory-pss", subject.name, proportional, "MB")
    return found.records()
