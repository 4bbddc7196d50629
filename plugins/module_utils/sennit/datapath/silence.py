# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel does not tell of a peer: whether a handshake was completed, and how many were asked for in vain."""

from __future__ import annotations

from typing import Optional

from ..wireguard.constants import (
    INITIATION_LENGTH,
    KEEPALIVE_TIMEOUT,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
    TRANSPORT_OVERHEAD,
)
from .wireguard_netlink import LivePeer

# After so long without an answer to data a new handshake is begun (whitepaper section 6.5).
_PATIENCE = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT


class Silence:
    """One peer, looked at from time to time.

    Without a session nothing but initiations is sent, and they are counted by their bytes. With one, the time counts
    from when there first was something that nothing came back for: the looks are too rare to see more.
    """

    def __init__(self) -> None:
        self.unanswered = 0
        """Initiations sent since the last completed handshake, as far as that can be known."""
        self._handshake: Optional[float] = None
        self._received = 0
        self._sent = 0
        self._had_session = False
        self._silent_since: Optional[float] = None

    def probed(self) -> None:
        """We had an empty packet sent, which nobody has to answer."""
        self._sent += TRANSPORT_OVERHEAD

    def look(self, peer: LivePeer, now: float, wall: float) -> bool:
        """Take in what the peer's counters say. True when a handshake was completed since the last look.

        now is monotonic, wall the time of day, both in seconds.
        """
        completed = peer.latest_handshake is not None and peer.latest_handshake != self._handshake
        session = peer.latest_handshake is not None and wall - peer.latest_handshake < REJECT_AFTER_TIME
        sent = max(0, peer.tx_bytes - self._sent)
        if completed or (session and peer.rx_bytes > self._received):
            self.unanswered, self._silent_since = 0, None
        elif session:
            self._wait(sent, now)
        elif not self._had_session:
            self.unanswered += sent // INITIATION_LENGTH
        self._handshake, self._had_session = peer.latest_handshake, session
        self._received, self._sent = peer.rx_bytes, peer.tx_bytes
        return completed

    def _wait(self, sent: int, now: float) -> None:
        # An empty packet, as a persistent keepalive is, asks for no answer.
        if sent > TRANSPORT_OVERHEAD and self._silent_since is None:
            self._silent_since = now
        waited = now - self._silent_since if self._silent_since is not None else 0.0
        if waited >= _PATIENCE:
            self.unanswered = 1 + int((waited - _PATIENCE) / REKEY_TIMEOUT)
