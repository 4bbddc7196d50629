# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `sennit metrics`: prints them, writes them for node_exporter, or serves them to the mesh."""

# This is part of a command, not of a module: it prints.
# pylint: disable=ansible-bad-function

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any, Optional

from ..api import ApiError, call
from ..diagnostics.rtt import measure
from ..files import replace
from ..metrics.exposition import PROMETHEUS_IMPORT_ERROR, application, exposition
from ..metrics.server import serve
from .error import EXIT_AGENT, CliError


def metrics(options: argparse.Namespace) -> int:
    """Returns the exit status; raises CliError, ApiError.

    What is left for others to read says by itself that no agent answers (sennit_up 0), and is no error.
    """
    if PROMETHEUS_IMPORT_ERROR is not None:
        message = "the Python library prometheus_client (package python3-prometheus-client) is not installed"
        raise CliError(message, EXIT_AGENT)
    try:
        if options.textfile:
            replace(options.textfile, exposition(lambda: _status_if_any(options, options.rtt)), mode=0o644)
        elif options.listen:
            scraped = application(lambda: _status_if_any(options, options.rtt))
            serve(
                lambda: _status_if_any(options, False),
                options.listen,
                scraped,
                lambda addresses: print("serving at", *addresses, flush=True),
            )
        else:
            status = _status(options, options.rtt)
            print(exposition(lambda: status).decode(), end="")
    except OSError as error:
        what = options.textfile or (f"port {options.listen}" if options.listen else "ICMP")
        raise CliError(f"{what}: {error.strerror}", EXIT_AGENT) from error
    return 0


def _status(options: argparse.Namespace, rtt: bool) -> Mapping[str, Any]:
    status = call(options.socket, "status", timeout=10.0)
    return measure(status, time.time()) if rtt else status


def _status_if_any(options: argparse.Namespace, rtt: bool) -> Optional[Mapping[str, Any]]:
    try:
        return _status(options, rtt)
    except ApiError:
        return None
