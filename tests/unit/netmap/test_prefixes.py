# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefixes held against the standard library, which the compiler does not use."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork

from sennit.netmap.prefixes import Owned, overlaps, parse_prefix


def network(base: str, offset: int, length: int) -> str:
    return str(ipaddress.ip_network((int(ipaddress.ip_address(base)) + offset, length), strict=False))


NEAR = st.builds(network, st.just("10.0.0.0"), st.integers(0, 1023), st.integers(20, 32)) | st.builds(
    network, st.just("fd00::"), st.integers(0, 1023), st.integers(116, 128)
)


@given(st.lists(NEAR, max_size=12), st.lists(NEAR, max_size=12))
def test_the_sweep_finds_what_comparing_all_with_all_finds(claims, others):
    claimed = [Owned(IPNetwork(text), ("claim", index)) for index, text in enumerate(claims)]
    other = [Owned(IPNetwork(text), ("other", index)) for index, text in enumerate(others)]
    found = [frozenset((one.owner, two.owner)) for one, two in overlaps(claimed, other)]

    texts = {each.owner: str(each.prefix) for each in claimed + other}
    expected = {
        frozenset((one.owner, two.owner))
        for one in claimed
        for two in claimed + other
        if one is not two
        and one.prefix.version == two.prefix.version
        and ipaddress.ip_network(texts[one.owner]).overlaps(ipaddress.ip_network(texts[two.owner]))
    }
    assert set(found) == expected
    assert len(found) == len(expected)


@given(st.text(max_size=20) | st.from_regex(r"[0-9a-f.:/]{0,20}", fullmatch=True) | NEAR)
def test_a_prefix_is_what_the_standard_library_takes_for_one(text):
    try:
        ours = str(parse_prefix(text))
    except ValueError:
        ours = ""
    try:
        # The length as digits, where the standard library takes a mask or nothing as well.
        theirs = str(ipaddress.ip_network(text)) if text.rpartition("/")[2].isdigit() and "/" in text else ""
    except ValueError:
        theirs = ""
    if "%" not in text:
        assert ours == theirs
