# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent tells systemd: readiness, one line of status, and that it is alive (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Optional


class Notifier:
    """Speaks to the service manager, or to nobody when none started us."""

    def __init__(self, environment: Optional[Mapping[str, str]] = None) -> None:
        """``environment`` is the process's own unless given."""
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_usec = int(environment.get("WATCHDOG_USEC", "0"))
        # The variables are inherited by children, which must not take them as meant for themselves.
        self._for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())

    @property
    def watchdog_interval(self) -> Optional[float]:
        """Seconds between two signs of life, half of what systemd waits for; None without a watchdog."""
        return self._watchdog_usec / 2e6 if self._watchdog_usec and self._for_us else None

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows."""
        self._send("STATUS=" + text.replace("\n", " "))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # The mesh does not depend on the manager: it is never waited for, and one that is gone or too busy to
            # listen misses a message. If what it missed was a sign of life, the next one comes in time.
            channel.setblocking(False)
            with contextlib.suppress(OSError):
                channel.sendto(message.encode(), address)
