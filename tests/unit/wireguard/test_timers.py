"""The queue of deadlines against a plain dictionary, and each timer by what sets and what stops it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard.timers import NEVER, DeadlineQueue, Expired, PeerTimers

PEERS = [bytes([number]) * 32 for number in range(5)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "never", "remove", "advance", "ask"]),
            st.sampled_from(PEERS),
            st.integers(0, 50),
        ),
        max_size=200,
    )
)
def test_the_queue_is_never_late(operations: list) -> None:
    queue, oracle, now = DeadlineQueue(), {}, 0.0
    for action, peer, amount in operations:
        if action == "set":
            queue.set(peer, now + amount)
            oracle[peer] = now + amount
        elif action == "never":
            queue.set(peer, NEVER)
            oracle.pop(peer, None)
        elif action == "remove":
            queue.remove(peer)
            oracle.pop(peer, None)
        elif action == "ask":
            deadline = queue.next_deadline()
            assert (deadline is None) == (not oracle)
            assert deadline is None or deadline <= min(oracle.values())
        else:
            now += amount / 10
            due = queue.take_due(now)
            assert sorted(due) == sorted(peer for peer, deadline in oracle.items() if deadline <= now)
            oracle = {peer: deadline for peer, deadline in oracle.items() if deadline > now}


def test_the_queue_does_not_grow_with_traffic() -> None:
    queue = DeadlineQueue()
    generator = random.Random(1)
    now = 0.0
    for _ in range(50_000):
        now += 0.01
        queue.set(generator.choice(PEERS), now + generator.choice([10, 15, 540]))
        for peer in queue.take_due(now):
            queue.set(peer, now + 540)
    assert len(queue._heap) <= 4 * len(PEERS) + 65


@pytest.fixture
def timers() -> PeerTimers:
    return PeerTimers(bytes)


def test_timers_do_not_run_by_themselves(timers: PeerTimers) -> None:
    assert timers.next_deadline() == NEVER
    assert timers.take_expired(1e9) == []


def test_data_sent(timers: PeerTimers) -> None:
    timers.data_sent(100)
    timers.data_sent(105)
    assert timers.next_deadline() == 115
    assert timers.take_expired(114.9) == []
    assert timers.take_expired(115) == [Expired.NEW_HANDSHAKE]
    assert timers.next_deadline() == NEVER
    timers.data_sent(200)
    timers.authenticated_packet_received(201)
    assert timers.next_deadline() == NEVER


def test_data_received(timers: PeerTimers) -> None:
    timers.data_received(100)
    timers.data_received(105)
    assert timers.take_expired(110) == [Expired.SEND_KEEPALIVE]
    timers.data_received(200)
    timers.authenticated_packet_sent(201)
    assert timers.next_deadline() == NEVER


def test_an_answer_that_is_told_before_the_question(timers: PeerTimers) -> None:
    """The halves report in their own time: what was sent at 100 and answered at 100.1 may come in the other order."""
    timers.authenticated_packet_received(100.1)
    timers.data_sent(100)
    assert timers.next_deadline() == NEVER
    timers.data_sent(100.2)
    timers.authenticated_packet_received(100.1)
    assert timers.take_expired(115.2) == [Expired.NEW_HANDSHAKE]


def test_a_question_that_is_told_after_the_answer(timers: PeerTimers) -> None:
    timers.authenticated_packet_sent(100.1)
    timers.data_received(100)
    assert timers.next_deadline() == NEVER
    timers.data_received(100.2)
    timers.authenticated_packet_sent(100.1)
    assert timers.take_expired(110.2) == [Expired.SEND_KEEPALIVE]


def test_persistent_keepalive(timers: PeerTimers) -> None:
    timers.persistent_keepalive_configured(25)
    assert timers.take_expired(100) == [Expired.PERSISTENT_KEEPALIVE]
    timers.authenticated_packet_sent(100)
    assert timers.next_deadline() == 125
    timers.authenticated_packet_received(110)
    assert timers.next_deadline() == 135
    timers.persistent_keepalive_configured(0)
    timers.authenticated_packet_sent(111)
    assert timers.next_deadline() == NEVER


def test_retries_have_jitter() -> None:
    timers = PeerTimers(random.Random(1).randbytes)
    deadlines = []
    for _ in range(100):
        timers.handshake_initiated(0)
        deadlines.append(timers.next_deadline())
    assert 5 <= min(deadlines) < 5.05
    assert 5.28 < max(deadlines) < 5.334
