# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the command `sennit` begins: before anything is loaded that a datapath's processes would keep."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    if sys.argv[1:2] == ["wireguard"]:
        from . import standalone  # noqa: PLC0415

        return standalone.main(sys.argv[2:])
    from .cli import command  # noqa: PLC0415

    return command.main()


if __name__ == "__main__":
    raise SystemExit(main())
