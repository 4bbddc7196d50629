# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one gate by which a signed map becomes the current one: each check in turn, cheapest and most general first."""

from __future__ import annotations

from typing import Optional

from .model import OLDER, OTHER_NETWORK, Netmap, NetmapError
from .signing import verify


def admit(signed: bytes, verify_key: str, network: str, current: Optional[Netmap] = None) -> Netmap:
    """The map within `signed`, if this node may follow it after `current`.

    Raises NetmapError: too-large, malformed, bad-signature, unknown-format, other-network or older. The map that is
    current already is admitted again; another one with the same version is not.
    """
    netmap = Netmap.parse(verify(signed, verify_key))
    if netmap.network.name != network:
        raise NetmapError(OTHER_NETWORK, f"it is of network {netmap.network.name}; this host is in {network}")
    if current is not None and netmap.version <= current.version and netmap != current:
        raise NetmapError(OLDER, f"version {netmap.version}; version {current.version} is here")
    return netmap
