"""TCP through each tunnel: one stream, four, and both directions at once; and what a gigabyte costs."""

from __future__ import annotations

from benchmarks import iperf, records
from benchmarks.processes import cpu_seconds
from benchmarks.subjects import Subject

WORKS = {"tcp-1-stream": [], "tcp-4-streams": ["--parallel", "4"], "tcp-both-ways": ["--bidir"]}


def measure(subjects: list[Subject], rounds: int, seconds: float) -> list[records.Record]:
    """Gb/s of payload that arrived, of all streams together; processor seconds a gigabyte of one stream."""
    found = records.Rounds()
    for _round in range(rounds):
        for work, options in WORKS.items():
            for subject in subjects:
                before = [cpu_seconds(subject.processes(host)) for host in (subject.near, subject.far)]
                with iperf.server(subject):
                    end = iperf.client(subject, seconds, *options)
                after = [cpu_seconds(subject.processes(host)) for host in (subject.near, subject.far)]
                received = [value for key, value in end.items() if key.startswith("sum_received")]
                found.add(work, subject.name, sum(each["bits_per_second"] for each in received) / 1e9, "Gb/s")
                if work == "tcp-1-stream" and subject.tunnel:
                    gigabytes = end["sum_received"]["bytes"] / 1e9
                    for side, start, stop in zip(("sender", "receiver"), before, after, strict=True):
                        found.add(f"cpu-{side}", subject.name, (stop - start) / gigabytes, "s/GB")
    return found.records()
