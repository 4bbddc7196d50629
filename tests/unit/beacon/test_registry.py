"""What a beacon knows of where nodes are, and what is new of it to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.beacon.messages import FROM_BEACONS, MAX_NODES_BYTES, PREFACE, Parser
from sennit.beacon.registry import MAX_AGE, Registry
from sennit.beacon.whereabouts import LOCAL, OBSERVED, RELAY_OBSERVED, Candidate, Whereabouts

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
HERE, THERE, ELSEWHERE = (("192.0.2.1", 1), ("2001:db8::2", 2), ("198.51.100.3", 3))


@pytest.fixture
def registry():
    registry = Registry()
    registry.use((A, B, C))
    return registry


def told(registry, change=0):
    """All that is new since this change, and up to which it goes."""
    said = {}
    while change < registry.change:
        message, change = registry.message_since(change)
        for heard in Parser(FROM_BEACONS).feed(PREFACE + message):
            said.update(heard.entries)
    return said, change


def test_each_way_to_know_of_a_node_has_its_place(registry):
    registry.observe({A: HERE}, {A: THERE, B: HERE}, 10)
    registry.declare(A, (ELSEWHERE, HERE, ELSEWHERE), 11)
    expected = {
        A: Whereabouts(True, (Candidate(OBSERVED, HERE), Candidate(RELAY_OBSERVED, THERE),
                              Candidate(LOCAL, ELSEWHERE), Candidate(LOCAL, HERE))),
        B: Whereabouts(True, (Candidate(RELAY_OBSERVED, HERE),)),
    }  # fmt: skip
    assert registry.whereabouts() == expected
    assert told(registry)[0] == expected


def test_only_what_changed_is_new(registry):
    registry.observe({A: HERE, B: THERE}, {}, 10)
    _all, change = told(registry)
    registry.observe({A: HERE, B: THERE}, {}, 11)
    assert registry.change == change and told(registry, change) == ({}, change)
    registry.observe({A: HERE, B: ELSEWHERE}, {B: HERE}, 12)
    said, change = told(registry, change)
    assert list(said) == [B]
    # Not attached any more, but that is where it was.
    registry.observe({}, {}, 13)
    said, change = told(registry, change)
    assert said == {B: Whereabouts(False, (Candidate(OBSERVED, ELSEWHERE), Candidate(RELAY_OBSERVED, HERE)))}
    registry.declare(A, (), 14)
    registry.declare(A, (("127.0.0.1", 5), ("fe80::1%eth0", 5)), 14)
    assert told(registry, change) == ({}, change)


def test_nodes_that_are_in_no_map_are_nobody(registry):
    stranger = bytes(32)
    registry.observe({stranger: HERE}, {stranger: HERE}, 10)
    registry.declare(stranger, (HERE,), 10)
    assert registry.whereabouts() == {}
    registry.observe({A: HERE, B: HERE}, {}, 10)
    registry.use((B,))
    assert list(registry.whereabouts()) == list(told(registry)[0]) == [B]


def test_what_is_not_refreshed_is_forgotten_and_that_is_told(registry):
    registry.observe({A: HERE, B: HERE}, {}, 0)
    registry.declare(A, (THERE,), 0)
    registry.observe({B: HERE}, {}, 10)
    registry.confirm((A, C), 10)
    change = registry.change
    registry.expire(MAX_AGE + 5)
    assert told(registry, change)[0] == {A: Whereabouts(False, (Candidate(LOCAL, THERE),))}
    registry.expire(MAX_AGE + 11)
    assert told(registry)[0] == {A: Whereabouts(False, ()), B: Whereabouts(False, ())}


def test_another_run_knows_the_same_but_who_is_attached(registry):
    registry.observe({A: HERE}, {A: THERE}, 10)
    registry.declare(B, (THERE, ELSEWHERE), 20)
    after = Registry()
    after.restore(list(registry.sightings()), 30)
    after.use((A, B, C))
    assert set(after.sightings()) == set(registry.sightings())
    assert not after.whereabouts()[A].attached
    late = Registry()
    late.restore(list(registry.sightings()), MAX_AGE + 15)
    assert [sighting.endpoint for _key, sighting in late.sightings()] == [THERE, ELSEWHERE]


KEYS = [bytes([number % 256, number // 256]) * 16 for number in range(2000)]


@given(st.lists(st.tuples(st.integers(0, 1999), st.integers(1, 5)), max_size=50), st.integers(0, 50))
def test_whoever_has_heard_all_up_to_some_change_knows_all_after_the_rest(changes, heard):
    registry = Registry()
    registry.use(KEYS)
    knows, change = {}, 0
    for number, (node, port) in enumerate(changes):
        registry.observe({key: ("192.0.2.1", port) for key in KEYS[node:]}, {KEYS[node]: HERE}, 0)
        if number == heard:
            said, change = told(registry)
            knows.update(said)
    said, _change = told(registry, change)
    assert {**knows, **said} == registry.whereabouts()
    assert len(registry.message_since(0)[0]) <= MAX_NODES_BYTES + 5
