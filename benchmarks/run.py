"""`make bench`: measure Sennit beside its peers, in the same run and in turns."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import fleet, records  # noqa: E402
from benchmarks.subjects import Subject, running  # noqa: E402

REFERENCE = "wireguard-go-2022"
IPERF_PORT = 5201


def tcp_stream(subject: Subject, seconds: float) -> float:
    """Gb/s of payload that one TCP stream brought to the far end."""
    far, near = subject.far.namespace, subject.near.namespace
    server = subprocess.Popen(
        ["ip", "netns", "exec", far, "iperf3", "--server", "--one-off", "--forceflush", "--port", str(IPERF_PORT)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while server.stdout is not None and "listening" not in server.stdout.readline():
            if server.poll() is not None:
                raise RuntimeError("iperf3 does not start")
        client = subprocess.run(
            ["ip", "netns", "exec", near, "iperf3", "--client", subject.address, "--port", str(IPERF_PORT),
             "--time", f"{seconds:g}", "--omit", "1", "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        server.kill()
        server.communicate()
    received: float = json.loads(client.stdout)["end"]["sum_received"]["bits_per_second"]
    return received / 1e9


def resident(pids: list[int]) -> tuple[float, float]:
    """MB that the processes have resident together, and the sum of their proportional set sizes.

    The first counts anonymous pages once, as they are shared by forks of one process only, and files as far as the
    process with most of them has them in memory; other programs that have the same library open make it no smaller.
    """
    anonymous = proportional = files = 0
    for pid in pids:
        rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
        anonymous += rollup["Pss_Anon"]
        proportional += rollup["Pss"]
        files = max(files, _fields(Path(f"/proc/{pid}/status"))["RssFile"])
    return (anonymous + files) / 1024, proportional / 1024


def _fields(path: Path) -> dict[str, int]:
    """The lines `Name:  123 kB`."""
    words = (line.split() for line in path.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) == 3 and line[2] == "kB"}


def cpu_seconds(pids: list[int]) -> float:
    """What the processes and the children they have waited for have used so far, in user and kernel mode."""
    # The name in parentheses may hold spaces; the 14th field and on are utime, stime, cutime and cstime (proc(5)).
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(sum(map(int, stat[11:15])) for stat in stats) / os.sysconf("SC_CLK_TCK")


def streams(subjects: list[Subject], rounds: int, seconds: float) -> list[records.Record]:
    values: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for number in range(rounds):
        for subject in subjects:
            value = tcp_stream(subject, seconds)
            values[subject.name].append(value)
            print(f"round {number + 1} of {rounds}: {subject.name}: {value:.3f} Gb/s", flush=True)
    return [records.record("tcp-1-stream", name, each, "Gb/s") for name, each in values.items()]


def at_rest(subjects: list[Subject], seconds: float) -> list[records.Record]:
    print(f"at rest for {seconds:g} s", flush=True)
    before = {subject.name: cpu_seconds(subject.processes()) for subject in subjects}
    started = time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - started
    found = []
    for subject in subjects:
        used = cpu_seconds(subject.processes()) - before[subject.name]
        memory, proportional = resident(subject.processes())
        found += [
            records.record("at-rest-cpu", subject.name, [100 * used / lasted], "% of a core"),
            records.record("at-rest-memory", subject.name, [memory], "MB"),
            records.record("at-rest-memory-pss", subject.name, [proportional], "MB"),
        ]
    return sorted(found, key=lambda each: str(each["work"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each subject has its turn")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long, each time")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds at rest")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    with tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory, running(Path(directory)) as subjects:
        measured = streams(subjects, arguments.rounds, arguments.seconds)
        # At rest after the work: what an agent looks up when it starts is done, and what it keeps of traffic is seen.
        measured += at_rest(subjects, arguments.rest)
    measured += fleet.site_again(arguments.rounds)
    records.save(measured)
    print(f"\n{records.table(records.load(), REFERENCE)}\n\nwritten to {records.PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
