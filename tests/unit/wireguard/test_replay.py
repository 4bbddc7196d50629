"""The replay window against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard.constants import REJECT_AFTER_MESSAGES, REPLAY_WINDOW
from sennit.wireguard.replay import ReplayWindow


class Model:
    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.newest = -1

    def accept(self, counter: int) -> bool:
        if counter in self.seen or self.newest - counter > REPLAY_WINDOW or counter >= REJECT_AFTER_MESSAGES:
            return False
        self.seen.add(counter)
        self.newest = max(self.newest, counter)
        return True


steps = st.one_of(
    st.integers(-3, 3),
    st.integers(-REPLAY_WINDOW - 70, REPLAY_WINDOW + 70),
    st.sampled_from([-REPLAY_WINDOW - 1, -REPLAY_WINDOW, -REPLAY_WINDOW + 1, 63, 64, 65, 8191, 8192, 8193, 10**6]),
)


@given(st.integers(0, 2**40), st.lists(steps, max_size=60))
def test_like_the_model(start: int, moves: list[int]) -> None:
    window, model = ReplayWindow(), Model()
    at = start
    for move in moves:
        at = max(0, at + move)
        assert window.accept(at) is model.accept(at)


batches = st.lists(
    st.tuples(
        steps,
        st.sampled_from([1, 2, 45, 64, 65, 130, 9000]),
        st.integers(0, 4),
        st.sampled_from([1, 1, 2, 3, 4, 8, 64]),
    ),
    max_size=8,
)


@given(st.integers(0, 2**40), batches)
def test_batches_like_the_model(start: int, moves: list[tuple[int, int, int, int]]) -> None:
    """Counters in steps, most of them in order; some have one again, or two that have changed places."""
    window, model = ReplayWindow(), Model()
    at = start
    for move, count, kind, step in moves:
        first = max(0, at + move)
        counters = list(range(first, first + count * step, step))
        if kind == 0:
            counters[count // 2] = counters[0]
        elif kind == 1:
            counters[0], counters[-1] = counters[-1], counters[0]
        assert window.accept_all(counters) == [model.accept(counter) for counter in counters]
        at = first + count * step


def test_a_batch_up_to_the_last_counter() -> None:
    last = REJECT_AFTER_MESSAGES - 1
    assert ReplayWindow().accept_all([last - 1, last, last + 1]) == [True, True, False]
    assert ReplayWindow().accept_all([last - 1, last]) == [True, True]


def test_each_counter_once() -> None:
    window = ReplayWindow()
    assert all(window.accept(counter) for counter in range(20_000))
    assert not any(window.accept(counter) for counter in range(20_000))


@pytest.mark.parametrize("newest", [REPLAY_WINDOW, 8191, 8192, 8255, 8256, 100_003, REJECT_AFTER_MESSAGES - 1])
def test_the_window_reaches_exactly_so_far_back(newest: int) -> None:
    window = ReplayWindow()
    assert window.accept(newest)
    oldest = newest - REPLAY_WINDOW
    assert window.accept(oldest)
    assert not window.accept(oldest)
    assert not window.accept(oldest - 1) or oldest == 0
    assert window.accept(oldest + 1)


@pytest.mark.parametrize("jump", [63, 64, 127 * 64, 128 * 64, 129 * 64, 2**32])
def test_a_jump_forgets_what_the_ring_held_before(jump: int) -> None:
    window = ReplayWindow()
    for counter in range(0, 8192, 3):
        assert window.accept(counter)
    newest = 8191 + jump
    assert window.accept(newest)
    fresh = range(max(8192, newest - REPLAY_WINDOW), newest)
    assert all(window.accept(counter) for counter in fresh)


def test_the_last_counters_are_refused() -> None:
    window = ReplayWindow()
    assert not window.accept(REJECT_AFTER_MESSAGES)
    assert not window.accept(2**64 - 1)
    assert window.accept(REJECT_AFTER_MESSAGES - 1)
