"""The parsers of handshake messages, and timestamps."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard import tai64n
from sennit.wireguard.errors import PacketError
from sennit.wireguard.messages import CookieReply, Initiation, Response, message_type

index = st.integers(0, 2**32 - 1)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


initiations = st.builds(Initiation, index, exactly(32), exactly(48), exactly(28))
responses = st.builds(Response, index, index, exactly(32), exactly(16))
cookie_replies = st.builds(CookieReply, index, exactly(24), exactly(32))


@given(st.one_of(initiations, responses), exactly(32))
def test_what_is_written_is_read_back(message: Initiation | Response, macs: bytes) -> None:
    datagram = message.to_bytes() + macs
    assert len(datagram) == {Initiation: 148, Response: 92}[type(message)]
    assert type(message).parse(datagram) == message


@given(cookie_replies)
def test_a_cookie_reply_is_read_back(message: CookieReply) -> None:
    assert len(message.to_bytes()) == 64
    assert CookieReply.parse(message.to_bytes()) == message


@given(st.binary(max_size=200))
def test_parsers_raise_nothing_but_packet_errors(datagram: bytes) -> None:
    for parse in (message_type, Initiation.parse, Response.parse, CookieReply.parse):
        with suppress(PacketError):
            parse(datagram)


def test_the_layout_of_the_whitepaper() -> None:
    initiation = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28)
    assert initiation.to_bytes() == b"\1\0\0\0" + b"\4\3\2\1" + b"e" * 32 + b"s" * 48 + b"t" * 28
    response = Response(1, 2, b"e" * 32, b"n" * 16)
    assert response.to_bytes() == b"\2\0\0\0" + b"\1\0\0\0" + b"\2\0\0\0" + b"e" * 32 + b"n" * 16
    assert CookieReply(3, b"n" * 24, b"c" * 32).to_bytes() == b"\3\0\0\0" + b"\3\0\0\0" + b"n" * 24 + b"c" * 32


def test_tai64n() -> None:
    assert tai64n.tai64n(0.0) == bytes.fromhex("400000000000000a" + "00000000")
    assert tai64n.tai64n(707385600.5)[:8] == (2**62 + 707385610).to_bytes(8, "big")
    assert int.from_bytes(tai64n.tai64n(1.9999)[8:], "big") < 10**9


@given(st.floats(0, 2**33), st.floats(0, 2**33))
def test_the_order_of_timestamps_is_that_of_time(one: float, two: float) -> None:
    earlier, later = sorted((one, two))
    assert tai64n.tai64n(earlier) <= tai64n.tai64n(later)
    if later - earlier > 0.02:
        assert tai64n.tai64n(earlier) < tai64n.tai64n(later)
    assert tai64n.later(earlier, tai64n.tai64n(later)) > tai64n.tai64n(later)


@pytest.mark.parametrize("datagram", [b"", b"\1", b"\1\0\0", b"\1\0\0\0", b"\1\1\0\0" + bytes(144), bytes(148)])
def test_malformed(datagram: bytes) -> None:
    with pytest.raises(PacketError):
        Initiation.parse(datagram)
