# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A keypair: the two transport keys that one handshake yields (whitepaper section 5.4.5)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Keypair:
    """Two 32-byte keys, one a direction, and the indices that name the session on the wire.

    local_index is ours: the peer writes it into the packets it sends to us. remote_index is the peer's.
    created_at is on the monotonic clock, in seconds. initiator: whether we started the handshake.
    number: a small one, its own while it lives.

    Python cannot overwrite a bytes object; a keypair is erased by dropping every reference to it.
    """

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    local_index: int
    remote_index: int
    created_at: float
    initiator: bool
    number: int = 0
