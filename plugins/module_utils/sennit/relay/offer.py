# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a beacon tells of its relay, and the relay's key."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_LABEL = b"sennit relay 1"


class RelayOffer(NamedTuple):
    """The relay's UDP port, at each address of the beacon, and its public key (32 bytes)."""

    port: int
    public_key: bytes


def relay_private_key(private_key: bytes) -> bytes:
    """The relay's private key, of that of its beacon: 32 bytes each.

    Keyed BLAKE2s of a label (RFC 7693), which tells nothing of the key: the relay is the same one after each start, and
    nothing of it is stored. WireGuard keeps no key of a node and its relay apart that one could be taken for the other.
    """
    return hashlib.blake2s(_LABEL, key=private_key).digest()
