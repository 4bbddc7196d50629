"""The short way of one packet does what the batch's does, and leaves to that what is not plain."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard.batch import Opened, PythonArrivals, PythonOpener, PythonSealer

KEY, INDEX = bytes(range(32)), 7
ALLOWED = (b"\x0a\0\0\x01", b"\x0a\0\0\x02", b"\xfd" + bytes(15))


def ipv4(source: int, payload: bytes) -> bytes:
    """From an allowed address where it is 1 or 2."""
    header = b"\x45\0" + (20 + len(payload)).to_bytes(2, "big") + bytes(8)
    return header + bytes([10, 0, 0, source]) + b"\x0a\0\0\x09" + payload


def ipv6(source: int, payload: bytes) -> bytes:
    """From the allowed address where it is 0."""
    header = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + b"\x11\x40"
    return header + b"\xfd" + bytes(14) + bytes([source]) + bytes(16) + payload


packets = st.one_of(
    st.builds(ipv4, st.integers(1, 3), st.binary(max_size=100)),
    st.builds(ipv6, st.integers(0, 1), st.binary(max_size=100)),
    st.binary(max_size=60),
)


@given(st.lists(packets, max_size=20), st.sampled_from([0, 60, 100, 1420]))
def test_sealed_as_in_a_batch(given_packets: list[bytes], mtu: int) -> None:
    one, batch = PythonSealer(KEY, INDEX, mtu), PythonSealer(KEY, INDEX, mtu)
    datagrams = []
    for number, packet in enumerate(given_packets):
        datagrams.append(one.seal_one(packet))
        one.count(len(datagrams[-1]), 100.0 + number)
    assert datagrams == [bytes(datagram) for datagram in batch.seal(given_packets)[0]]
    assert one.counter == batch.counter
    expected = (len(datagrams), sum(map(len, datagrams)), 99.0 + len(datagrams))
    assert one.sent() == (expected if datagrams else None)
    assert one.sent() is None


def sealed_in_order(plain: Iterable[bytes]) -> list[bytes]:
    return [bytes(datagram) for datagram in PythonSealer(KEY, INDEX, 1420).seal(list(plain))[0]]


@given(
    st.lists(st.tuples(packets, st.sampled_from(["good", "good", "good", "forged", "short"])), min_size=1, max_size=20),
    st.lists(st.integers(0, 19), max_size=40),
)
def test_opened_as_in_a_batch(contents: list[tuple[bytes, str]], order: list[int]) -> None:
    """In any order, some of them again: what open_one() does not take, open() counts as if it had come there first."""
    datagrams = []
    for sealed, (_packet, fate) in zip(sealed_in_order(packet for packet, _fate in contents), contents, strict=True):
        datagrams.append({"good": sealed, "forged": sealed[:-1] + bytes([sealed[-1] ^ 1]), "short": sealed[:32]}[fate])
    both, batch = PythonOpener(KEY, INDEX), PythonOpener(KEY, INDEX)
    taken: list[bytes] = []
    left, arrivals = PythonArrivals(), PythonArrivals()
    of_both, of_batch = [], []
    for number in order:
        datagram = datagrams[number % len(datagrams)]
        of_batch.append(batch.open([datagram], 0, arrivals, ALLOWED.__contains__, 1))
        packet = both.open_one(datagram[8:16], memoryview(datagram)[16:], ALLOWED.__contains__)
        if packet:
            both.count(len(datagram), 100.0)
            taken.append(packet)
            received = both.received()
            assert received is not None
            assert received.at == 100.0
            of_both.append(received.opened._replace(end=1))
        else:
            of_both.append(both.open([datagram], 0, left, ALLOWED.__contains__, 1))
            assert both.received() is None
    assert of_both == of_batch
    assert taken == arrivals.packets()
    # Nothing that is delivered goes the long way.
    assert left.packets() == []


def test_counts_add_up() -> None:
    opener = PythonOpener(KEY, INDEX)
    for number in range(3):
        opener.count(100, 50.0 + number)
    received = opener.received()
    assert received is not None
    assert received.opened == Opened(0, 3, 0, 300, 0, 0, 0, 0, 0)
    assert received.at == 52.0
    assert opener.received() is None
