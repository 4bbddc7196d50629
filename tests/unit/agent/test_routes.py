"""The difference between what is wanted of the host and what is there."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from sennit.host.routes import Present, Wanted, difference, overlapping

WANTED = Wanted(
    addresses=("100.64.0.1/32", "fd00::1/128"),
    peer_addresses=("100.64.0.2/32", "fd00::2/128"),
    subnet_routes=("192.168.10.0/24",),
)


def test_everything_is_added_to_an_empty_host():
    todo = difference(WANTED, Present())
    assert todo.add_addresses == ("100.64.0.1/32", "fd00::1/128")
    assert todo.add_routes == ("100.64.0.2/32", "192.168.10.0/24", "fd00::2/128")
    assert todo.add_rules == (4, 6)
    assert not todo.remove_addresses and not todo.remove_routes and not todo.remove_rules


def test_an_added_peer_is_all_that_changes():
    present = Present(
        frozenset(WANTED.addresses), frozenset(WANTED.peer_addresses + WANTED.subnet_routes), frozenset({4, 6})
    )
    wanted = Wanted(WANTED.addresses, (*WANTED.peer_addresses, "100.64.0.3/32"), WANTED.subnet_routes)
    todo = difference(wanted, present)
    assert todo.add_routes == ("100.64.0.3/32",)
    assert not todo.add_addresses and not todo.add_rules
    assert not todo.remove_addresses and not todo.remove_routes and not todo.remove_rules


def test_nothing_wanted_removes_all_that_is_ours():
    present = Present(frozenset({"100.64.0.1/32"}), frozenset({"100.64.0.2/32"}), frozenset({4}))
    todo = difference(Wanted(), present)
    assert (todo.remove_addresses, todo.remove_routes, todo.remove_rules) == (
        ("100.64.0.1/32",),
        ("100.64.0.2/32",),
        (4,),
    )


def test_a_prefix_the_host_is_on_link_with_is_left_out_and_taken_back():
    present = Present(routes=frozenset({"192.168.10.0/24"}), on_link=("192.168.0.0/16",))
    todo = difference(WANTED, present)
    assert todo.on_link == ("192.168.10.0/24",)
    assert "192.168.10.0/24" not in todo.add_routes
    assert todo.remove_routes == ("192.168.10.0/24",)


def test_a_peer_is_routed_even_when_its_address_lies_in_an_on_link_prefix():
    todo = difference(WANTED, Present(on_link=("100.64.0.0/10",)))
    assert "100.64.0.2/32" in todo.add_routes


def test_a_family_without_routes_gets_no_rule():
    assert difference(Wanted(peer_addresses=("100.64.0.2/32",)), Present()).add_rules == (4,)


def test_overlap_is_within_a_family_and_in_both_directions():
    assert overlapping(["10.0.0.0/8", "fd00::/8"], ["10.1.0.0/16", "::/0"]) == {"10.0.0.0/8", "fd00::/8"}
    assert overlapping(["10.1.0.0/16"], ["10.0.0.0/8"]) == {"10.1.0.0/16"}
    assert overlapping(["10.1.0.0/16"], ["10.2.0.0/16", "::/0"]) == set()


def prefixes(strategy, bits):
    return st.builds(
        lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
        strategy,
        st.integers(0, bits),
    )


some_prefixes = st.lists(
    prefixes(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address), 32)
    | prefixes(st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address), 128),
    max_size=8,
    unique=True,
).map(tuple)


@given(some_prefixes, some_prefixes, some_prefixes, some_prefixes, some_prefixes)
def test_applying_the_difference_once_is_enough(addresses, peers, subnets, there, on_link):
    wanted = Wanted(addresses, peers, subnets)
    present = Present(frozenset(there), frozenset(there), frozenset({4}), on_link)
    todo = difference(wanted, present)
    after = Present(
        (present.addresses | set(todo.add_addresses)) - set(todo.remove_addresses),
        (present.routes | set(todo.add_routes)) - set(todo.remove_routes),
        (present.rules | set(todo.add_rules)) - set(todo.remove_rules),
        on_link,
    )
    assert after.addresses == set(addresses)
    again = difference(wanted, after)
    assert not again.add_addresses and not again.add_routes and not again.add_rules
    assert not again.remove_addresses and not again.remove_routes and not again.remove_rules
