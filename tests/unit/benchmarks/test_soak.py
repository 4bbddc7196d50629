"""What the soak takes for growth."""

from __future__ import annotations

import random

import pytest
from benchmarks.soak import Held

CHANCE = random.Random(1)
NOISE = [CHANCE.uniform(-0.4, 0.4) for _ in range(30)]


@pytest.mark.parametrize(
    ("memory", "descriptors", "faults"),
    [
        ([40 + each for each in NOISE], [60] * 30, 0),
        # One sample that is high or low, wherever it is.
        ([45, *[40] * 29], [60] * 30, 0),
        ([*[40] * 29, 45], [*[60] * 29, 62], 0),
        ([35, *[40] * 29], [50, *[60] * 29], 0),
        # A little all the time.
        ([40 + number / 10 + each for number, each in enumerate(NOISE)], [60] * 30, 1),
        ([40] * 30, [60 + number // 5 for number in range(30)], 1),
        ([40 + number / 10 for number in range(30)], [60 + number // 5 for number in range(30)], 2),
        ([40] * 3, [60] * 3, 1),
    ],
)
def test_growth_is_what_stays(memory, descriptors, faults):
    assert len(Held(memory, descriptors).faults()) == faults


def test_a_packet_that_was_dropped_for_its_order_is_one_too_many():
    assert Held([40.0] * 30, [60] * 30, reordered=1).faults() == ["1 packets were dropped as replayed-counter"]
