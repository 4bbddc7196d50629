"""Cutting super-packets: what comes out is right by an independent checksum, and says what went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.datapath.packets import (
    ACK,
    CWR,
    FIN,
    PSH,
    VNET,
    is_intact,
    offloaded,
    reader,
    tcp,
    udp,
)
from tests.unit.datapath.wires import cut, written

from sennit.datapath.core import DatapathCore
from sennit.datapath.segment import segment
from sennit.datapath.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, PLAIN
from sennit.wireguard.errors import DropReason, PacketError

VERSIONS = [4, 6]
TIMESTAMPS = b"\x01\x01\x08\x0a12345678"


def super_packet(version: int, payload: bytes, size: int, gso_flags: int = 0, **fields: int | bytes) -> bytes:
    gso_type = (GSO_TCPV4 if version == 4 else GSO_TCPV6) | gso_flags
    return offloaded(tcp(version, payload, **fields), gso_type, size, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
@given(
    payload=st.binary(min_size=2, max_size=4000),
    size=st.integers(1, 1400),
    sequence=st.integers(0, 2**32 - 1),
    identification=st.integers(0, 65535),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN]),
    options=st.sampled_from([b"", TIMESTAMPS, bytes([1]) * 40]),
)
def test_tcp_segments(  # noqa: PLR0917
    core: DatapathCore,
    version: int,
    payload: bytes,
    size: int,
    sequence: int,
    identification: int,
    flags: int,
    options: bytes,
) -> None:
    frame = super_packet(
        version, payload, size, sequence=sequence, flags=flags, options=options, identification=identification
    )
    segments = cut(core, frame)
    assert segments is not None
    assert all(map(is_intact, segments))
    read = [reader(packet) for packet in segments]
    assert b"".join(part for _, _, part in read) == payload
    assert all(len(part) == size for _, _, part in read[:-1])
    assert [at for at, _, _ in read] == [(sequence + size * n) % 2**32 for n in range(len(read))]
    assert [own for _, own, _ in read] == [flags & ~(PSH | FIN)] * (len(read) - 1) + [flags]
    if version == 4:
        identifications = [int.from_bytes(packet[4:6], "big") for packet in segments]
        assert identifications == [(identification + n) % 65536 for n in range(len(segments))]


@pytest.mark.parametrize("version", VERSIONS)
@given(
    payload=st.binary(min_size=2, max_size=60_000),
    size=st.integers(100, 1400),
    sequence=st.integers(0, 2**32 - 1),
    push=st.booleans(),
    options=st.sampled_from([b"", TIMESTAMPS]),
)
def test_coalescing_undoes_segmentation(  # noqa: PLR0917
    core: DatapathCore, version: int, payload: bytes, size: int, sequence: int, push: bool, options: bytes
) -> None:
    flags = ACK | (PSH if push else 0)
    frame = super_packet(version, payload, size, sequence=sequence, flags=flags, options=options)
    (joined,) = written(core, segment(frame))
    if len(payload) <= size:
        assert joined == PLAIN + tcp(version, payload, sequence, flags, options=options)
    else:
        header_length = len(frame) - len(payload) - VNET.size
        assert VNET.unpack_from(joined)[:3] == (1, VNET.unpack_from(frame)[1], header_length)
        assert joined[4:] == frame[4:]


@pytest.mark.parametrize("version", VERSIONS)
def test_cwr_is_for_the_first_segment(core: DatapathCore, version: int) -> None:
    frame = super_packet(version, bytes(3000), 1000, GSO_ECN, flags=ACK | CWR | PSH)
    assert [reader(packet)[1] for packet in cut(core, frame) or []] == [ACK | CWR, ACK, ACK | PSH]


@pytest.mark.parametrize("version", VERSIONS)
@given(payload=st.binary(min_size=1, max_size=5000), size=st.integers(80, 1400))
def test_udp_datagrams(core: DatapathCore, version: int, payload: bytes, size: int) -> None:
    frame = offloaded(udp(version, payload), GSO_UDP_L4, size, 6)
    datagrams = cut(core, frame)
    assert datagrams is not None
    assert all(map(is_intact, datagrams))
    header = 28 if version == 4 else 48
    assert [packet[header:] for packet in datagrams] == [payload[at : at + size] for at in range(0, len(payload), size)]
    # And joined again. A single one is no super-packet, and the identification is that of the first.
    (joined,) = written(core, datagrams)
    if len(datagrams) == 1:
        assert joined == PLAIN + datagrams[0]
    elif len(datagrams) <= 64:
        assert joined[4:] == frame[4:]


@pytest.mark.parametrize("version", VERSIONS)
@given(payload=st.binary(max_size=1500))
def test_a_checksum_is_completed(core: DatapathCore, version: int, payload: bytes) -> None:
    for packet, offset in ((tcp(version, payload), 16), (udp(version, payload), 6)):
        (completed,) = cut(core, offloaded(packet, 0, 0, offset)) or []
        assert is_intact(completed)
        assert len(completed) == len(packet)


def test_checksums_that_come_out_as_0(core: DatapathCore) -> None:
    """TCP and IP have it so, as they have it from the kernel. UDP has 65535 instead: 0 says that there is none."""
    last = tcp(4, bytes(2), 1002)[36:38]
    identification = int.from_bytes(tcp(4, bytes(2), identification=0)[10:12], "big") - 1
    segments = [
        tcp(4, payload, sequence, identification=identification + number)
        for number, (payload, sequence) in enumerate([(b"ab", 1000), (last, 1002)])
    ]
    assert (segments[1][10:12], segments[1][36:38]) == (bytes(2), bytes(2))
    frame = super_packet(4, b"ab" + last, 2, sequence=1000, identification=identification)
    assert cut(core, frame) == segments
    assert [segment(joined) for joined in written(core, segments)] == [segments]

    last = udp(4, bytes(2))[26:28]
    datagrams = [udp(4, b"ab"), udp(4, last, identification=8)]
    assert datagrams[1][26:28] == b"\xff\xff"
    assert cut(core, offloaded(udp(4, b"ab" + last), GSO_UDP_L4, 2, 6)) == datagrams
    assert cut(core, offloaded(datagrams[1], 0, 0, 6)) == datagrams[1:]


def test_a_complete_packet_passes_as_it_is(core: DatapathCore) -> None:
    packet = udp(4, b"hello")
    assert cut(core, PLAIN + packet) == [packet]


@given(
    flags=st.integers(0, 255),
    gso_type=st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 5, 0x81])),
    numbers=st.tuples(*[st.one_of(st.integers(0, 100), st.integers(0, 65535))] * 4),
    packet=st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(lambda data: b"\x45" + data), st.just(tcp(6, bytes(3000)))
    ),
)
def test_nothing_else_is_raised(flags: int, gso_type: int, numbers: tuple[int, ...], packet: bytes) -> None:
    try:
        packets = segment(VNET.pack(flags, gso_type, *numbers) + packet)
    except PacketError as error:
        assert error.reason is DropReason.MALFORMED_OUTGOING_PACKET
    else:
        assert packets


@pytest.mark.parametrize("length", range(1, VNET.size + 20))
def test_a_frame_too_short_for_an_ip_header(core: DatapathCore, length: int) -> None:
    assert cut(core, bytes(length)) is None


@pytest.mark.parametrize("cut_off", range(1, 70))
def test_a_super_packet_cut_short(core: DatapathCore, cut_off: int) -> None:
    frame = super_packet(4, b"x", 100)
    if cut_off < len(frame):
        assert cut(core, frame[:-cut_off]) is None
