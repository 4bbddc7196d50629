"""The search for the largest packet that passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.diagnostics.path_mtu import MtuSearch


def run(search, passes, most=30):
    """How many rounds it took."""
    for rounds in range(most):
        sizes = search.sizes()
        if not sizes:
            return rounds
        assert len(sizes) <= 9
        assert sizes == sorted(set(sizes))
        search.tried(sizes, [size for size in sizes if passes(size)])
    raise AssertionError("it does not end")


@given(st.integers(576, 9000), st.integers(0, 8500), st.integers(0, 8500))
def test_it_finds_what_passes(low, room, above):
    limit = low + room
    search = MtuSearch(low, limit + above)
    assert run(search, lambda size: size <= limit) <= 9
    assert search.best == limit


def test_the_usual_case_takes_one_round():
    search = MtuSearch(576, 1500)
    assert run(search, lambda size: True) == 1
    assert search.best == 1500


def test_nothing_passes():
    search = MtuSearch(576, 1500)
    assert run(search, lambda size: False) <= 12
    assert search.best is None


@given(st.integers(576, 1500), st.data())
def test_one_loss_of_each_size_changes_nothing(limit, data):
    lost = set()

    def passes(size):
        if size not in lost and data.draw(st.booleans()):
            lost.add(size)
            return False
        return size <= limit

    search = MtuSearch(576, 1500)
    run(search, passes, most=200)
    assert search.best == limit


@pytest.mark.parametrize("low", [576, 1500])
def test_low_is_tried(low):
    assert low in MtuSearch(low, 1500).sizes()
