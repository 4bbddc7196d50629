# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stub resolver is told by the agent."""

from __future__ import annotations

from dataclasses import dataclass

from ..netmap.names import DnsView


@dataclass(frozen=True)
class Settings:
    """default: the nameservers, by address, of names without a rule; there may be none."""

    view: DnsView
    default: tuple[str, ...] = ()
