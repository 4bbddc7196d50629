# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How several workers a direction carry one device's packets, in processes that share neither a lock nor a window.

Inbound: a peer's keypairs have local indices of one queue, so that a keypair, with its replay window, is one worker's.

Outbound: any worker may have a packet for any peer, and seals it on the keypair that all of them have. Worker i of N
uses the counters that are i modulo N, so none is ever used twice, whatever the workers know of each other. So that
those of a worker that was idle do not come too late for the other side's replay window, each begins a batch no lower
than where any worker began its last one: that is the keypair's mark, a number in memory that they share. It is a hint,
written without a lock. One that was overwritten with a lower one is right again with the next batch.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from .keypair import Keypair

MAX_QUEUES = 8
"""A direction. Each may have two outbound workers, so counters grow 16 times as fast as packets are sent, at most.
Nobody sends a sixteenth of REJECT_AFTER_MESSAGES packets within REJECT_AFTER_TIME."""


def queue_of(local_index: int, queues: int) -> int:
    """The inbound queue of packets with this receiver index, as the kernel is told it, too (datapath/queues.py)."""
    return (local_index & 0xFF) % queues


class Counters(NamedTuple):
    """Which a sealer may use: `first` and each `stride`-th behind it. mark: one "Q", None where no other seals."""

    first: int
    stride: int
    mark: Optional[memoryview]


ALL = Counters(0, 1, None)


class Share(NamedTuple):
    """The part of one outbound worker, by its number, of so many. marks: as "Q", by the keypairs' numbers."""

    number: int
    workers: int
    marks: memoryview

    def counters(self, keypair: Keypair) -> Counters:
        # With more keypairs than marks some share one, and at worst leave out counters.
        at = keypair.number % len(self.marks)
        return Counters(self.number, self.workers, self.marks[at : at + 1])


class Numbers:
    """Small numbers for what comes and goes: the one that was given back last, or the next."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        self._free.append(number)
