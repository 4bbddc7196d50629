"""Netlink's framing: what is written is read, and nothing else is."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.datapath.link import Link, Links, parse
from sennit.netlink import NetlinkError, attribute, attributes, messages, nested

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=50)), max_size=10)
RTM_GETLINK = 18


@given(ATTRIBUTES)
def test_attributes_there_and_back(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert [(kind, bytes(value)) for kind, value in attributes(memoryview(data))] == pairs
    ((kind, inner),) = attributes(memoryview(nested(5, data)))
    assert (kind, bytes(inner)) == (5, data)


def test_an_attribute_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="65536 bytes"):
        attribute(1, bytes(65532))


@pytest.mark.parametrize("data", [b"\0", b"\3\0\1\0", b"\0\0\1\0", b"\5\0\1\0", b"\xff\xff\1\0" + bytes(100)])
def test_attributes_that_are_none(data: bytes) -> None:
    with pytest.raises(NetlinkError):
        list(attributes(memoryview(data)))


def message(kind: int, body: bytes, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body + bytes(-len(body) % 4)


def test_messages() -> None:
    found = list(messages(message(3, b"abc") + message(4, b"") + message(5, b"d")))
    assert [(kind, bytes(body)) for kind, _flags, _sequence, body in found] == [(3, b"abc"), (4, b""), (5, b"d")]


@given(st.binary(max_size=100), st.integers(0, 0xFFFFFFFF))
def test_messages_that_are_none(rest: bytes, length: int) -> None:
    with contextlib.suppress(NetlinkError):
        list(messages(struct.pack("=I", length) + rest))


def test_the_kernels_own_answers() -> None:
    with Links() as links:
        lo = links.find("lo")
        assert lo == Link(socket.if_nametoindex("lo"), "", "", lo.carrier if lo else False, lo.drops if lo else {})
        assert lo is not None and set(lo.drops) == {"rx-errors", "tx-errors", "rx-dropped", "tx-dropped"}
        assert links.find("nosuchlink") is None
        with pytest.raises(OSError, match="No such device"):
            links.get(2**31 - 1)


def link_answer() -> bytes:
    return (
        struct.pack("=BxHiII", 0, 65534, 7, 1, 0)
        + attribute(3, b"sennit0\0")
        + nested(18, attribute(1, b"wireguard\0"))
        + attribute(20, b"sennit\0")
        + attribute(33, b"\1")
        + attribute(23, struct.pack("=24Q", *range(24)))
    )


def test_link() -> None:
    drops = {"rx-errors": 4, "tx-errors": 5, "rx-dropped": 6, "tx-dropped": 7}
    assert parse(memoryview(link_answer())) == Link(7, "wireguard", "sennit", True, drops)


@given(st.data())
def test_any_byte_of_a_link_may_be_wrong(data: st.DataObject) -> None:
    mutated = bytearray(link_answer())
    mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    del mutated[data.draw(st.integers(0, len(mutated))) :]
    with contextlib.suppress(NetlinkError):
        parse(memoryview(mutated))
