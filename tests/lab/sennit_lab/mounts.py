"""What is mounted where, and undoing it."""

from __future__ import annotations

import shutil
from pathlib import Path

from .commands import run


def mounts_under(path: Path) -> list[str]:
    """Mount points at or below a path, the innermost first."""
    inside = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        target = line.split(" ")[4].encode().decode("unicode_escape")  # spaces are written as \040
        if target == str(path) or target.startswith(f"{path}/"):
            inside.append(target)
    return inside[::-1]


def remove_tree(path: Path) -> None:
    """Unmount everything below a path, then delete it. Nothing that is mounted there is ever deleted itself."""
    for target in mounts_under(path):
        run("umount", target)
    if path.exists():
        shutil.rmtree(path)
