"""What two ends of a stream tell each other of where nodes are: no more than has arrived, no more than is taken."""

import os
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.beacon.pair import Pair

from sennit.beacon.exchange import BURST
from sennit.beacon.messages import BeaconProtocolError, Nodes, Ping, Place, Pong, Relay, encode
from sennit.beacon.told import MAX_STRANGERS, Told
from sennit.beacon.whereabouts import Candidate, Whereabouts
from sennit.relay.offer import RelayOffer

KEYS = [bytes([number // 256, number % 256]) * 16 for number in range(1000)]


def place(number):
    return (f"192.0.2.{number % 250 + 1}", 51820)


@pytest.fixture
def pair():
    pair = Pair(None, None)
    pair.run()
    return pair


def believed(heard):
    """What an end believes that has heard this."""
    told = Told(KEYS)
    for message in heard:
        if isinstance(message, Nodes):
            told.hear(message)
    return told.nodes


def test_a_node_says_where_it_is_and_is_told_where_the_others_are_and_of_the_relay(pair):
    pair.registry.use(KEYS)
    pair.registry.observe({KEYS[0]: place(0), KEYS[1]: place(1)}, {KEYS[1]: place(2)}, 5.0)
    offer = RelayOffer(21473, bytes(32))
    pair.right.tell(Relay(offer))
    pair.left.tell(Place((place(9),)))
    heard, said = pair.run()
    assert Place((place(9),)) in said and Relay(offer) in heard
    assert believed(heard) == {
        KEYS[0]: Whereabouts(False, (Candidate(1, place(0)),)),
        KEYS[1]: Whereabouts(True, (Candidate(1, place(1)), Candidate(2, place(2)))),
    }


def test_the_time_to_an_answer_is_known_from_the_first_message_and_kept_new(pair):
    pair.run()
    assert pair.left.rtt is None
    pair.left.tell(Place(()))
    chunk = b"".join(iter(lambda: bytes(pair.left.next_chunk(pair.now) or b""), b""))
    pair.now += 0.25
    list(pair.right.receive(chunk, pair.now))
    pair.run()
    assert pair.left.rtt == 0.25
    # Also if the other end has always something to say.
    for second in range(60):
        list(pair.left.receive(encode(Ping(bytes(8))), 1001 + second))
    assert pair.left.timer() == 1000 + 4 * 15


def test_what_changes_meanwhile_is_told_once_and_as_it_is_then(pair):
    pair.registry.use(KEYS)
    pair.registry.observe({KEYS[0]: place(0)}, {}, 5.0)
    first = b"".join(iter(lambda: bytes(pair.right.next_chunk(pair.now) or b""), b""))
    for number in range(1000):
        pair.registry.observe({KEYS[0]: place(number), KEYS[number]: place(1)}, {}, 5.0)
        # Nothing more is on its way before that has arrived.
        pair.now += 1
        assert pair.right.next_chunk(pair.now) is None
    list(pair.left.receive(first, pair.now))
    heard, _said = pair.run()
    assert sum(len(message.entries) for message in heard if isinstance(message, Nodes)) == 1000
    assert believed(heard) == pair.registry.whereabouts()


def test_an_end_that_never_answers_is_told_nothing_more(pair):
    pair.registry.use(KEYS)
    sent = 0
    for number in range(1000):
        pair.registry.observe({KEYS[number]: place(number)}, {}, 5.0)
        pair.right.tell(Relay(RelayOffer(number + 1, bytes(32))))
        pair.now += 1
        while chunk := pair.right.next_chunk(pair.now):
            sent += len(chunk)
    assert sent < 500


class Network:
    """Between the two ends: it holds back what each says for as long as it likes, and then delivers it all at once."""

    def __init__(self):
        self.pair = Pair(None, None)
        self.pair.registry.use(KEYS)
        self.under_way = {self.pair.left: [], self.pair.right: []}
        self.heard = {self.pair.left: [], self.pair.right: []}
        self.place = self.relay = None
        self.changes = 0

    def change(self, number):
        """As many as this, all at once."""
        self.changes += 1
        self.pair.registry.observe({key: place(self.changes) for key in KEYS[:number]}, {}, self.pair.now)

    def carry(self, _number):
        for sender, receiver in ((self.pair.left, self.pair.right), (self.pair.right, self.pair.left)):
            for data in self.under_way[sender]:
                self.heard[receiver] += receiver.receive(data, self.pair.now)
            self.under_way[sender].clear()

    def wait(self, number):
        self.pair.now += number / 50

    def declare(self, number):
        self.place = Place((place(number),))
        self.pair.left.tell(self.place)

    def offer(self, number):
        self.relay = Relay(RelayOffer(number + 1, bytes(32)))
        self.pair.right.tell(self.relay)

    def ping(self, _number):
        self.pair.now += 1
        # Otherwise the stream is over.
        if self.pair.now < self.pair.left.timer():
            self.pair.left.ping(self.pair.now)

    def write(self):
        for sender, sent in self.under_way.items():
            while chunk := sender.next_chunk(self.pair.now):
                sent.append(bytes(chunk))


STEPS = [Network.change, Network.carry, Network.wait, Network.declare, Network.offer, Network.ping]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(STEPS),
            st.integers(0, len(KEYS)),
        ),
        max_size=200,
    )
)
@example([(Network.change, 1000), (Network.carry, 0), (Network.wait, 5)] * 100)
@example(
    [(Network.change, 1000), (Network.declare, 1), (Network.offer, 1), (Network.ping, 1), (Network.wait, 50)] * 90
    + [(Network.carry, 0)] * 50
)
def test_honest_ends_never_say_too_much_and_agree_in_the_end(steps):
    network = Network()
    # So that there are as many messages as there would be with a hundred thousand nodes.
    with mock.patch("sennit.beacon.registry.MAX_NODES_BYTES", 1000):
        for step, number in [*steps, *[(Network.carry, 0), (Network.wait, 200)] * 30]:
            step(network, number)
            network.write()
    pair = network.pair
    assert believed(network.heard[pair.left]) == pair.registry.whereabouts()
    for wanted, end, kind in ((network.place, pair.right, Place), (network.relay, pair.left, Relay)):
        heard = [message for message in network.heard[end] if isinstance(message, kind)]
        assert heard[-1:] == ([wanted] if wanted else [])


