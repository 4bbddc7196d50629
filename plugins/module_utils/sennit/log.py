# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's log: lines on standard error, with the priority that the journal understands (sd-daemon(3))."""

from __future__ import annotations

import logging
import os
import sys

_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}

logger = logging.getLogger("sennit")


class _JournalFormatter(logging.Formatter):
    """Puts <N> before every line, so that the lines of a traceback keep its priority."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error; with priorities when the journal listens there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else logging.Formatter())
    logging.basicConfig(level=level, handlers=[handler])
