"""Joining segments: what may be joined is, in order, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.datapath.packets import ACK, CWR, FIN, PSH, SYN, VNET, is_intact, tcp, udp
from tests.unit.datapath.wires import written

from sennit.datapath.coalesce import coalesce
from sennit.datapath.core import DatapathCore
from sennit.datapath.segment import segment
from sennit.datapath.vnet import PLAIN

SIZE = 100


def segments(version: int, count: int, stream: int = 0, first: int = 1000, **fields: int | bytes) -> list[bytes]:
    return [
        tcp(version, bytes([n]) * SIZE, first + n * SIZE, stream=stream, identification=n, **fields)  # type: ignore[arg-type]
        for n in range(count)
    ]


def unjoined(core: DatapathCore, packets: list[bytes]) -> bool:
    return written(core, packets) == [PLAIN + packet for packet in packets]


def with_byte(packet: bytes, position: int, value: int) -> bytes:
    return packet[:position] + bytes([value]) + packet[position + 1 :]


both = pytest.mark.parametrize("version", [4, 6])


@both
def test_segments_of_a_stream_are_joined(core: DatapathCore, version: int) -> None:
    packets = segments(version, 5)
    (frame,) = written(core, packets)
    assert segment(frame) == packets
    assert all(map(is_intact, segment(frame)))


@both
def test_a_shorter_one_ends_the_run(core: DatapathCore, version: int) -> None:
    packets = segments(version, 3)
    packets.append(tcp(version, b"short", 1000 + 3 * SIZE))
    packets.append(tcp(version, b"later", 1000 + 3 * SIZE + 5))
    assert len(written(core, packets)) == 2
    assert written(core, packets)[1] == PLAIN + packets[-1]


@both
def test_push_ends_the_run_and_is_kept(core: DatapathCore, version: int) -> None:
    packets = segments(version, 2)
    packets.append(tcp(version, bytes(SIZE), 1000 + 2 * SIZE, ACK | PSH))
    packets += segments(version, 2, first=1000 + 3 * SIZE)
    first, second = written(core, packets)
    flags = VNET.size + (20 if version == 4 else 40) + 13
    assert (first[flags], second[flags]) == (ACK | PSH, ACK)


@both
@pytest.mark.parametrize(
    "fields",
    [
        {"flags": ACK | FIN},
        {"flags": ACK | SYN},
        {"flags": ACK | CWR},
        {"flags": ACK | 0x40},
        {"flags": ACK | 0x20},
        {"flags": 0},
        {"acknowledgement": 6},
        {"window": 501},
        {"tos": 3},
        {"ttl": 63},
        {"options": bytes([1]) * 4},
        {"sequence": 1000 + SIZE + 1},
        {"sequence": 1000 + SIZE - 1},
        {"sequence": 1000},
        {"payload": bytes(SIZE + 1)},
        {"payload": b""},
        {"stream": 1},
    ],
)
def test_what_differs_is_not_joined(core: DatapathCore, version: int, fields: dict[str, int | bytes]) -> None:
    second = {"payload": bytes(SIZE), "sequence": 1000 + SIZE, **fields}
    assert unjoined(core, [*segments(version, 1), tcp(version, **second)])  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("position", [-1, -SIZE])
def test_a_wrong_checksum_is_never_made_right(core: DatapathCore, version: int, which: int, position: int) -> None:
    packets = segments(version, 2)
    packets[which] = with_byte(packets[which], position % len(packets[which]), 0xEE)
    assert unjoined(core, packets)


@both
@pytest.mark.parametrize("which", [0, 1, 4, 8])
def test_one_wrong_checksum_takes_no_other_packet_along(core: DatapathCore, version: int, which: int) -> None:
    packets = segments(version, 9)
    packets[which] = with_byte(packets[which], -1 % len(packets[which]), 0xEE)
    frames = written(core, packets)
    assert PLAIN + packets[which] in frames
    joined = [segment(frame) for frame in frames if frame != PLAIN + packets[which]]
    assert [packet for group in joined for packet in group] == packets[:which] + packets[which + 1 :]
    assert len(joined) == (1 if which in (0, 8) else 2)


def test_a_wrong_ip_checksum_is_never_made_right(core: DatapathCore) -> None:
    packets = segments(4, 2)
    packets[1] = with_byte(packets[1], 10, packets[1][10] ^ 1)
    assert unjoined(core, packets)


def test_fragments_and_ip_options_are_left_alone(core: DatapathCore) -> None:
    for position, value in ((6, 0x60), (7, 1), (6, 0x20), (0, 0x46)):
        packets = [with_byte(packet, position, value) for packet in segments(4, 2)]
        assert unjoined(core, packets)


def test_ipv6_extension_headers_are_left_alone(core: DatapathCore) -> None:
    packets = [with_byte(packet, 6, 0) for packet in segments(6, 2)]
    assert unjoined(core, packets)


def test_what_may_belong_to_the_stream_keeps_its_place(core: DatapathCore) -> None:
    one, two, three = segments(4, 3)
    fragment = with_byte(two, 6, 0x20)
    assert unjoined(core, [one, fragment, two, three][:3])
    frames = written(core, [one, fragment, two, three])
    assert frames[:2] == [PLAIN + one, PLAIN + fragment]
    assert len(frames) == 3


def test_other_protocols_do_not_break_a_stream_up(core: DatapathCore) -> None:
    one, two = segments(4, 2)
    datagram = udp(4, b"between")
    frames = written(core, [one, datagram, two])
    assert len(frames) == 2
    assert frames[1] == PLAIN + datagram


@both
def test_interleaved_streams(core: DatapathCore, version: int) -> None:
    streams = [segments(version, 4, stream=number) for number in range(3)]
    mixed = [packet for row in zip(*streams, strict=True) for packet in row]
    assert [segment(frame)[0] for frame in written(core, mixed)] == [stream[0] for stream in streams]


@both
def test_no_super_packet_is_longer_than_ip_allows(core: DatapathCore, version: int) -> None:
    packets = [tcp(version, bytes(1400), 1400 * n) for n in range(60)]
    frames = written(core, packets)
    assert len(frames) == 2
    assert all(len(frame) - VNET.size <= 65535 for frame in frames)
    assert sum(len(segment(frame)) for frame in frames) == 60


def test_sequence_numbers_wrap(core: DatapathCore) -> None:
    packets = segments(4, 4, first=2**32 - 150)
    assert len(written(core, packets)) == 1


def test_small_segments_do_not_exceed_what_one_write_takes(core: DatapathCore) -> None:
    packets = [tcp(4, b"x", n) for n in range(2000)]
    frames = written(core, packets)
    assert sum(len(segment(frame)) for frame in frames) == 2000
    assert len(frames) == 4


@example(134217729, 35)  # a checksum of 0
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_every_byte_of_every_stream_in_order(core: DatapathCore, seed: int, count: int) -> None:
    """Any mixture of streams, flags and interruptions: cut again, each stream is what it was."""
    chance = random.Random(seed)
    packets, position = [], {0: 0, 1: 0}
    for _ in range(count):
        stream = chance.choice([0, 0, 1])
        kind = chance.random()
        if kind < 0.1:
            packets.append(udp(4, b"datagram", stream))
        elif kind < 0.2:
            packets.append(tcp(4, b"", position[stream], stream=stream))
        else:
            payload = chance.randbytes(chance.choice([SIZE, SIZE, SIZE, 30]))
            flags = ACK | chance.choice([0, 0, 0, PSH])
            packets.append(tcp(4, payload, position[stream], flags, stream=stream))
            position[stream] += len(payload)
    out = [packet for frame in written(core, packets) for packet in segment(frame)]

    def stream_of(packet: bytes) -> tuple[int, int]:
        return packet[9], packet[14]

    def without_identification(packet: bytes) -> bytes:
        return packet[:4] + packet[6:10] + packet[12:]

    for key in {stream_of(packet) for packet in packets}:
        before = [without_identification(packet) for packet in packets if stream_of(packet) == key]
        after = [without_identification(packet) for packet in out if stream_of(packet) == key]
        assert after == before


@given(st.lists(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda data: b"\x45" + data)), max_size=5))
def test_garbage_passes(packets: list[bytes]) -> None:
    assert coalesce(packets) == [[PLAIN, packet] for packet in packets]


@both
def test_datagrams_of_a_flow_are_joined(core: DatapathCore, version: int) -> None:
    packets = [udp(version, bytes([n]) * SIZE, identification=n) for n in range(5)]
    packets.append(udp(version, b"short", identification=5))
    (frame,) = written(core, packets)
    assert segment(frame) == [*packets[:5], packets[5]]
    assert all(map(is_intact, segment(frame)))


@both
def test_what_is_longer_or_follows_a_shorter_one_is_not_joined(core: DatapathCore, version: int) -> None:
    assert unjoined(core, [udp(version, b"x" * size) for size in (10, 11)])
    frames = written(core, [udp(version, b"x" * size) for size in (10, 9, 10)])
    assert [len(segment(frame)) for frame in frames] == [2, 1]


@both
def test_no_super_packet_has_more_datagrams_than_the_kernel_joins(core: DatapathCore, version: int) -> None:
    frames = written(core, [udp(version, bytes(64), identification=n) for n in range(130)])
    assert [len(segment(frame)) for frame in frames] == [64, 64, 2]


@both
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("value", [b"\0\0", b"\x12\x34"])
def test_a_datagram_with_a_wrong_checksum_or_none_gets_none(
    core: DatapathCore, version: int, which: int, value: bytes
) -> None:
    packets = [udp(version, b"payload"), udp(version, b"payload")]
    field = (20 if version == 4 else 40) + 6
    packets[which] = packets[which][:field] + value + packets[which][field + 2 :]
    assert unjoined(core, packets)


@both
def test_a_datagram_shorter_than_its_packet_is_left_alone(core: DatapathCore, version: int) -> None:
    field = (20 if version == 4 else 40) + 5
    packets = [udp(version, b"payload")] * 2
    for packet in (packets[0], with_byte(packets[0], field, packets[0][field] - 1)):
        assert unjoined(core, [packet, with_byte(packet, field, 9)])


@both
def test_a_device_that_takes_no_joined_datagrams(core: DatapathCore, version: int) -> None:
    packets = [udp(version, b"payload")] * 3
    assert written(core, packets, takes_udp=False) == [PLAIN + packet for packet in packets]
    assert len(written(core, segments(version, 3), takes_udp=False)) == 1


def test_datagrams_and_segments_of_the_same_ports_are_not_mixed(core: DatapathCore) -> None:
    one, two = segments(4, 2)
    frames = written(core, [one, udp(4, bytes(SIZE)), two, udp(4, bytes(SIZE))])
    assert [len(segment(frame)) for frame in frames] == [2, 2]
