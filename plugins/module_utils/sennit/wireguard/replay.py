# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The replay window of a keypair: which counters were seen (whitepaper section 5.4.6, RFC 6479)."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq

from .constants import REJECT_AFTER_MESSAGES, REPLAY_WINDOW

_WORD_BITS = 64
_WORDS = 128  # 8192 bits: the window, and one word that is being cleared
_EVERY = {step: sum(1 << bit for bit in range(0, _WORD_BITS, step)) for step in (1, 2, 4, 8, 16)}
"""Of a word, every so many-th bit: several workers of a peer use those counters each (queues.py)."""


class ReplayWindow:
    """A ring of words, of which the one that holds the newest counter is the head.

    Moving on clears whole words, so a packet in order costs one test and one store, however far it jumps.
    """

    __slots__ = ("_newest", "_words")

    def __init__(self) -> None:
        self._newest = -1
        self._words = [0] * _WORDS

    def accept(self, counter: int) -> bool:
        """Whether the counter is new and within the window, and mark it seen. Only for authenticated packets."""
        newest = self._newest
        word = counter >> 6
        if counter > newest:
            if counter >= REJECT_AFTER_MESSAGES:
                return False
            if word != newest >> 6:
                self._move(word)
            self._newest = counter
        elif newest - counter > REPLAY_WINDOW:
            return False
        words, at, bit = self._words, word % _WORDS, 1 << counter % _WORD_BITS
        seen = words[at]
        if seen & bit:
            return False
        words[at] = seen | bit
        return True

    def accept_all(self, counters: Sequence[int]) -> list[bool]:
        """accept() for each. Those in steps of one size that are newer than all before are marked together."""
        count = len(counters)
        if count < 4:  # not worth the effort
            return [self.accept(counter) for counter in counters]
        first, step = counters[0], counters[1] - counters[0]
        end = first + count * step
        every = _EVERY.get(step)
        if (
            every is None
            or first <= self._newest
            or end - step >= REJECT_AFTER_MESSAGES
            or end - first > REPLAY_WINDOW
            or not all(map(eq, counters, range(first, end, step)))
        ):
            return [self.accept(counter) for counter in counters]
        last = end - step
        self._move(last >> 6)
        self._newest = last
        marks = every << first % step
        for word in range(first >> 6, (last >> 6) + 1):
            base = word * _WORD_BITS
            lowest, above = max(first - base, 0), min(end - base, _WORD_BITS)
            self._words[word % _WORDS] |= marks & (1 << above) - (1 << lowest)
        return [True] * count

    def _move(self, word: int) -> None:
        """Clear what comes anew into the ring when this word becomes its head."""
        head = self._newest >> 6
        words = self._words
        for stale in range(max(head + 1, word - _WORDS + 1), word + 1):
            words[stale % _WORDS] = 0
