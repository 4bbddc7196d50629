# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent tells systemd, and has it keep over a restart (sd_notify(3), sd_listen_fds(3)).

Readiness, one line of status, that it is alive; and the descriptor of the TUN device, so that the device stays, with
its addresses and routes, until the next agent takes it up.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Mapping
from typing import Optional

_KEPT = "tun"
_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_PATIENCE = 5.0


class Notifier:
    """Speaks to the service manager, or to nobody when none started us."""

    def __init__(self, environment: Optional[Mapping[str, str]] = None) -> None:
        """``environment`` is the process's own unless given."""
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_usec = int(environment.get("WATCHDOG_USEC", "0"))
        # The variables are inherited by children, which must not take them as meant for themselves.
        self._for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._unit = environment.get("SENNIT_UNIT", "")
        kept_for_us = environment.get("LISTEN_PID") == str(os.getpid())
        self._kept_names = environment.get("LISTEN_FDNAMES", "").split(":") if kept_for_us else []

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

    def restarting(self) -> bool:
        """Whether we are being stopped to be started again."""
        if not self._unit:
            return False
        command = ["systemctl", "list-jobs", "--no-legend", "--plain", self._unit]
        try:
            jobs = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return False
        fields = [line.split() for line in jobs.splitlines()]
        return any(job[1:3] in ([self._unit, "restart"], [self._unit, "try-restart"]) for job in fields)

    def keep(self, descriptor: int) -> bool:
        """Have the manager hold the descriptor until the next start. Whether it surely does."""
        with contextlib.suppress(OSError):
            self._send(f"FDSTORE=1\nFDNAME={_KEPT}\nFDPOLL=0", descriptor)
            # Whom a message comes from is known for as long as that process is there: wait until it was read.
            reading, writing = os.pipe2(os.O_CLOEXEC)
            try:
                sent = self._send("BARRIER=1", writing)
            finally:
                os.close(writing)
            try:
                return sent and bool(select.select([reading], [], [], _PATIENCE)[0])
            finally:
                os.close(reading)
        return False

    def take_kept(self) -> Optional[int]:
        """The descriptor that the agent before us left. Nobody else holds it then: it ends with us."""
        names, self._kept_names = self._kept_names, []
        found = None
        for number, name in enumerate(names, _FIRST_DESCRIPTOR):
            if name == _KEPT and found is None:
                os.set_inheritable(number, False)
                found = number
            else:
                os.close(number)
        if names:
            self._send(f"FDSTOREREMOVE=1\nFDNAME={_KEPT}")
        return found

    def _send(self, message: str, *descriptors: int) -> bool:
        """Whether it was sent."""
        if not self._address:
            return False
        # A leading @ stands for the NUL of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # The mesh does not depend on the manager: it is never waited for, and one that is gone or too busy to
            # listen misses a message. If what it missed was a sign of life, the next one comes in time.
            channel.setblocking(False)
            try:
                channel.sendmsg([message.encode()], ancillary, 0, address)
            except OSError:
                return False
        return True
