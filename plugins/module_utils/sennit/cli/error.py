# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the command `sennit` says that it has no result."""

from __future__ import annotations

PROGRAM = "sennit"
EXIT_NO_ANSWER = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_NO_PERMISSION = 4
EXIT_AGENT = 5


class CliError(Exception):
    """Something to tell the user instead of a result."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def without_icmp(error: OSError) -> CliError:
    """Echoes cannot be sent."""
    if isinstance(error, PermissionError):
        return CliError("no permission to send ICMP: it takes root (CAP_NET_RAW)", EXIT_NO_PERMISSION)
    return CliError(f"cannot send ICMP: {error.strerror or error}", EXIT_AGENT)
