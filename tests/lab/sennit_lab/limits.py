"""The kernel's limits that many machines share: those that a few systemds would use up are raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# systemd and its services take about twenty instances a machine, all counted for the one root of the outer machine,
# where the default is 128; past it, PID 1 of the next machine ends with "Too many open files".
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES = 4096


def raise_limits(say: Callable[[str], None]) -> None:
    """Raise what is lower than several labs need; a higher value stays."""
    current = int(INOTIFY_INSTANCES.read_text(encoding="ascii"))
    if current < INSTANCES:
        INOTIFY_INSTANCES.write_text(str(INSTANCES), encoding="ascii")
        say(f"fs.inotify.max_user_instances raised from {current} to {INSTANCES}: every systemd needs some")
