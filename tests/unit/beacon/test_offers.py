"""Whom to ask for which map: nobody keeps anybody else from being asked."""

from hypothesis import given
from hypothesis import strategies as st

from sennit.beacon.exchange import Offered
from sennit.beacon.offers import FIRST_PENALTY, LAST_PENALTY, MAX_AVOIDED, MAX_FROM_NODES, Offers


def offer(version, content=0):
    return Offered(version, bytes([version % 256, content]) * 16)


def offers(*beacons, nodes=()):
    made = Offers()
    for name in (*beacons, *nodes):
        made.open(name, name, name in beacons)
    return made


def test_the_newer_map_is_asked_for_once_and_of_the_next_when_the_first_is_gone():
    made = offers("one", "two")
    for name in ("one", "two"):
        made.offered(name, offer(7))
    assert list(made.next(7, 0)) == []
    assert list(made.next(6, 0)) == [("one", offer(7))]
    assert list(made.next(6, 0)) == []
    made.close("one", 0)
    assert list(made.next(6, 0)) == [("two", offer(7))]
    made.finished("two")
    assert list(made.next(7, 0)) == []


def test_who_claims_the_newest_does_not_keep_others_from_being_asked():
    made = offers("liar", "honest")
    made.offered("liar", offer(200))
    made.offered("honest", offer(7))
    assert dict(made.next(6, 0)) == {"liar": offer(200), "honest": offer(7)}


def test_who_offers_in_vain_is_left_alone_for_a_while_longer_each_time():
    made = offers("liar", "honest")
    seconds = FIRST_PENALTY
    now = 0.0
    for content in range(10):
        made.offered("liar", offer(200, content))
        assert list(made.next(6, now)) == [("liar", offer(200, content))]
        made.penalise("liar", now)
        made.avoid(offer(200, content).sha256, float("inf"))
        # A new stream is no new life.
        made.close("liar", now)
        made.open("liar", "liar", True)
        made.offered("liar", offer(201, content))
        assert list(made.next(6, now + seconds - 1)) == []
        now += seconds
        seconds = min(2 * seconds, LAST_PENALTY)
    made.forgive("liar")
    made.penalise("liar", now)
    assert dict(made.next(6, now + FIRST_PENALTY)) == {"liar": offer(201, 9)}


def test_a_map_that_is_no_good_is_not_asked_for_again_whoever_has_it():
    made = offers("one", "two")
    made.avoid(offer(7).sha256, 100)
    for name in ("one", "two"):
        made.offered(name, offer(7))
    assert list(made.next(6, 99)) == []
    assert list(made.next(6, 100)) == [("one", offer(7))]


def test_nodes_bring_a_few_maps_at_a_time_and_beacons_come_first():
    nodes = [f"node{number}" for number in range(20)]
    made = offers("beacon", nodes=nodes)
    for number, name in enumerate(["beacon", *nodes]):
        made.offered(name, offer(7, number))
    asked = [name for name, _offer in made.next(6, 0)]
    assert asked == ["beacon", *nodes[:MAX_FROM_NODES]]
    made.finished("node0")
    made.offered("node0", offer(6))
    assert [name for name, _offer in made.next(6, 0)] == [nodes[MAX_FROM_NODES]]


def test_a_node_that_goes_before_it_has_brought_what_it_was_asked_for_is_left_alone_for_a_while():
    made = offers("beacon", nodes=["liar", "honest"])
    for number, name in enumerate(("beacon", "liar")):
        made.offered(name, offer(7, number))
    assert len(dict(made.next(6, 0))) == 2
    for name, beacon in (("beacon", True), ("liar", False), ("honest", False)):
        made.close(name, 80)
        made.open(name, name, beacon)
        made.offered(name, offer(7, ord(name[0])))
    assert [name for name, _offer in made.next(6, 81)] == ["beacon", "honest"]
    made.finished("honest")
    assert {name for name, _offer in made.next(6, 80 + FIRST_PENALTY)} == {"honest", "liar"}


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=2 * MAX_AVOIDED))
def test_what_is_remembered_is_bounded(hashes):
    made = offers("one")
    for sha256 in hashes:
        made.avoid(sha256, float("inf"))
    assert len(made._avoided) <= MAX_AVOIDED
