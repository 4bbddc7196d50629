"""iperf3 between the two ends of a subject."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

from benchmarks.subjects import Subject

_PORT = 5201


@contextlib.contextmanager
def server(subject: Subject) -> Iterator[None]:
    """A server on the far end, for as many tests as come."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", subject.far.namespace,
         "iperf3", "--server", "--forceflush", "--port", str(_PORT)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while process.stdout is not None and "listening" not in process.stdout.readline():
            if process.poll() is not None:
                raise RuntimeError("iperf3 does not start")
        yield
    finally:
        process.kill()
        process.communicate()


def command(subject: Subject, seconds: float, *options: str) -> list[str]:
    """Of a client on the near end."""
    return [
        *("ip", "netns", "exec", subject.near.namespace, "iperf3", "--client", subject.address),
        *("--port", str(_PORT), "--time", f"{seconds:g}", "--json", *options),
    ]


def client(subject: Subject, seconds: float, *options: str) -> dict[str, Any]:
    """What a test with these options found in the end. Raises RuntimeError when it fails."""
    done = subprocess.run(command(subject, seconds, *options), capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}")
    if done.returncode or "error" in found:
        raise RuntimeError(f"iperf3 through {subject.name}: {found.get('error') or done.stderr.strip()}")
    end: dict[str, Any] = found["end"]
    return end