@pytest.mark.parametrize("message", [Nodes(((KEYS[0], Whereabouts(False, ())),)), Relay(None)])
def test_a_node_that_would_speak_for_others_is_refused(pair, message):
    pair.run()
    with pytest.raises(BeaconProtocolError, match="not for this end"):
        list(pair.right.receive(encode(message), pair.now))


def test_a_beacon_that_tells_without_end_is_refused_and_what_it_told_is_bounded(pair):
    told = Told(KEYS[:10])
    tenth = Nodes(tuple((os.urandom(32), Whereabouts(True, ())) for _ in range(1000)))
    for _ in range(10):
        told.hear(tenth)
        told.hear(Nodes(tuple((os.urandom(32), Whereabouts(True, ())) for _ in range(1000))))
    assert told.nodes == {}
    told.use([key for key, _whereabouts in tenth.entries])
    assert len(told.nodes) == 1000
    strangers = tuple((os.urandom(32), Whereabouts(True, ())) for _ in range(MAX_STRANGERS + 1))
    told.hear(Nodes(strangers))
    told.use([key for key, _whereabouts in strangers])
    assert set(told.nodes) == {key for key, _whereabouts in strangers[1:]}
    pair.run()
    with pytest.raises(BeaconProtocolError, match="messages a second"):
        list(pair.left.receive(encode(tenth) * (BURST + 1), pair.now))


def test_pongs_to_an_end_that_asks_and_asks_are_as_many_as_it_may_ask_for(pair):
    pair.run()
    list(pair.right.receive(encode(Ping(bytes(8))) * BURST, pair.now))
    sent = b"".join(iter(lambda: bytes(pair.right.next_chunk(pair.now) or b""), b""))
    assert sent == encode(Pong(bytes(8))) * BURST
