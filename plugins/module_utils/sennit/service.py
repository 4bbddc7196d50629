# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd starts: `python3 -m sennit.service --config /etc/sennit/agent.json`.

Of the agent nothing is loaded yet but what takes the last run's device out of systemd's hands. So if it does not load,
after an upgrade that went wrong or without one of its libraries, the device goes with this process, and its routes with
it: nobody is stranded by packets that wait in it for good.
"""

from __future__ import annotations

from .systemd import Notifier


def main() -> int:
    """Run the agent; returns the exit status."""
    notifier = Notifier()
    kept = notifier.take_kept()

    from . import agent  # noqa: PLC0415

    return agent.main(notifier, kept)


if __name__ == "__main__":
    raise SystemExit(main())
