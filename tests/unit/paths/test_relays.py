"""The relays of the beacons, as one node has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sennit.beacon.whereabouts import Report, Whereabouts
from sennit.paths.relays import KEEPALIVE, Relays
from sennit.relay.offer import RelayOffer

OWN, PEER, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
KEYS = {name: bytes([number]) * 32 for number, name in enumerate(("alpha", "beta", "gamma"), start=10)}
AT = {"alpha": ["192.0.2.1"], "beta": ["192.0.2.2"], "gamma": ["192.0.2.3"]}


def report(name: str, *attached: bytes, port: int = 21473) -> Report:
    nodes = {key: Whereabouts(key in attached, ()) for key in (OWN, PEER, OTHER)}
    return Report(RelayOffer(port, KEYS[name]), nodes, None)


def relays(**reports: Report) -> Relays:
    made = Relays(OWN)
    made.use(reports, AT, {OWN, PEER, OTHER})
    return made


def test_each_is_a_peer_that_nothing_is_routed_to() -> None:
    made = relays(alpha=report("alpha"), beta=Report(None, {}, None))
    (config,) = made.peers.values()
    assert made.peers.keys() == {KEYS["alpha"]}
    assert (config.allowed_ips, config.endpoint, config.persistent_keepalive) == ((), ("192.0.2.1", 21473), KEEPALIVE)


def test_those_at_which_both_are_attached_in_the_same_order_for_both() -> None:
    all_of_them = {name: report(name, OWN, PEER) for name in KEYS}
    made = relays(**{**all_of_them, "beta": report("beta", OWN, OTHER)})
    assert set(made.between(PEER)) == {("192.0.2.1", 21473), ("192.0.2.3", 21473)}
    other_end = Relays(PEER)
    other_end.use(all_of_them, AT, {OWN, PEER, OTHER})
    order = relays(**all_of_them).between(PEER)
    assert len(order) == 3 and order == other_end.between(OWN)
    assert made.between(OTHER) == (("192.0.2.2", 21473),)


def test_a_beacon_whose_stream_has_broken_forwards_nothing_new_but_stays_a_peer() -> None:
    made = relays(alpha=report("alpha", OWN, PEER))
    made.use({}, AT, {OWN, PEER, OTHER})
    assert made.between(PEER) == () and made.peers.keys() == {KEYS["alpha"]}
    assert made.name_at(("192.0.2.1", 21473)) == "alpha"
    # Until the map has it no more, or it has no relay any more.
    made.use({}, {"beta": ["192.0.2.2"]}, {OWN, PEER, OTHER})
    assert made.peers == {} and made.endpoints == frozenset()
    made = relays(alpha=report("alpha", OWN, PEER))
    made.use({"alpha": Report(None, {}, None)}, AT, {OWN, PEER, OTHER})
    assert made.peers == {}


def test_a_relay_that_is_reached_elsewhere_is_known_at_its_old_address_too() -> None:
    made = relays(alpha=report("alpha", OWN, PEER))
    for number in range(20):
        made.use({"alpha": report("alpha", OWN, PEER)}, {"alpha": [f"198.51.100.{number}"]}, set())
    assert made.peers[KEYS["alpha"]].endpoint == ("198.51.100.19", 21473)
    assert made.between(PEER) == (("198.51.100.19", 21473),)
    assert made.name_at(("198.51.100.18", 21473)) == "alpha"
    assert len(made.endpoints) == 8


def test_a_relay_with_the_key_of_a_node_is_none() -> None:
    impostor = Report(RelayOffer(21473, PEER), {}, None)
    assert relays(alpha=impostor).peers == {}


def test_a_relay_that_does_not_answer_is_asked_at_its_other_address_and_then_again_at_the_first() -> None:
    both = {"alpha": ["2001:db8::1", "192.0.2.1"]}
    reports = {"alpha": report("alpha", OWN, PEER)}
    made = Relays(OWN)
    for address in ("2001:db8::1", "192.0.2.1", "2001:db8::1"):
        made.use(reports, both, {OWN, PEER, OTHER})
        assert made.peers[KEYS["alpha"]].endpoint == (address, 21473)
        # What is said of another endpoint, or of another relay, is of before.
        assert not made.no_answer(KEYS["alpha"], ("192.0.2.9", 21473))
        assert not made.no_answer(KEYS["beta"], (address, 21473))
        assert made.no_answer(KEYS["alpha"], (address, 21473))


def test_a_relay_that_another_beacon_claims_stays_where_it_was() -> None:
    made = relays(alpha=report("alpha", OWN, PEER))
    impostor = Report(report("alpha").relay, report("beta", OWN, PEER).nodes, None)
    for reports in ({"beta": impostor, "alpha": report("alpha", OWN, PEER)}, {"beta": impostor}):
        made.use(reports, AT, {OWN, PEER, OTHER})
        assert made.peers[KEYS["alpha"]].endpoint == ("192.0.2.1", 21473)
        assert made.name_at(("192.0.2.2", 21473)) is None
    assert made.between(PEER) == ()


def test_who_claims_a_relay_first_and_does_not_answer_there_has_it_no_more() -> None:
    impostor = Report(report("alpha").relay, {}, None)
    reports = {"beta": impostor, "alpha": report("alpha", OWN, PEER)}
    made = relays(**{"beta": impostor})
    made.use(reports, AT, {OWN, PEER, OTHER})
    assert made.peers[KEYS["alpha"]].endpoint == ("192.0.2.2", 21473)
    assert made.no_answer(KEYS["alpha"], ("192.0.2.2", 21473))
    for _look in range(3):
        made.use(reports, AT, {OWN, PEER, OTHER})
        assert made.peers[KEYS["alpha"]].endpoint == ("192.0.2.1", 21473)
        assert made.between(PEER) == (("192.0.2.1", 21473),)
    # And again the other, should that be silent.
    assert made.no_answer(KEYS["alpha"], ("192.0.2.1", 21473))
    made.use(reports, AT, {OWN, PEER, OTHER})
    assert made.peers[KEYS["alpha"]].endpoint == ("192.0.2.2", 21473)


KEY = st.sampled_from([*KEYS.values(), PEER])
SAID = st.builds(
    lambda key, port, attached: Report(key and RelayOffer(port, key), {PEER: Whereabouts(attached, ())}, None),
    st.none() | KEY, st.integers(1, 3), st.booleans(),
)  # fmt: skip
NAME = st.sampled_from(sorted(KEYS))
PLACES = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), min_size=1, unique=True)
USE = st.tuples(st.dictionaries(NAME, SAID), st.dictionaries(NAME, PLACES))


@given(st.lists(st.one_of(USE, KEY), max_size=30))
def test_whatever_beacons_claim_each_relay_is_one_peer_at_an_address_of_a_beacon(happens: list) -> None:
    made, now = Relays(OWN), ({}, {})
    for what in happens:
        if isinstance(what, bytes):
            config = made.peers.get(what)
            if config is None or config.endpoint is None or not made.no_answer(what, config.endpoint):
                continue
        else:
            now = what
        reports, places = now
        made.use(reports, places, {OWN, PEER})
        assert made.peers.keys() <= set(KEYS.values())
        current = {config.endpoint for config in made.peers.values() if config.endpoint}
        assert current <= made.endpoints and set(made.between(PEER)) <= current
        assert all(any(host in each for each in places.values()) for host, _port in current)
        assert {made.name_at(endpoint) for endpoint in current} <= places.keys()
