"""Where a peer may be, in the order in which it is tried."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.paths.candidates import DIRECT, IPV6, LAN, MAX_CANDIDATES, RANKS, Local, kind_of, ranked, relay_order

PORT = 51820
POOLS = ("100.64.0.0/10", "fd5e::/48")
LOCAL = Local(
    ("192.168.1.2", "203.0.113.2", "2001:db8::2"),
    tuple(map(ip_network, ("192.168.1.0/24", "203.0.113.0/28", "2001:db8::/64"))),
)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("192.168.1.9", LAN),
        ("10.1.2.3", LAN),
        ("172.31.0.1", LAN),
        ("fd00::1", LAN),
        ("fe80::1%eth0", LAN),
        ("203.0.113.9", LAN),
        ("2001:db8::9", LAN),
        ("2001:db8:1::9", IPV6),
        ("203.0.113.99", DIRECT),
        ("172.32.0.1", DIRECT),
        ("100.64.0.1", DIRECT),
    ],
)
def test_kinds(address: str, kind: str) -> None:
    assert kind_of((address, PORT), LOCAL) == kind


def test_the_lan_comes_first_then_ipv6_then_ipv4() -> None:
    found = [("198.51.100.1", 7), ("2001:db8:9::1", 7), ("192.168.1.9", 7), ("198.51.100.2", 7), ("198.51.100.1", 7)]
    assert ranked(found, LOCAL, PORT, POOLS) == (
        ("192.168.1.9", 7),
        ("2001:db8:9::1", 7),
        ("198.51.100.1", 7),
        ("198.51.100.2", 7),
    )


def test_no_more_than_the_first_are_tried_however_near_others_may_seem() -> None:
    found = [("198.51.100.1", 7), *(("192.168.1.9", port) for port in range(1, 100))]
    assert ranked(found, LOCAL, PORT, POOLS) == (*found[1:MAX_CANDIDATES], found[0])


@pytest.mark.parametrize(
    "endpoint",
    [
        ("127.0.0.1", PORT),
        ("::1", PORT),
        ("0.0.0.0", PORT),  # noqa: S104
        ("224.0.0.1", PORT),
        ("ff02::1", PORT),
        ("fe80::1", PORT),
        ("169.254.1.1", PORT),
        ("198.51.100.1", 0),
        # ourselves, and what is in the mesh
        ("192.168.1.2", PORT),
        ("100.64.0.1", PORT),
        ("fd5e::7", PORT),
    ],
)
def test_what_is_no_place_of_a_peer(endpoint: tuple[str, int]) -> None:
    assert ranked([endpoint], LOCAL, PORT, POOLS) == ()


def test_another_port_of_our_own_address_may_be_a_peer() -> None:
    """As behind a NAT that has this host's address."""
    assert ranked([("192.168.1.2", 1)], LOCAL, PORT, POOLS) == (("192.168.1.2", 1),)


def test_a_family_that_this_host_has_not() -> None:
    found = [("198.51.100.1", 7), ("2001:db8:9::1", 7)]
    assert ranked(found, Local(("2001:db8::2",)), PORT, POOLS) == (("2001:db8:9::1", 7),)
    assert ranked(found, Local(("192.0.2.2",)), PORT, POOLS) == (("198.51.100.1", 7),)


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.tuples(addresses, st.integers(0, 65535)), max_size=60))
def test_never_more_than_there_may_be_and_always_in_order(found: list[tuple[str, int]]) -> None:
    order = ranked(found, LOCAL, PORT, POOLS)
    assert len(order) <= MAX_CANDIDATES and set(order) <= set(found) and len(set(order)) == len(order)
    ranks = [RANKS[kind_of(endpoint, LOCAL)] for endpoint in order]
    assert ranks == sorted(ranks)


keys = st.binary(min_size=32, max_size=32)


@given(st.lists(st.text(min_size=1), unique=True), keys, keys)
def test_both_ends_prefer_the_same_relay(names: list[str], one: bytes, other: bytes) -> None:
    order = relay_order(names, one, other)
    assert order == relay_order(reversed(names), other, one)
    # Without the first, the others keep their order: nobody but those at it has to move.
    assert relay_order([name for name in names if name not in order[:1]], one, other) == order[1:]


def test_pairs_are_spread_over_all_relays() -> None:
    names = [f"beacon{number}" for number in range(4)]
    first = [relay_order(names, bytes([one]) * 32, bytes([other]) * 32)[0] for one in range(20) for other in range(one)]
    assert min(map(first.count, names)) > len(first) / 8
