"""The messages of a stream: whatever comes, in whatever pieces, it is messages or one error."""

import ipaddress
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sennit.beacon.messages import (
    FROM_BEACONS,
    FROM_NODES,
    MAX_NODES_BYTES,
    MAX_PACKED_BYTES,
    PREFACE,
    BeaconProtocolError,
    Have,
    Kept,
    Nodes,
    Packed,
    Parser,
    Ping,
    Place,
    Pong,
    Relay,
    Unknown,
    Want,
    encode,
    encode_entry,
    is_reachable,
    unpack,
)
from sennit.beacon.whereabouts import KINDS, MAX_CANDIDATES, MAX_OWN_ADDRESSES, Candidate, Whereabouts
from sennit.netmap.endpoint import join_endpoint, split_endpoint
from sennit.netmap.model import MAX_VERSION
from sennit.netmap.signing import MAX_SIGNED_BYTES
from sennit.relay.offer import RelayOffer

HASH = st.binary(min_size=32, max_size=32)
EIGHT = st.binary(min_size=8, max_size=8)
ALL = FROM_NODES | FROM_BEACONS
ADDRESSES = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(network="2000::/3"), st.ip_addresses(network="fc00::/7")
)  # fmt: skip
# Without those that would come back as IPv4.
ENDPOINTS = st.tuples(ADDRESSES.map(str), st.integers(0, 65535)).filter(
    lambda endpoint: is_reachable(endpoint) and not endpoint[0].startswith("::ffff:")
)
CANDIDATES = st.builds(Candidate, st.sampled_from(sorted(KINDS)), ENDPOINTS)
WHEREABOUTS = st.builds(Whereabouts, st.booleans(), st.lists(CANDIDATES, max_size=MAX_CANDIDATES).map(tuple))
MESSAGES = st.lists(
    st.one_of(
        st.builds(Place, st.lists(ENDPOINTS, max_size=MAX_OWN_ADDRESSES).map(tuple)),
        st.builds(Nodes, st.lists(st.tuples(HASH, WHEREABOUTS), max_size=5).map(tuple)),
        st.builds(Relay, st.none() | st.builds(RelayOffer, st.integers(1, 65535), HASH)),
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
    parser = Parser(ALL)
    heard = []
    for piece in pieces(PREFACE + b"".join(map(encode, messages)), cuts):
        missing = not any(isinstance(message, Packed) for message in heard)
        heard += parser.feed(piece, netmap_expected=missing)
    assert heard == messages


@given(st.lists(st.binary(max_size=200), max_size=10), st.booleans(), st.booleans())
def test_garbage_is_messages_or_one_error(chunks, begun, netmap_expected):
    parser = Parser(ALL)
    try:
        for chunk in [PREFACE, *chunks] if begun else chunks:
            list(parser.feed(chunk, netmap_expected))
    except BeaconProtocolError as error:
        assert str(error)


EMPTY = {3: [Packed(b"")], 6: [Place(())], 7: [Nodes(())]}


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.booleans())
@example(6, 0, False)
@example(6, 17 * 18, False)
@example(7, MAX_NODES_BYTES, False)
@example(7, MAX_NODES_BYTES + 1, False)
@example(7, 2**32 - 1, False)
@example(3, 2**32 - 1, True)
@example(3, MAX_PACKED_BYTES + 1, True)
@example(9, 2**32 - 1, False)
@example(9, 64 * 1024, False)
def test_what_is_too_long_is_refused_by_its_header_and_nothing_else_is_awaited(kind, length, netmap_expected):
    sizes = {1: 40, 2: 32, 4: 8, 5: 8, 8: 34}
    limits = {3: MAX_PACKED_BYTES if netmap_expected else -1, 6: 16 * 18}
    good = length == sizes[kind] if kind in sizes else length <= limits.get(kind, 64 * 1024)
    parser = Parser(ALL)
    try:
        heard = list(parser.feed(PREFACE + struct.pack("!BI", kind, length), netmap_expected))
        unknown = [] if 1 <= kind <= 8 else [Unknown(kind)]
        assert heard == (EMPTY.get(kind, unknown) if length == 0 and good else unknown)
    except BeaconProtocolError:
        assert not good
    else:
        assert good


def test_types_of_a_newer_end_are_skipped():
    stream = PREFACE + struct.pack("!BI", 200, 1000) + bytes(1000) + encode(Ping(b"12345678"))
    parser = Parser(ALL)
    heard = [message for piece in pieces(stream, range(0, 1000, 7)) for message in parser.feed(piece)]
    assert heard == [Unknown(200), Ping(b"12345678")]


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
        list(Parser(ALL).feed(data))


# --- whereabouts


@given(st.integers(6, 8), st.binary(max_size=400))
def test_garbage_in_them_is_a_message_or_one_error_and_what_is_heard_can_be_said(kind, content):
    try:
        heard = list(Parser(ALL).feed(PREFACE + struct.pack("!BI", kind, len(content)) + content))
    except BeaconProtocolError as error:
        assert str(error)
        return
    assert heard == list(Parser(ALL).feed(PREFACE + b"".join(map(encode, heard))))


@pytest.mark.parametrize(
    "content",
    [
        bytes(17),
        # 21 candidates, and as many as the message has bytes for none of.
        bytes(33) + b"\x15" + 21 * 19 * b"\x01",
        bytes(33) + b"\x02" + 19 * b"\x01",
        bytes(33),
    ],
)
def test_entries_that_are_cut_or_too_long_are_refused(content):
    with pytest.raises(BeaconProtocolError):
        list(Parser(ALL).feed(PREFACE + struct.pack("!BI", 7, len(content)) + content))


def test_each_end_takes_what_it_is_to_be_told_and_nothing_else():
    place, nodes, relay = map(encode, (Place(()), Nodes(()), Relay(None)))
    assert list(Parser(FROM_NODES).feed(PREFACE + place)) == [Place(())]
    assert list(Parser(FROM_BEACONS).feed(PREFACE + nodes + relay)) == [Nodes(()), Relay(None)]
    for takes, said in ((FROM_NODES, nodes), (FROM_NODES, relay), (FROM_BEACONS, place)):
        with pytest.raises(BeaconProtocolError, match="not for this end"):
            # By its header alone.
            list(Parser(takes).feed(PREFACE + said[:5]))


UNREACHABLE = [
    "0.0.0.0",  # noqa: S104 (nobody binds to it)
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
    "64:ff9b::192.0.2.1",
    "4000::1",
    "fec0::1",
]


@pytest.mark.parametrize(
    "endpoint",
    [*((address, 51820) for address in UNREACHABLE), ("192.0.2.1", 0), ("2001:db8::1", 0), ("fe80::1%eth0", 51820),
     ("host.example", 51820)],
)  # fmt: skip
def test_an_endpoint_at_which_nobody_else_reaches_it_is_neither_said_nor_heard(endpoint):
    good = ("2001:db8::7", 1)
    assert not is_reachable(endpoint) and is_reachable(good)
    assert list(Parser(ALL).feed(PREFACE + encode(Place((endpoint, good))))) == [Place((good,))]


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str), st.integers(0, 65535))
def test_what_is_passed_on_is_an_endpoint_to_all_who_write_it_down(address, port):
    if is_reachable((address, port)):
        assert split_endpoint(join_endpoint(address, port))[1] == port


@pytest.mark.parametrize("address", UNREACHABLE)
def test_an_unreachable_endpoint_of_another_end_is_skipped(address):
    packed = ipaddress.ip_address(address)
    packed = packed.packed if packed.version == 6 else bytes(10) + b"\xff\xff" + packed.packed
    good = ipaddress.ip_address("2001:db8::7").packed + b"\x00\x01"
    candidates = b"\x01" + packed + b"\x00\x01" + b"\x09" + good + b"\x03" + good
    heard = Parser(ALL).feed(PREFACE + struct.pack("!BI", 7, 34 + 57) + bytes(32) + b"\xff\x03" + candidates)
    assert list(heard) == [Nodes(((bytes(32), Whereabouts(True, (Candidate(3, ("2001:db8::7", 1)),))),))]


def test_no_more_is_said_than_the_other_end_takes():
    many = tuple(("192.0.2.1", port) for port in range(1, 100))
    assert list(Parser(ALL).feed(PREFACE + encode(Place(many)))) == [Place(many[:MAX_OWN_ADDRESSES])]
    entry = encode_entry(bytes(32), Whereabouts(False, tuple(Candidate(1, endpoint) for endpoint in many)))
    assert len(entry) == 34 + MAX_CANDIDATES * 19


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
