from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sennit.datapath.udp import pieces


@given(st.lists(st.one_of(st.sampled_from([32, 96, 1452]), st.integers(0, 9000)), max_size=200))
def test_pieces_keep_the_order_and_the_kernel_s_rules(sizes: list[int]) -> None:
    """udp(7) and net/ipv4/udp.c: at most 64 segments, all of one size but the last, all in one IP packet."""
    datagrams = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    together = []
    for buffers, size, count in pieces(datagrams):
        together += buffers
        lengths = [len(buffer) for buffer in buffers]
        assert len(lengths) == count
        if count == 1:
            continue
        assert count <= 64
        assert sum(lengths) <= 65507
        assert set(lengths[:-1]) == {size}
        assert lengths[-1] <= size
    assert together == datagrams


def counts(sizes: list[int]) -> list[int]:
    return [piece.number for piece in pieces([bytes(size) for size in sizes])]


def test_a_super_packet_takes_as_few_calls_as_possible() -> None:
    assert counts([1452] * 45 + [100]) == [45, 1]
    assert counts([1452] * 44 + [100]) == [45]
    assert counts([32] * 70) == [64, 6]
