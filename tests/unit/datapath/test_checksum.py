from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.datapath.packets import ones_complement_sum

from sennit.datapath.checksum import words_sum


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=350, max_size=1600), st.binary(max_size=9000)))
def test_like_the_slow_one(data: bytes) -> None:
    assert words_sum(data) % 65535 == ones_complement_sum(data) % 65535
    assert words_sum(memoryview(data)) == words_sum(data)


def test_the_example_of_rfc_1071_section_3() -> None:
    assert words_sum(bytes.fromhex("0001f203f4f5f6f7")) % 65535 == 0xDDF2
