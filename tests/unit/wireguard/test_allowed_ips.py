from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard.allowed_ips import AllowedIPs

PEERS = [b"a" * 32, b"b" * 32, b"c" * 32]


def packed(address: str) -> bytes:
    return ip_address(address).packed


def test_the_longest_prefix_wins() -> None:
    table = AllowedIPs()
    for prefix, peer in (("0.0.0.0/0", 0), ("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.2.3", 0), ("::/0", 1)):
        table.insert(prefix, PEERS[peer])
    assert table.lookup(packed("192.0.2.1")) == PEERS[0]
    assert table.lookup(packed("10.9.9.9")) == PEERS[1]
    assert table.lookup(packed("10.1.9.9")) == PEERS[2]
    assert table.lookup(packed("10.1.2.3")) == PEERS[0]
    assert table.lookup(packed("2001:db8::1")) == PEERS[1]


def test_families_are_apart() -> None:
    table = AllowedIPs()
    table.insert("::/0", PEERS[0])
    assert table.lookup(bytes(4)) is None
    table.insert("0.0.0.0/0", PEERS[1])
    assert table.lookup(bytes(16)) == PEERS[0]


def test_a_prefix_moves_to_its_newest_owner() -> None:
    table = AllowedIPs()
    table.insert("10.0.0.0/8", PEERS[0])
    table.insert("10.0.0.0/8", PEERS[1])
    table.remove_peer(PEERS[0])
    assert table.lookup(packed("10.0.0.1")) == PEERS[1]
    table.remove_peer(PEERS[1])
    assert table.lookup(packed("10.0.0.1")) is None
    table.remove_peer(PEERS[1])


def test_host_bits_are_ignored() -> None:
    table = AllowedIPs()
    table.insert("192.168.1.77/24", PEERS[0])
    assert table.lookup(packed("192.168.1.1")) == PEERS[0]


@pytest.mark.parametrize("prefix", ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "nonsense", "10.0.0.0/-1"])
def test_malformed_prefixes(prefix: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        AllowedIPs().insert(prefix, PEERS[0])


def networks(bits: int) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    """Prefixes that often contain each other: few bits vary."""
    address = st.integers(0, 255).map(lambda byte: byte << (bits - 8) | byte)
    kind = IPv4Network if bits == 32 else IPv6Network
    return st.builds(lambda number, length: kind((number, length), strict=False), address, st.integers(0, bits))


operation = st.one_of(
    st.tuples(st.just("insert"), st.one_of(networks(32), networks(128)), st.sampled_from(PEERS)),
    st.tuples(st.just("remove"), st.none(), st.sampled_from(PEERS)),
)


@given(st.lists(operation, max_size=30), st.lists(st.one_of(networks(32), networks(128)), max_size=10))
def test_against_a_plain_list(operations: list, probes: list) -> None:
    table, oracle = AllowedIPs(), {}
    for action, network, peer in operations:
        if action == "insert":
            table.insert(str(network), peer)
            oracle[network] = peer
        else:
            table.remove_peer(peer)
            oracle = {network: owner for network, owner in oracle.items() if owner != peer}
    addresses = [network.network_address for network in [*probes, *oracle]]
    addresses += [network.broadcast_address for network in [*probes, *oracle]]
    for address in addresses:
        matches = [network for network in oracle if address.version == network.version and address in network]
        best = max(matches, key=lambda network: network.prefixlen, default=None)
        assert table.lookup(address.packed) == (None if best is None else oracle[best])


def test_a_hundred_thousand_prefixes() -> None:
    table = AllowedIPs()
    for number in range(100_000):
        table.insert(str(ip_network(((number << 10) + (1 << 28), 22))), PEERS[number % 3])
    assert table.lookup(((77_777 << 10) + (1 << 28) + 5).to_bytes(4, "big")) == PEERS[77_777 % 3]
    for peer in PEERS:
        table.remove_peer(peer)
    assert table.lookup(((77_777 << 10) + (1 << 28) + 5).to_bytes(4, "big")) is None
