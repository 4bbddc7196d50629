# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whom an initiation is meant for: its mac1 tells, keyed with the public key of whoever it goes to (section 5.4.4).

That is all that the message says of the recipient in the clear, so each public key has to be tried.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Optional

from ..wireguard.constants import LABEL_MAC1, MAC_LENGTH
from ..wireguard.crypto import hash256
from .buckets import TokenBucket

REMEMBERED = 64
"""Recipients of each sender that are tried first."""
SEARCHES = 500
"""Times in a second that all are tried: what initiations that are nobody's may cost, whoever sends them."""


class Recipients:
    """All whom something can be forwarded to, by public key. So are the senders, which are among them."""

    def __init__(self) -> None:
        # What is the same for all messages is hashed once: a copy of it takes up the message.
        self._begun: dict[bytes, Any] = {}
        self._remembered: dict[bytes, OrderedDict[bytes, None]] = {}
        self._searches = TokenBucket(SEARCHES, SEARCHES)

    def add(self, public_key: bytes) -> None:
        key = hash256(LABEL_MAC1, public_key)
        self._begun[public_key] = hashlib.blake2s(key=key, digest_size=MAC_LENGTH)

    def remove(self, public_key: bytes) -> None:
        """Also as a sender."""
        self._begun.pop(public_key, None)
        self._remembered.pop(public_key, None)

    def find(self, sender: bytes, initiation: bytes, now: float) -> Optional[bytes]:
        """The recipient of a sender's initiation; None if it is none of them, or too many were looked for."""
        covered = initiation[: -2 * MAC_LENGTH]
        mac1 = initiation[-2 * MAC_LENGTH : -MAC_LENGTH]
        remembered = self._remembered.setdefault(sender, OrderedDict())
        found = self._try(reversed(remembered), covered, mac1)
        if found is None and self._searches.take(1, 1, now):
            found = self._try(self._begun, covered, mac1)
        if found is not None:
            remembered[found] = None
            remembered.move_to_end(found)
            if len(remembered) > REMEMBERED:
                remembered.popitem(last=False)
        return found

    def _try(self, public_keys: Iterable[bytes], covered: bytes, mac1: bytes) -> Optional[bytes]:
        for public_key in public_keys:
            begun = self._begun.get(public_key)
            if begun is None:  # it is no recipient any more
                continue
            hashed = begun.copy()
            hashed.update(covered)
            if hashed.digest() == mac1:
                return public_key
        return None
