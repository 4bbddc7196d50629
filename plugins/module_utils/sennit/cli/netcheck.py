# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `sennit netcheck`: what the network around this host is like, and what that means for its paths."""

# This is part of a command, not of a module: it prints.
# pylint: disable=ansible-bad-function

from __future__ import annotations

import argparse
from typing import Any, Callable

from ..api import call
from ..diagnostics.netcheck import netcheck
from .error import EXIT_NO_ANSWER, without_icmp
from .netcheck_display import netcheck_overview

Show = Callable[[argparse.Namespace, Any, Callable[[], str]], None]


def run(options: argparse.Namespace, show: Show) -> int:
    """Returns the exit status: whether all beacons answer. Raises CliError, ApiError."""
    try:
        result = netcheck(lambda: call(options.socket, "status"))
    except OSError as error:
        raise without_icmp(error) from error
    show(options, result, lambda: netcheck_overview(result))
    return EXIT_NO_ANSWER if any(beacon["tunnel_rtt"] is None for beacon in result["beacons"]) else 0
