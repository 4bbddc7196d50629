"""The messages of a stream: whatever comes, in whatever pieces, it is messages or one error."""

import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sennit.beacon.messages import (
    MAX_PACKED_BYTES,
    PREFACE,
    BeaconProtocolError,
    Have,
    Kept,
    Packed,
    Parser,
    Ping,
    Pong,
    Want,
    encode,
    unpack,
)
from sennit.netmap.model import MAX_VERSION
from sennit.netmap.signing import MAX_SIGNED_BYTES

HASH = st.binary(min_size=32, max_size=32)
EIGHT = st.binary(min_size=8, max_size=8)
MESSAGES = st.lists(
    st.one_of(
        st.builds(Have, st.integers(1, MAX_VERSION), HASH),
        st.builds(Want, HASH),
        st.builds(Ping, EIGHT),
        st.builds(Pong, EIGHT),
    ),
    max_size=20,
)


def pieces(data, cuts):
    """The bytes, cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:])]


@given(MESSAGES, st.binary(max_size=300), st.integers(0, 20), st.lists(st.integers(0, 10**6), max_size=30))
def test_what_one_end_says_the_other_hears_however_it_is_cut(messages, netmap, place, cuts):
    messages.insert(place, Packed(netmap))
    parser = Parser()
    heard = []
    for piece in pieces(PREFACE + b"".join(map(encode, messages)), cuts):
        missing = not any(isinstance(message, Packed) for message in heard)
        heard += parser.feed(piece, netmap_expected=missing)
    assert heard == messages


@given(st.lists(st.binary(max_size=200), max_size=10), st.booleans(), st.booleans())
def test_garbage_is_messages_or_one_error(chunks, begun, netmap_expected):
    parser = Parser()
    try:
        for chunk in [PREFACE, *chunks] if begun else chunks:
            list(parser.feed(chunk, netmap_expected))
    except BeaconProtocolError as error:
        assert str(error)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.booleans())
@example(3, 2**32 - 1, True)
@example(3, MAX_PACKED_BYTES + 1, True)
@example(9, 2**32 - 1, False)
@example(9, 64 * 1024, False)
def test_what_is_too_long_is_refused_by_its_header_and_nothing_else_is_awaited(kind, length, netmap_expected):
    sizes = {1: 40, 2: 32, 4: 8, 5: 8}
    most = MAX_PACKED_BYTES if netmap_expected else -1
    good = length == sizes[kind] if kind in sizes else length <= (most if kind == 3 else 64 * 1024)
    parser = Parser()
    try:
        assert list(parser.feed(PREFACE + struct.pack("!BI", kind, length), netmap_expected)) == (
            [Packed(b"")] if (kind, length) == (3, 0) and good else []
        )
    except BeaconProtocolError:
        assert not good
    else:
        assert good


def test_types_of_a_newer_end_are_skipped():
    stream = PREFACE + struct.pack("!BI", 200, 1000) + bytes(1000) + encode(Ping(b"12345678"))
    parser = Parser()
    heard = [message for piece in pieces(stream, range(0, 1000, 7)) for message in parser.feed(piece)]
    assert heard == [Ping(b"12345678")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"s\x00",
        PREFACE + encode(Packed(b"not asked for")),
        PREFACE + struct.pack("!BIQ32s", 1, 40, 0, bytes(32)),
        PREFACE + struct.pack("!BIQ32s", 1, 40, 2**64 - 1, bytes(32)),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(BeaconProtocolError):
        list(Parser().feed(data))


# --- compression


@given(st.binary(max_size=1000))
def test_a_map_survives_its_compression(signed):
    assert unpack(Kept.of(signed, 1).packed) == signed


@given(st.binary(max_size=1000))
def test_garbage_is_no_compressed_map(packed):
    try:
        signed = unpack(packed)
    except BeaconProtocolError:
        return
    assert zlib.decompress(packed) == signed


def test_a_map_of_the_largest_size_fits_and_no_larger_one():
    assert len(zlib.compress(bytes(range(256)) * (MAX_SIGNED_BYTES // 256), 0)) <= MAX_PACKED_BYTES
    assert len(unpack(zlib.compress(bytes(MAX_SIGNED_BYTES)))) == MAX_SIGNED_BYTES
    for packed in (
        zlib.compress(bytes(MAX_SIGNED_BYTES + 1)),
        zlib.compress(b"map")[:-1],
        zlib.compress(b"map") + b"and more",
        # 16 MiB of this are 16 GiB.
        zlib.compress(bytes(256 * 1024 * 1024)),
    ):
        with pytest.raises(BeaconProtocolError):
            unpack(packed)
