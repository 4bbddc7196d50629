"""From how a node looks to what kind of NAT it is behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.diagnostics.nat import INDEPENDENT, NONE, RELAY, SYMMETRIC, UNKNOWN, WIREGUARD, Sighting, classify

OWN = {"192.168.1.5", "198.51.100.5"}
PORT = 51820


def seen(*texts):
    """Of "beacon port-kind address port"."""
    kinds = {"w": WIREGUARD, "r": RELAY}
    found = []
    for text in texts:
        beacon, kind, address, port = text.split()
        found.append(Sighting(beacon, kinds[kind], address, int(port)))
    return found


@pytest.mark.parametrize(
    ("sightings", "kind", "reason"),
    [
        ((), UNKNOWN, "no beacon says how this node looks from outside"),
        (("a w 198.51.100.5 51820",), NONE, "seen at its own address and port by a"),
        (("a w 198.51.100.5 51820", "b w 198.51.100.5 51820"), NONE, "seen at its own address and port by a and b"),
        (("a w 203.0.113.9 51820", "b w 203.0.113.9 51820"), INDEPENDENT, "one outside port for a and b"),
        (
            ("a w 203.0.113.9 4711", "a r 203.0.113.9 4711", "b r 203.0.113.9 4711"),
            INDEPENDENT,
            "one outside port for a and b",
        ),
        (("a w 203.0.113.9 4711", "b w 203.0.113.9 4712"), SYMMETRIC, "another outside port for each of a and b"),
        (("a w 203.0.113.9 4711", "b w 203.0.113.8 4711"), SYMMETRIC, "another outside port for each of a and b"),
        (("a w 203.0.113.9 4711", "a r 203.0.113.9 4712"), SYMMETRIC, "another outside port for each port of a"),
        (("a w 203.0.113.9 4711",), UNKNOWN, "behind a NAT; it takes a second beacon outside, beside a, to tell which"),
        (
            ("a w 203.0.113.9 4711", "a r 203.0.113.9 4711"),
            UNKNOWN,
            "behind a NAT; it takes a second beacon outside, beside a, to tell which",
        ),
        # One beacon is on the LAN, and says nothing of what is at its edge.
        (
            ("a w 203.0.113.9 4711", "lan w 192.168.1.5 51820"),
            UNKNOWN,
            "behind a NAT; it takes a second beacon outside, beside a, to tell which",
        ),
        # Its own address, and yet another port: something on the way has changed it.
        (("a w 198.51.100.5 1024", "b w 198.51.100.5 1025"), SYMMETRIC, "another outside port for each of a and b"),
    ],
)
def test_kinds(sightings, kind, reason):
    nat = classify(seen(*sightings), OWN, PORT)
    assert (nat.kind, nat.reason) == (kind, reason)


def test_where_it_is_seen():
    nat = classify(seen("a w 203.0.113.9 4711", "a r 203.0.113.9 4711", "b w 203.0.113.9 4712"), OWN, PORT)
    assert nat.outside == (("203.0.113.9", 4711), ("203.0.113.9", 4712))


@given(
    st.lists(
        st.builds(Sighting, st.sampled_from("abc"), st.sampled_from([WIREGUARD, RELAY]), st.sampled_from(["1", "2"]),
                  st.integers(1, 3))
    )
)  # fmt: skip
def test_the_order_of_what_is_said_does_not_matter(sightings):
    assert classify(sightings, {"1"}, 1).kind == classify(sightings[::-1], {"1"}, 1).kind
