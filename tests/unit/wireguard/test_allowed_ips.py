from __future__ import annotations

import bisect
import random
import tracemalloc
from ipaddress import IPv4Network, IPv6Network, ip_address

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


Prefixes = dict[tuple[int, int], bytes]
"""Owner by network number and length, in one family."""


def random_prefixes(chance: random.Random, bits: int, count: int) -> Prefixes:
    """Many of them within others, as in the internet's routing table: half are more specific parts of earlier ones."""
    found: Prefixes = {(0, 0): PEERS[0]}
    earlier = [(0, 0)]
    while len(found) < count:
        network, length = chance.choice(earlier) if chance.random() < 0.5 else (0, 0)
        longer = chance.randint(length, bits)
        part = chance.getrandbits(bits) & ((1 << bits - length) - 1)
        prefix = (network | part) >> bits - longer << bits - longer, longer
        found[prefix] = chance.choice(PEERS)
        earlier.append(prefix)
    return found


class Oracle:
    """The answers as segments of the number line: a prefix ends those around it where it begins."""

    def __init__(self, prefixes: Prefixes, bits: int) -> None:
        self._starts: list[int] = []
        self._owners: list[bytes | None] = []
        open_ones: list[tuple[int, bytes]] = []  # the last number and the owner, the innermost at the end
        for (start, length), owner in sorted(prefixes.items()):
            self._close(open_ones, start)
            open_ones.append((start + (1 << bits - length) - 1, owner))
            self._begin(start, owner)
        self._close(open_ones, 1 << bits)

    def _close(self, open_ones: list[tuple[int, bytes]], before: int) -> None:
        while open_ones and open_ones[-1][0] < before:
            last, _owner = open_ones.pop()
            self._begin(last + 1, open_ones[-1][1] if open_ones else None)

    def _begin(self, start: int, owner: bytes | None) -> None:
        self._starts.append(start)
        self._owners.append(owner)

    def lookup(self, number: int) -> bytes | None:
        at = bisect.bisect_right(self._starts, number) - 1
        return self._owners[at] if at >= 0 else None


def test_hundreds_of_thousands_of_prefixes() -> None:
    """In both families, against an independent oracle, at and around the borders; memory a prefix stays small."""
    chance = random.Random(1)
    families = {32: random_prefixes(chance, 32, 150_000), 128: random_prefixes(chance, 128, 150_000)}
    table = AllowedIPs()
    texts = [
        (f"{ip_address(network.to_bytes(bits // 8, 'big'))}/{length}", owner)
        for bits, prefixes in families.items()
        for (network, length), owner in prefixes.items()
    ]
    tracemalloc.start()
    for text, owner in texts:
        table.insert(text, owner)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / len(texts) < 250

    def check() -> None:
        for bits, prefixes in families.items():
            oracle = Oracle(prefixes, bits)
            numbers = [chance.getrandbits(bits) for _ in range(5000)]
            for network, length in chance.sample(sorted(prefixes), min(5000, len(prefixes))):
                last = network + (1 << bits - length) - 1
                numbers += [network, last, max(network - 1, 0), min(last + 1, (1 << bits) - 1)]
            for number in numbers:
                assert table.lookup(number.to_bytes(bits // 8, "big")) == oracle.lookup(number)

    check()
    table.remove_peer(PEERS[0])
    for bits, prefixes in families.items():
        families[bits] = {prefix: owner for prefix, owner in prefixes.items() if owner != PEERS[0]}
    check()
    for peer in PEERS[1:]:
        table.remove_peer(peer)
    assert table.lookup(bytes(4)) is table.lookup(bytes(16)) is None
    assert not any(family.tables for family in table._families.values())


def test_a_prefix_that_came_back_belongs_to_its_last_owner() -> None:
    table = AllowedIPs()
    for peer in (PEERS[0], PEERS[1], PEERS[0]):
        table.insert("10.0.0.0/8", peer)
    table.remove_peer(PEERS[1])
    assert table.lookup(packed("10.0.0.1")) == PEERS[0]
    table.remove_peer(PEERS[0])
    assert table.lookup(packed("10.0.0.1")) is None


@given(st.one_of(networks(32), networks(128)))
def test_any_spelling_of_a_prefix(network: IPv4Network | IPv6Network) -> None:
    """With the length, with a netmask, and with host bits."""
    spellings = [str(network), f"{network.network_address.exploded}/{network.prefixlen}"]
    if network.version == 4:
        spellings.append(network.with_netmask)
    for spelling in spellings:
        table = AllowedIPs()
        table.insert(spelling, PEERS[0])
        assert (
            table.lookup(network.network_address.packed) == table.lookup(network.broadcast_address.packed) == PEERS[0]
        )
        if network.prefixlen:
            outside = int(network.network_address) ^ 1 << network.max_prefixlen - network.prefixlen
            assert table.lookup(outside.to_bytes(network.max_prefixlen // 8, "big")) is None
