from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sennit.datapath.udp import batches


@given(
    st.lists(st.one_of(st.sampled_from([32, 96, 1452]), st.integers(32, 9000)), max_size=200),
    st.sampled_from([0, 96, 1452, 65508]),
)
def test_batches_keep_the_order_and_the_kernel_s_rules(sizes: list[int], below: int) -> None:
    """udp(7) and net/ipv4/udp.c: at most 64 segments, all of one size but the last, all in one IP packet."""
    datagrams = [bytes(size) for size in sizes]
    at = 0
    for start, end in batches(datagrams, below):
        assert start == at
        at = end
        batch = sizes[start:end]
        if len(batch) == 1:
            continue
        assert len(batch) <= 64
        assert sum(batch) <= 65507
        assert set(batch[:-1]) == {batch[0]}
        assert batch[-1] <= batch[0] < below
    assert at == len(sizes)


def test_a_super_packet_takes_as_few_calls_as_possible() -> None:
    assert list(batches([bytes(1452)] * 45 + [bytes(100)], 65508)) == [(0, 45), (45, 46)]
    assert list(batches([bytes(1452)] * 44 + [bytes(100)], 65508)) == [(0, 45)]
    assert list(batches([bytes(32)] * 70, 65508)) == [(0, 64), (64, 70)]
