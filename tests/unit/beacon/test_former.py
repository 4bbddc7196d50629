"""Which former addresses a beacon serves: a node's own, for a while, and never one that is another's now."""

import dataclasses

from sennit.beacon.former import MAX_ADDRESSES, MAX_AGE, Former, leave, served
from sennit.netmap.model import KIND_NODE, KIND_STATIC, Netmap, Network, Node

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48"))
A, B, C = (Node(name, KIND_NODE, bytes([number]) * 32, (f"100.64.0.{number}", f"fd5e::{number}"))
           for number, name in enumerate("abc", start=1))  # fmt: skip


def netmap(*nodes):
    return Netmap(NETWORK, 1, nodes, {})


def at(node, *addresses, **changes):
    return dataclasses.replace(node, addresses=addresses, **changes)


def test_what_a_node_has_left_is_its_former_address_and_what_it_has_again_is_not():
    before = netmap(A, B)
    moved = netmap(at(A, "10.9.0.1"), at(B, "10.9.0.2", "fd5e::2"))
    left = leave({}, before, moved, 10)
    assert served(left, A.public_key) == Former(A.addresses, {B.public_key: ("100.64.0.2",)})
    assert served(left, A.public_key).prefixes(B.public_key) == ("100.64.0.2/32",)
    assert served(left, A.public_key).prefixes(C.public_key) == ()
    # The next map is no reason to forget them; to have them again is.
    assert leave(left, moved, moved, 20) == left
    back = leave(left, moved, before, 20)
    assert served(back, A.public_key) == Former(("10.9.0.1",), {B.public_key: ("10.9.0.2",)})


def test_an_address_that_is_given_to_another_is_nobody_elses():
    left = leave({}, netmap(A, B), netmap(at(A, "10.9.0.1"), at(B, *A.addresses)), 10)
    assert served(left, A.public_key) == Former((), {B.public_key: B.addresses})
    # Nor is one that is routed to somebody, approved or not, and it does not come back when that ends.
    for routes in ({"routes": ("100.64.0.0/24",)}, {"unapproved_routes": ("100.64.0.0/24",)}):
        routed = leave(left, None, netmap(at(B, *A.addresses), dataclasses.replace(C, **routes)), 20)
        assert served(routed, B.public_key) == Former(("fd5e::2",), {})
    assert leave(routed, None, netmap(at(B, *A.addresses)), 30) == routed


def test_nodes_alone_have_some_for_a_while_and_not_too_many():
    static = at(C, "100.64.0.3", kind=KIND_STATIC)
    assert leave({}, netmap(static), netmap(at(static, "10.9.0.3")), 10) == {}
    left = leave({}, netmap(A, B), netmap(at(A, "10.9.0.1")), 10)
    assert list(left) == [A.public_key]
    assert leave(left, None, netmap(at(A, "10.9.0.1")), 10 + MAX_AGE - 1) == left
    assert leave(left, None, netmap(at(A, "10.9.0.1")), 10 + MAX_AGE) == {}
    for number in range(1, 20):
        left = leave(left, netmap(at(A, f"10.9.0.{number}")), netmap(at(A, f"10.9.0.{number + 1}")), 20 + number)
    assert list(left[A.public_key]) == [f"10.9.0.{number}" for number in range(20 - MAX_ADDRESSES, 20)]
