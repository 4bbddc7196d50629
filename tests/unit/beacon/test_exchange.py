"""Two ends of a stream, joined in memory, with a clock of the test's own."""

import os

import pytest
from tests.unit.beacon.pair import Pair

from sennit.beacon.exchange import (
    ANSWER_TIMEOUT,
    BURST,
    DELIVERY_TIMEOUT,
    RATE,
    Answered,
    Delivered,
    Exchange,
    Offered,
    SilenceError,
)
from sennit.beacon.messages import (
    FROM_BEACONS,
    PREFACE,
    BeaconProtocolError,
    Have,
    Kept,
    Packed,
    Ping,
    Want,
    encode,
)

OLD, NEW, NEWEST = (Kept.of(os.urandom(200_000) + bytes([version]), version) for version in (1, 2, 3))


def offer(kept):
    return Offered(kept.version, kept.sha256)


@pytest.fixture
def pair():
    return Pair(OLD, NEW)


def test_both_say_what_they_keep_and_the_newer_one_is_given_when_asked_for(pair):
    assert pair.run() == ([offer(NEW)], [offer(OLD)])
    pair.left.ask(offer(NEW), pair.now)
    assert pair.left.asking
    ((delivered,), nothing) = pair.run()
    assert isinstance(delivered, Delivered) and delivered.offer == offer(NEW) and nothing == []
    assert Kept.of(delivered.signed, 2) == NEW
    assert not pair.left.asking


def test_either_end_may_have_the_newer_one_and_a_change_is_told_once(pair):
    pair.run()
    pair.left.keep(NEWEST)
    pair.left.keep(NEWEST)
    assert pair.run() == ([], [offer(NEWEST)])
    pair.right.ask(offer(NEWEST), pair.now)
    assert [type(event) for event in pair.run()[1]] == [Delivered]


def test_what_is_not_kept_any_more_is_not_given_and_not_missed(pair):
    pair.run()
    pair.left.ask(offer(NEW), pair.now)
    pair.right.keep(NEWEST)
    assert pair.run() == ([offer(NEWEST)], [])
    pair.left.ask(offer(NEWEST), pair.now)
    assert [type(event) for event in pair.run()[0]] == [Delivered]


@pytest.mark.parametrize(
    "message",
    [
        Packed(NEW.packed),
        Packed(b"no map"),
        Packed(NEWEST.packed[:-1]),
    ],
)
def test_another_map_than_the_one_offered_is_refused(pair, message):
    pair.run()
    pair.right.ask(offer(NEWEST), pair.now)
    with pytest.raises(BeaconProtocolError):
        list(pair.right.receive(encode(message), pair.now))


def test_nothing_is_given_twice(pair):
    pair.run()
    want = encode(Want(NEW.sha256))
    assert list(pair.right.receive(want, pair.now)) == []
    with pytest.raises(BeaconProtocolError, match="twice"):
        list(pair.right.receive(want, pair.now))


def test_a_flood_is_refused_and_a_steady_end_is_not(pair):
    ping = encode(Ping(bytes(8)))
    pair.run()
    for second in range(1000):
        list(pair.right.receive(ping * int(RATE), pair.now + second))
        while pair.right.next_chunk(pair.now):
            pass
    with pytest.raises(BeaconProtocolError, match="messages a second"):
        list(pair.right.receive(ping * (BURST + 1), pair.now + 1000))
    # Of what is not known here, no more.
    with pytest.raises(BeaconProtocolError, match="messages a second"):
        list(pair.left.receive(b"\xff\0\0\0\0" * (BURST + 1), pair.now + 1000))


def test_a_flood_of_offers_makes_no_answers(pair):
    pair.run()
    with pytest.raises(BeaconProtocolError):
        list(pair.right.receive(b"".join(encode(Have(n + 1, bytes(32))) for n in range(10**5)), pair.now))
    assert pair.right.next_chunk(pair.now) is None


# --- silence


def test_a_silent_end_is_asked_and_answers(pair):
    pair.run()
    assert pair.left.timer() == 1015
    pair.now = 1014.9
    pair.left.handle_timer(pair.now)
    assert pair.run() == ([], [])
    pair.now = 1015
    pair.left.handle_timer(pair.now)
    assert pair.run() == ([Answered(1015)], [])
    assert pair.left.timer() == 1030
    # What one end asks is a sign of life to the other.
    assert pair.right.timer() == 1075


def test_an_end_that_does_not_answer_is_gone(pair):
    pair.run()
    pair.left.handle_timer(1015)
    assert pair.left.timer() == 1015 + ANSWER_TIMEOUT
    pair.left.handle_timer(1016)
    with pytest.raises(SilenceError, match="no answer"):
        pair.left.handle_timer(1025)


def test_a_map_on_its_way_is_an_answer_but_not_for_ever(pair):
    pair.run()
    pair.left.ask(offer(NEW), 1000)
    pair.left.handle_timer(1015)
    list(pair.left.receive(b"\x03\x00\x01\x00\x00", 1020))
    pair.left.handle_timer(1026)
    assert pair.left.timer() == 1035
    list(pair.left.receive(b"x", 1000 + DELIVERY_TIMEOUT - 1))
    assert pair.left.timer() == 1000 + DELIVERY_TIMEOUT
    with pytest.raises(BeaconProtocolError, match="did not send it"):
        pair.left.handle_timer(1000 + DELIVERY_TIMEOUT)


def test_an_answer_is_one_to_the_last_question(pair):
    pair.run()
    pair.left.ping(1001)
    pair.left.ping(1002)
    assert pair.run()[0] == [Answered(1002)]
    # Answers that nobody asked for say nothing.
    assert list(pair.right.receive(b"\x05\x00\x00\x00\x08" + bytes([9] * 8), 1003)) == []


def test_the_preface_comes_first():
    exchange = Exchange(None, 15, 0, FROM_BEACONS)
    assert exchange.next_chunk(0) == PREFACE
    assert exchange.next_chunk(0) is None
