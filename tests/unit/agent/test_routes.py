"""The difference between what is wanted of the host and what is there."""

import dataclasses
import ipaddress

import pytest
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


def test_the_stub_answers_on_the_interface_too():
    wanted = dataclasses.replace(WANTED, stub_addresses=("100.100.100.100/32",))
    there = Present(frozenset({*WANTED.addresses, "100.100.100.100/32"}))
    assert difference(wanted, Present(frozenset(WANTED.addresses))).add_addresses == ("100.100.100.100/32",)
    assert difference(wanted, there).add_addresses == difference(wanted, there).remove_addresses == ()
    assert difference(WANTED, there).remove_addresses == ("100.100.100.100/32",)


def test_on_a_kernel_without_ipv6_nothing_of_it_is_asked_for():
    wanted = dataclasses.replace(
        WANTED,
        exit_node=True,
        exit_routes=("0.0.0.0/0", "::/0"),
        lan_access=True,
        pools=("100.64.0.0/10", "fd00::/48"),
        stub_addresses=("100.100.100.100/32", "fd00::64/128"),
    ).without_ipv6()
    todo = difference(wanted, Present())
    assert wanted.exit_node and todo.add_rules == (4,)
    assert todo.add_addresses == ("100.64.0.1/32", "100.100.100.100/32")
    assert not any(":" in prefix for prefix in (*todo.add_routes, *todo.add_throws))


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


EXIT = Wanted(peer_addresses=("100.64.0.2/32",), exit_node=True, exit_routes=("0.0.0.0/0", "::/0"))
LINKS = ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8")


@pytest.mark.parametrize(("lan_access", "more"), [(False, ()), (True, ("192.168.10.0/24", "2001:db8::/64"))])
def test_all_but_what_stays_on_the_host_and_its_links_goes_by_an_exit_node(lan_access, more):
    host = Present(lan=("192.168.10.0/24", "2001:db8::/64", "fe80::/64"), internal=("172.17.0.0/16",))
    todo = difference(dataclasses.replace(EXIT, lan_access=lan_access), host)
    assert {*todo.add_throws} == {*LINKS, "172.17.0.0/16", *more}
    assert todo.add_routes == ("0.0.0.0/0", "100.64.0.2/32", "::/0")
    assert todo.add_rules == (4, 6)


def test_what_is_for_an_exit_node_goes_with_it():
    there = Present(routes=frozenset({"0.0.0.0/0", "::/0"}), throws=frozenset(LINKS), rules=frozenset({4, 6}))
    todo = difference(Wanted(peer_addresses=("100.64.0.2/32",)), there)
    assert (todo.remove_routes, todo.remove_throws, todo.remove_rules) == (("0.0.0.0/0", "::/0"), LINKS, (6,))


def test_what_another_tunnel_has_stays_there():
    wanted = Wanted(peer_addresses=("100.64.0.2/32",), subnet_routes=("10.0.0.0/8", "10.9.0.0/16", "10.7.7.0/24"))
    todo = difference(wanted, Present(tunnelled=("10.9.0.0/16", "10.8.0.0/16", "10.7.0.0/16", "192.0.2.0/24")))
    assert todo.elsewhere == ("10.9.0.0/16",)
    assert todo.add_routes == ("10.0.0.0/8", "10.7.7.0/24", "100.64.0.2/32")
    assert todo.add_throws == ("10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16")


def test_a_peer_with_the_address_of_the_hosts_gateway_is_left_out():
    todo = difference(WANTED, Present(gateways=("100.64.0.2", "fe80::1")))
    assert todo.on_link == ("100.64.0.2/32",)
    assert todo.add_routes == ("192.168.10.0/24", "fd00::2/128")


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
