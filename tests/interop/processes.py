"""Processes by their names, and their ends. Any that was seen a moment ago may be gone."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterable, Iterator
from pathlib import Path

# Seconds. The kernel removes the devices of those that end one after another.
_PATIENCE = 120


def name_of(pid: int) -> str:
    """As the kernel knows it. Empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def named(name: str, pids: Iterable[int]) -> list[int]:
    """Those of them that have this name."""
    return [pid for pid in pids if name_of(pid) == name]


def children_of(pid: int) -> list[int]:
    """Those that any of its threads has begun."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, thread.read_text().split())
    return children


@contextlib.contextmanager
def ending(*pids: int) -> Iterator[None]:
    """What the block does ends these processes. Leaves it when they have ended."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                processes[pid] = os.pidfd_open(pid)
                stack.callback(os.close, processes[pid])
        yield
        for pid, process in processes.items():
            if not select.select([process], [], [], _PATIENCE)[0]:
                raise AssertionError(f"process {pid} did not end")
