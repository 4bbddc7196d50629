# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every datapath shows of itself, whether the protocol runs here or in the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..wireguard.peer import PeerStatus


class DatapathError(Exception):
    """The datapath cannot start, or cannot go on. The message is one line for the log."""


@dataclass(frozen=True)
class DatapathStatus:
    """peers are by public key; drops are packets by DropReason's value."""

    listen_port: int
    peers: Mapping[bytes, PeerStatus]
    drops: Mapping[str, int]
