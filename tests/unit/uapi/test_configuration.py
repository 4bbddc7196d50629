"""What a set makes of the peers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sennit.uapi.configuration import Peers, changed
from sennit.uapi.messages import PeerChange, Set
from sennit.wireguard.events import PeerConfig

A, B, C, OWN = (bytes([number]) * 32 for number in (1, 2, 3, 9))
ENDPOINT = ("192.0.2.1", 1)
PRESENT: Peers = {
    A: PeerConfig(A, ("10.0.0.1/32", "10.1.0.0/16"), ENDPOINT, 25),
    B: PeerConfig(B, ("10.0.0.2/32",), None, 0, C),
}


def wanted(*peers: PeerChange, replace_peers: bool = False, present: Peers = PRESENT) -> Peers:
    return changed(present, Set(replace_peers=replace_peers, peers=list(peers)), OWN)[1]


def kept(*peers: PeerChange, replace_peers: bool = False) -> Peers:
    return changed(PRESENT, Set(replace_peers=replace_peers, peers=list(peers)), OWN)[0]


def test_what_is_not_given_stays() -> None:
    assert wanted() == PRESENT
    assert wanted(PeerChange(A), PeerChange(B)) == PRESENT
    assert wanted(PeerChange(B, persistent_keepalive=5))[B] == PeerConfig(B, ("10.0.0.2/32",), None, 5, C)
    assert wanted(PeerChange(B, preshared_key=bytes(32)))[B] == PeerConfig(B, ("10.0.0.2/32",))
    assert kept(PeerChange(B, persistent_keepalive=5)) == PRESENT


def test_peers_come_and_go() -> None:
    assert wanted(PeerChange(C, allowed_ips=[("10.0.0.3/32", True)]))[C] == PeerConfig(C, ("10.0.0.3/32",))
    assert wanted(PeerChange(A, remove=True)) == {B: PRESENT[B]}
    assert wanted(PeerChange(C, remove=True)) == PRESENT
    assert wanted(PeerChange(C, update_only=True, allowed_ips=[("10.0.0.1/32", True)])) == PRESENT
    assert wanted(PeerChange(A, update_only=True, persistent_keepalive=0))[A].persistent_keepalive == 0
    assert wanted(PeerChange(C), replace_peers=True) == {C: PeerConfig(C)}


def test_our_own_key_is_no_peer() -> None:
    assert wanted(PeerChange(OWN, allowed_ips=[("10.0.0.1/32", True)])) == PRESENT


def test_a_peer_that_is_removed_and_set_is_a_new_one() -> None:
    assert kept(PeerChange(A, remove=True), PeerChange(A)) == {B: PRESENT[B]}
    assert wanted(PeerChange(A, remove=True), PeerChange(A))[A] == PeerConfig(A)
    assert kept(PeerChange(A), replace_peers=True) == {}


def test_an_endpoint_that_is_set_counts_even_if_it_was_configured_before() -> None:
    assert kept(PeerChange(A, endpoint=ENDPOINT))[A].endpoint is None
    assert wanted(PeerChange(A, endpoint=ENDPOINT)) == PRESENT


def test_a_prefix_has_one_owner() -> None:
    moved = wanted(PeerChange(B, allowed_ips=[("10.1.0.0/16", True)]))
    assert moved[A].allowed_ips == ("10.0.0.1/32",)
    assert moved[B].allowed_ips == ("10.0.0.2/32", "10.1.0.0/16")
    back = wanted(
        PeerChange(B, allowed_ips=[("10.1.0.0/16", True)]), PeerChange(A, allowed_ips=[("10.1.0.0/16", True)])
    )
    assert back == PRESENT


def test_allowed_ips_go_one_by_one() -> None:
    assert wanted(PeerChange(A, allowed_ips=[("10.1.0.0/16", False)]))[A].allowed_ips == ("10.0.0.1/32",)
    # Only from their owner.
    assert wanted(PeerChange(B, allowed_ips=[("10.1.0.0/16", False), ("10.7.0.0/16", False)])) == PRESENT


def test_peers_that_share_a_prefix_were_not_set_here() -> None:
    """Whoever configured them so: it does no harm."""
    present = {A: PeerConfig(A, ("10.0.0.0/8",)), B: PeerConfig(B, ("10.0.0.0/8",))}
    assert wanted(PeerChange(A, replace_allowed_ips=True), present=present)[A].allowed_ips == ()
    assert C in wanted(PeerChange(C, allowed_ips=[("10.0.0.0/8", True)]), PeerChange(B, remove=True), present=present)


KEYS = st.sampled_from([A, B, C, OWN])
PREFIXES = st.sampled_from(["10.0.0.1/32", "10.0.0.2/32", "10.1.0.0/16", "fd00::/64"])
CHANGES = st.builds(
    PeerChange,
    KEYS,
    remove=st.booleans(),
    update_only=st.booleans(),
    endpoint=st.none() | st.just(ENDPOINT),
    replace_allowed_ips=st.booleans(),
    allowed_ips=st.lists(st.tuples(PREFIXES, st.booleans())),
)


@given(st.booleans(), st.lists(CHANGES))
def test_as_a_table_of_owners_has_it(replace_peers: bool, changes: list[PeerChange]) -> None:
    """Another way to say the same: peers are a set, and every prefix has an owner."""
    peers = set() if replace_peers else set(PRESENT)
    owners = {prefix: key for key in peers for prefix in PRESENT[key].allowed_ips}
    for change in changes:
        key = change.public_key
        if key == OWN or (key not in peers and (change.remove or change.update_only)):
            continue
        peers.add(key)
        if change.remove or change.replace_allowed_ips:
            owners = {prefix: owner for prefix, owner in owners.items() if owner != key}
        if change.remove:
            peers.remove(key)
            continue
        for prefix, comes in change.allowed_ips:
            if comes:
                owners[prefix] = key
            elif owners.get(prefix) == key:
                del owners[prefix]
    before = dict(PRESENT)
    stay, result = changed(PRESENT, Set(replace_peers=replace_peers, peers=changes), OWN)
    assert set(result) == peers
    assert {prefix: key for key, config in result.items() for prefix in config.allowed_ips} == owners
    assert sum(len(config.allowed_ips) for config in result.values()) == len(owners)
    assert stay.keys() <= PRESENT.keys()
    assert before == PRESENT
