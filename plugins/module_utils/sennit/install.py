# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the agent lies on a host. Whoever installs it puts these files there; the unit's text is sennit.service."""

from __future__ import annotations

PACKAGE_ROOT = "/usr/lib/sennit"
LAUNCHER_PATH = "/usr/local/bin/sennit"
UNIT_NAME = "sennit.service"
UNIT_PATH = "/etc/systemd/system/" + UNIT_NAME

# The command `sennit` (mode 0755). -B: nothing is written below /usr/lib when it runs.
LAUNCHER = f"""\
#!/bin/sh
PYTHONPATH={PACKAGE_ROOT} exec /usr/bin/python3 -B -m sennit.cli "$@"
"""
