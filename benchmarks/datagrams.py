"""UDP through each tunnel: how many packets a second arrive without loss."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from benchmarks import records
from benchmarks.subjects import Subject

SIZES = (64, 1200)
LOSS = 0.001
_ATTEMPTS = 2  # at a rate; whatever else the machine does loses packets, too
_START = 100_000
_STEP = 1.4
_HALVINGS = 2
_SECONDS = 0.5
_PORT = "5202"


def measure(subjects: list[Subject], rounds: int, _seconds: float) -> list[records.Record]:
    """The highest rate found with at most LOSS, in thousands of packets a second, by the size of their payload."""
    found = records.Rounds()
    for _round in range(rounds):
        for size in SIZES:
            for subject in subjects:
                with _Receiver(subject) as receiver:
                    found.add(f"udp-{size}", subject.name, _lossless(subject, receiver, size) / 1e3, "kpps")
    return found.records()


@functools.cache
def _program() -> str:
    source = Path(__file__).with_suffix(".c")
    built = source.parents[1] / "build" / "datagrams"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", built, source], check=True)
    return str(built)


class _Receiver:
    """On the far end, with a buffer so large that it loses nothing itself."""

    def __init__(self, subject: Subject) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", subject.far.namespace, _program(), "receive", subject.address, _PORT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._line()

    def __enter__(self) -> _Receiver:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def count(self) -> int:
        """What has arrived since the last call; waits for what is on its way."""
        if self._process.stdin is None:
            raise AssertionError("there is a pipe")
        print(file=self._process.stdin, flush=True)
        return int(self._line())

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the receiver of datagrams has ended")
        return line


def _lossless(subject: Subject, receiver: _Receiver, size: int) -> float:
    """Search by steps, until one rate is carried and the next one is not; then halve what is between them."""
    low = high = 0.0
    rate = float(_START)
    while not (low and high):
        arrived = _carried(subject, receiver, size, rate)
        if arrived and arrived < rate * 0.9:  # the sender has no more to give
            return arrived
        low, high, rate = (arrived, high, rate * _STEP) if arrived else (low, rate, rate / _STEP)
    for _halving in range(_HALVINGS):
        rate = (low + high) / 2
        arrived = _carried(subject, receiver, size, rate)
        low, high = (arrived, high) if arrived else (low, rate)
    return low


def _carried(subject: Subject, receiver: _Receiver, size: int, rate: float) -> float:
    """How many packets a second arrived when as many were sent, or 0 when too many were lost."""
    for _attempt in range(_ATTEMPTS):
        command = [_program(), "send", subject.address, _PORT, str(size), f"{rate:.0f}", str(_SECONDS)]
        sent, lasted = map(float, subject.near.run(*command).split())
        arrived = receiver.count()
        if arrived >= sent * (1 - LOSS):
            return arrived / lasted
    return 0.0
