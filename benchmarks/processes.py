"""What processes cost: processor time and memory (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(pids: list[int]) -> float:
    """What the processes and the children they have waited for have used so far, in user and kernel mode."""
    # The name in parentheses may hold spaces; the 14th field and on are utime, stime, cutime and cstime.
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(sum(map(int, stat[11:15])) for stat in stats) / os.sysconf("SC_CLK_TCK")


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
