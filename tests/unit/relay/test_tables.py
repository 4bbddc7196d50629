"""What the relay knows: recipients, routes and buckets, and that all of it is bounded."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from sennit.relay import recipients as recipients_module
from sennit.relay import routes as routes_module
from sennit.relay.buckets import TokenBucket
from sennit.relay.recipients import REMEMBERED, SEARCHES, Recipients
from sennit.relay.routes import EXPIRE_AFTER, MOST_OF_A_NODE, Routes
from sennit.wireguard.cookie import CookieJar, Mac1Checker

NODES = [bytes([number]) * 32 for number in range(4)]


# --- buckets


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 100), st.integers(1, 1500)), max_size=50))
def test_a_bucket_never_gives_more_than_its_rate_and_its_burst(takes: list[tuple[float, int, int]]) -> None:
    bucket, now, total = TokenBucket(1000, 5000), 0.0, 0
    for pause, number, size in takes:
        now += pause
        taken = bucket.take(number, size, now)
        assert 0 <= taken <= number
        total += taken * size
        assert total <= 5000 + 1000 * now + 1


def test_a_bucket_gives_its_rate_to_who_asks_often() -> None:
    bucket = TokenBucket(1000, 5000)
    assert bucket.take(9, 1000, 7.0) == 5
    assert sum(bucket.take(1, 100, 7.0 + number / 100) for number in range(1, 1001)) == 100
    # A clock that stands still or goes back gives nothing.
    assert bucket.take(1, 100, 3.0) == 0


# --- recipients


def initiation(recipient: bytes) -> bytes:
    return CookieJar(recipient).add_macs(os.urandom(116), 0.0)


def test_the_recipient_is_the_one_whose_mac1_it_is() -> None:
    recipients = Recipients()
    keys = [os.urandom(32) for _number in range(50)]
    for key in keys:
        recipients.add(key)
    for key in keys:
        message = initiation(key)
        assert Mac1Checker(key).valid(message)
        assert recipients.find(b"sender", message, 0.0) == key
        assert recipients.find(b"sender", bytes([message[0] ^ 1]) + message[1:], 0.0) is None
    assert recipients.find(b"sender", initiation(os.urandom(32)), 0.0) is None
    recipients.remove(keys[0])
    assert recipients.find(b"sender", initiation(keys[0]), 0.0) is None
    assert recipients.find(b"sender", initiation(keys[1]), 0.0) == keys[1]


def test_searches_that_find_nobody_are_limited_and_known_recipients_need_none() -> None:
    recipients = Recipients()
    keys = [os.urandom(32) for _number in range(3)]
    for key in keys:
        recipients.add(key)
    assert recipients.find(b"sender", initiation(keys[0]), 0.0) == keys[0]
    for _number in range(SEARCHES + 10):
        assert recipients.find(b"another", bytes(148), 0.0) is None
    assert recipients.find(b"sender", initiation(keys[0]), 0.0) == keys[0]
    assert recipients.find(b"sender", initiation(keys[1]), 0.0) is None
    assert recipients.find(b"sender", initiation(keys[1]), 1.0) == keys[1]


def test_what_is_remembered_of_a_sender_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(recipients_module, "REMEMBERED", 3)
    recipients = Recipients()
    keys = [os.urandom(32) for _number in range(REMEMBERED + 5)]
    for key in keys:
        recipients.add(key)
    for key in keys:
        assert recipients.find(b"sender", initiation(key), 0.0) == key
    assert list(recipients._remembered[b"sender"]) == keys[-3:]


# --- routes


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, int, int, int, float]:
    node = st.integers(0, 3)
    what = draw(st.sampled_from(["claim", "claim", "claim", "find", "forget", "expire"]))
    return what, draw(node), draw(node), draw(st.integers(0, 5)), draw(st.floats(0, 200))


@given(st.lists(steps(), max_size=60))
def test_routes_are_as_a_plain_table_would_have_them(taken: list[tuple[str, int, int, int, float]]) -> None:
    routes, table, now = Routes(), {}, 0.0
    for what, first, second, index, pause in taken:
        now += pause
        owner, other = NODES[first], NODES[second]
        if what == "claim":
            known = table.get((other, index))
            free = known is None or known[0] == owner
            change = routes.change
            assert routes.claim(owner, other, index, now) == free
            assert (routes.change != change) == (known is None)
            if free:
                table[other, index] = (owner, now)
        elif what == "find":
            found = routes.find(other, index, now)
            assert found == table.get((other, index), (None,))[0]
            if found is not None:
                table[other, index] = (found, now)
        elif what == "forget":
            routes.forget(owner)
            table = {key: value for key, value in table.items() if owner not in (key[0], value[0])}
        else:
            routes.expire(now)
            table = {key: value for key, value in table.items() if now - value[1] < EXPIRE_AFTER}
        assert len(routes) == len(table)
        assert sum(map(len, routes._used.values())) == len(table)


def test_who_makes_too_many_loses_its_own_oldest() -> None:
    routes = Routes()
    victim, other, mallory = NODES[:3]
    assert routes.claim(victim, other, 7, 0.0)
    for index in range(100, 100 + MOST_OF_A_NODE + 50):
        assert routes.claim(mallory, other, index, 1.0)
    assert len(routes) == 1 + MOST_OF_A_NODE
    assert routes.find(other, 7, 2.0) == victim
    assert routes.find(other, 149, 2.0) is None
    assert routes.find(other, 150, 2.0) == mallory


def test_all_together_are_bounded_and_who_has_most_loses(monkeypatch) -> None:
    monkeypatch.setattr(routes_module, "MOST", 100)
    routes = Routes()
    victim, other, mallory, accomplice = NODES
    for index in range(10):
        routes.claim(victim, other, index, 0.0)
    for index in range(1000):
        routes.claim(mallory if index % 2 else accomplice, other, 1000 + index, 1.0)
        assert len(routes) <= 100
    assert all(routes.find(other, index, 2.0) == victim for index in range(10))
