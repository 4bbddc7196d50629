"""How what is seen of many nodes is summed up."""

from __future__ import annotations

import random

from benchmarks import beacon


def test_a_percentile_is_one_of_the_values():
    values = list(range(1, 1001))
    random.shuffle(values)
    assert beacon.percentile(values, 0.5) == 500
    assert beacon.percentile(values, 0.99) == 990
    assert beacon.percentile(values, 1.0) == 1000
    assert beacon.percentile([7.0], 0.99) == 7.0
    assert beacon.percentile([7.0], 0.0) == 7.0


def test_the_busiest_second_is_any_second():
    times = [0.0, 0.9, 1.1, 1.2, 1.85, 2.5]
    random.shuffle(times)
    assert beacon.busiest(times, 1.0) == 4
    assert beacon.busiest([0.0, 1.0], 1.0) == 1
    assert beacon.busiest([], 1.0) == 0


def test_no_two_simulated_nodes_are_at_one_place():
    who = beacon.members(1000)
    for what in (
        [each.underlay for each in who],
        [address for each in who for address in each.node.addresses],
        [each.keys.public for each in who],
        [each.node.name for each in who],
    ):
        assert len(set(what)) == len(what)
    assert sum(each.node.endpoint is None for each in who) == 500
