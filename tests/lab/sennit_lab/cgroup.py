"""Control groups: the handle by which the lab finds, and ends, exactly the processes that it started.

systemd inside a machine needs a group of its own (two machines in one group would share their services' groups), in
the unified hierarchy and, where the machine has the older layout, in systemd's named one as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

from .errors import LabError

ROOT = "sennit-lab"
UP = ".up"  # the group of `lab up` itself; no host can be named so


def _hierarchies() -> list[Path]:
    """Where cgroups are mounted: the unified hierarchy first, then systemd's named one if there is one."""
    unified, named = [], []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2":
            unified.append(Path(fields.split(" ")[4]))
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            named.append(Path(fields.split(" ")[4]))
    if not unified:
        raise LabError("no unified cgroup hierarchy (cgroup2) is mounted; the lab cannot run without")
    return [unified[0], *named[:1]]


def enter(lab: str, name: str) -> None:
    """Move this process into one of a lab's groups, a host's own or UP; its children follow."""
    for hierarchy in _hierarchies():
        group = hierarchy / ROOT / lab / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def exists(lab: str) -> bool:
    """Whether the lab has a group: it has, or had, processes."""
    return any((hierarchy / ROOT / lab).exists() for hierarchy in _hierarchies())


def kill(lab: str, patience: float = 20.0) -> None:
    """End every process of a lab at once, wait until they are gone, and remove the lab's groups."""
    unified, *others = _hierarchies()
    group = unified / ROOT / lab
    if group.exists():
        (group / "cgroup.kill").write_text("1", encoding="ascii")
        _wait_empty(group, patience)
    for hierarchy in (unified, *others):
        _remove(hierarchy / ROOT / lab)
        with contextlib.suppress(OSError):  # not there, or another lab is in it
            (hierarchy / ROOT).rmdir()


def _wait_empty(group: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    with (group / "cgroup.events").open(encoding="ascii") as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)  # how the kernel tells that the file's content changed
        while "populated 1" in events.read():
            if time.monotonic() > deadline:
                raise LabError(f"processes in {group} do not end")
            changed.poll(1000)
            events.seek(0)


def _remove(group: Path) -> None:
    if not group.exists():
        return
    for path, _, _ in os.walk(group, topdown=False):
        os.rmdir(path)
