"""Both batch cores do byte for byte the same, whatever they get."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.native import ROOT, library, native
from tests.unit.datapath.packets import ACK, CWR, FIN, PSH, VNET, offloaded, tcp, udp
from tests.unit.datapath.wires import flat, sealed, wire, written

from sennit.datapath.core import PYTHON, DatapathCore, choose
from sennit.datapath.udp import pieces
from sennit.datapath.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, PLAIN
from sennit.wireguard.constants import REJECT_AFTER_MESSAGES, REPLAY_WINDOW
from sennit.wireguard.inbound import Inbound
from sennit.wireguard.keypair import Keypair
from sennit.wireguard.outbound import Outbound

PEER = b"p" * 32
KEYPAIR = Keypair(bytes(32), bytes(range(32)), 7, 9, 100.0, initiator=True)
versions = st.sampled_from([4, 6])


def mutated(chance: random.Random, data: bytes) -> bytes:
    """With a few bytes changed, mostly in the headers, or cut."""
    changed = bytearray(data)
    for _ in range(chance.choice([0, 0, 1, 2])):
        changed[chance.randrange(min(len(changed), chance.choice([10, 30, 70, 70, 10**6])))] = chance.choice(
            [0, 1, 4, 5, 0x45, 0x60, 0x80, 0xFF, chance.randrange(256)]
        )
    if chance.random() < 0.1:
        del changed[chance.randrange(1, len(changed)) :]
    return bytes(changed)


def any_frame(chance: random.Random) -> bytes:
    version = chance.choice([4, 6])
    payload = chance.randbytes(chance.choice([1, 2, 20, 500, 1400, 3000, 9001]))
    stream = chance.choice([0, 0, 0, 1])
    size = chance.choice([1, 7, 100, 1000, 1368, 1400]) if len(payload) < 4000 else 1368
    kind = chance.randrange(5)
    if kind == 0:
        packet = tcp(
            version, payload, chance.randrange(2**32), chance.choice([ACK, ACK | PSH | FIN | CWR]), stream=stream
        )
        gso = (GSO_TCPV4 if version == 4 else GSO_TCPV6) | chance.choice([0, GSO_ECN])
        return mutated(chance, offloaded(packet, gso, size, 16))
    if kind == 1:
        return mutated(chance, offloaded(udp(version, payload, stream), GSO_UDP_L4, size, 6))
    if kind == 2:
        return mutated(chance, offloaded(tcp(version, payload, stream=stream), 0, 0, 16))
    if kind == 3:
        numbers = [chance.choice([0, 1, 20, 40, 65535, chance.randrange(65536)]) for _ in range(4)]
        vnet = VNET.pack(chance.randrange(2), chance.choice([0, 1, 3, 4, 5, 0x81, 255]), *numbers)
        return vnet + mutated(chance, tcp(version, payload))
    return PLAIN + mutated(chance, udp(version, payload, stream))


@given(st.integers(0, 2**64), st.integers(1, 12), st.sampled_from([0, 20, 576, 1420, 65535]))
@settings(max_examples=300, deadline=None)
def test_sealed_frames(seed: int, count: int, mtu: int) -> None:
    chance = random.Random(seed)
    frames = [any_frame(chance) for _ in range(count)]
    (native_runs, native_malformed), (runs, malformed) = sealed(native(), frames, mtu), sealed(PYTHON, frames, mtu)
    assert list(chain(*native_runs)) == list(chain(*runs))
    assert native_malformed == malformed


def any_packets(chance: random.Random, count: int) -> list[bytes]:
    """Streams in pieces, datagrams, and what looks like them; each of a length that its IP header says."""
    packets: list[bytes] = []
    position = [0] * 4
    while len(packets) < count:
        stream = chance.choice([0, 0, 0, 1])
        version = chance.choice([4, 4, 6])
        payload = chance.randbytes(chance.choice([100, 100, 100, 100, 99, 0, 1]))
        if chance.random() < 0.5:
            at = position[2 * stream + (version == 6)]
            position[2 * stream + (version == 6)] += len(payload)
            options = chance.choice([b"", b"", b"", bytes(12)])
            flags = chance.choice([ACK, ACK, ACK, ACK | PSH, ACK | FIN, 0])
            packet = tcp(version, payload, at, flags, stream=stream, options=options)
        else:
            packet = udp(version, payload, stream)
        if chance.random() < 0.1:
            changed = bytearray(packet)
            # Not the version, nor the length.
            at = chance.choice([n for n in range(1, min(len(packet), 70)) if n not in (2, 3, 4, 5)])
            changed[at] = chance.choice([0, 1, 6, 17, 0x20, 58, chance.randrange(256)])
            packet = bytes(changed)
        packets.append(packet)
    return packets


@given(st.integers(0, 2**64), st.integers(1, 60), st.booleans())
@settings(max_examples=300, deadline=None)
def test_written_packets(seed: int, count: int, takes_udp: bool) -> None:
    packets = any_packets(random.Random(seed), count)
    assert written(native(), packets, takes_udp=takes_udp) == written(PYTHON, packets, takes_udp=takes_udp)


def any_datagrams(chance: random.Random, keypairs: list[Keypair], count: int) -> list[bytes]:
    counter = chance.choice([0, 100, 10_000, REJECT_AFTER_MESSAGES - 5])
    datagrams = []
    for _ in range(count):
        keypair = chance.choice(keypairs)
        move = chance.choice([1, 1, 1, 0, 2, 64, -1, -64, REPLAY_WINDOW, -REPLAY_WINDOW - 1, 9000])
        counter = min(max(counter + move, 0), 2**64 - 2)
        content = chance.choice([b"", mutated(chance, udp(4, b"x" * chance.choice([0, 5, 90]), chance.choice([0, 1])))])
        sealer = PYTHON.sealer(keypair.receive_key, keypair.local_index, chance.choice([0, 1420]))
        sealer.counter = counter
        (datagram,) = sealer.seal([content])[0]
        datagrams.append(mutated(chance, bytes(datagram)) if chance.random() < 0.2 else bytes(datagram))
    return datagrams


@given(st.integers(0, 2**64), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_opened_datagrams(seed: int, count: int) -> None:
    """The same packets, counts and drops, in batches as they come from a socket, joined where they are of one size."""
    chance = random.Random(seed)
    other = replace(KEYPAIR, receive_key=bytes(32), local_index=8)
    datagrams = any_datagrams(chance, [KEYPAIR, KEYPAIR, KEYPAIR, other], count)
    outcomes = []
    for core in (PYTHON, native()):
        inbound = Inbound(core)
        inbound.set_peer(PEER, ("10.0.0.0/24",))
        inbound.install_keypair(PEER, KEYPAIR)
        inbound.install_keypair(PEER, other)
        arrivals = core.arrivals()
        for buffers, size, _count in pieces(datagrams):
            joined = b"".join(buffers)
            arrivals.space()[: len(joined)] = joined
            inbound.take(arrivals.received(len(joined), size), ("192.0.2.1", 1), 101.0, arrivals)
        with wire() as (end, tun):
            assert core.write(tun, arrivals) == 0
            events = sorted(map(repr, inbound.take_events()))
            outcomes.append((arrivals.packets(), end.take(), events, inbound.take_commands(), inbound.urgent))
    assert outcomes[0] == outcomes[1]


@given(
    st.binary(max_size=3000).map(lambda tail: b"\4\0\0\0\7\0\0\0" + tail) | st.binary(max_size=3000),
    st.integers(-1, 3010) | st.sampled_from([16, 32, 65535, 2**31 - 1]),
)
@settings(deadline=None)
def test_any_buffer_of_joined_datagrams(buffer: bytes, size: int) -> None:
    """Whatever the size that the kernel names, every byte is in one datagram, and every datagram is accounted for."""
    outcomes = []
    for core in (PYTHON, native()):
        inbound = Inbound(core)
        inbound.set_peer(PEER, ("10.0.0.0/24",))
        inbound.install_keypair(PEER, KEYPAIR)
        arrivals = core.arrivals()
        arrivals.space()[: len(buffer)] = buffer
        datagrams = arrivals.received(len(buffer), size)
        assert b"".join(map(bytes, datagrams)) == buffer
        assert all(len(datagram) == size for datagram in datagrams[:-1])
        inbound.take(datagrams, ("192.0.2.1", 1), 101.0, arrivals)
        assert arrivals.packets() == []
        outcomes.append(sorted(map(repr, inbound.take_events())))
    assert outcomes[0] == outcomes[1]


@given(st.lists(st.sampled_from([0, 4, 30, 100, 100, 100, 1400, 1400, 1400]), min_size=1, max_size=120))
def test_pieces(lengths: list[int]) -> None:
    packets = [bytes(length) for length in lengths]
    datagrams = {core.name: core.sealer(bytes(32), 9, 1420).seal(packets)[0] for core in (PYTHON, native())}
    assert flat(datagrams["native"]) == flat(datagrams["python"])
    assert flat(datagrams["native"]) == list(pieces(list(map(bytes, datagrams["python"]))))


def test_other_allowed_ips_count_at_once(core: DatapathCore) -> None:
    """Whatever a core remembers of sources."""
    inbound = Inbound(core)
    inbound.set_peer(PEER, ("10.0.0.1/32",))
    inbound.install_keypair(PEER, KEYPAIR)
    datagrams = core.sealer(KEYPAIR.receive_key, 7, 1420).seal([udp(4, b"x")] * 3)[0]
    received = [inbound.receive([datagrams[0]], ("192.0.2.1", 1), 101.0)]
    inbound.set_peer(PEER, ("10.0.0.2/32",))
    received.append(inbound.receive([datagrams[1]], ("192.0.2.1", 1), 101.0))
    inbound.set_peer(PEER, ("10.0.0.0/8",))
    received.append(inbound.receive([datagrams[2]], ("192.0.2.1", 1), 101.0))
    assert received == [[udp(4, b"x")], [], [udp(4, b"x")]]


def test_packets_that_have_to_wait_are_kept(core: DatapathCore) -> None:
    """They are cut when they are staged: the memory that they were read into is used again."""
    outbound = Outbound(1420, core)
    outbound.set_peer(PEER, ("10.0.0.0/8",))
    outbound.set_endpoint(PEER, ("192.0.2.1", 1))
    payload = bytes(range(256)) * 12
    with wire() as (end, tun):
        for frame in (offloaded(tcp(4, payload), GSO_TCPV4, 1000, 16), PLAIN + udp(4, b"later")):
            end.kernel.send(frame)
            for packets in core.read(tun, 64).runs:
                assert outbound.send(packets, 101.0) == []
    ((_endpoint, datagrams),) = outbound.use_keypair(PEER, replace(KEYPAIR, initiator=False), 101.0)
    inbound = Inbound()
    inbound.set_peer(PEER, ("10.0.0.0/8",))
    inbound.install_keypair(PEER, replace(KEYPAIR, local_index=9, receive_key=KEYPAIR.send_key))
    packets = inbound.receive(datagrams, ("192.0.2.1", 1), 101.0)
    assert b"".join(packet[40:] for packet in packets[:4]) == payload
    assert packets[4:] == [udp(4, b"later")]


def test_what_was_sealed_of_copies_may_be_kept(core: DatapathCore) -> None:
    sealer = core.sealer(bytes(32), 9, 1420)
    first = sealer.seal([b"one"])[0]
    before = bytes(first[0])
    sealer.seal([b"two"])
    assert bytes(first[0]) == before


def test_writes_that_the_kernel_refuses_are_counted_by_packet(core: DatapathCore) -> None:
    arrivals = core.arrivals()
    datagrams = core.sealer(bytes(32), 7, 0).seal([udp(4, bytes(100))] * 3 + [tcp(4, b"x")])[0]
    opener = core.opener(bytes(32), 7)
    for at in range(4):
        opener.open(datagrams, at, arrivals, lambda source: True, 1)
    with wire() as (end, tun):
        end.kernel.close()
        assert core.write(tun, arrivals) in (4, 10)


def test_a_device_that_is_gone(core: DatapathCore) -> None:
    with wire() as (_end, tun):
        pass
    with pytest.raises(OSError):
        core.read(tun, 64)


def test_a_libcrypto_without_providers(tmp_path: Path) -> None:
    """As OpenSSL 1.1, which has EVP alone. In a process of its own, as the library is of one mind for all cores."""
    script = tmp_path / "seal.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'plugins' / 'module_utils')]!r}\n"
        "from sennit.datapath import native\n"
        "native._SINCE_3 = ('not_in_libcrypto',)\n"
        f"core = native.load({str(library())!r})\n"
        "datagrams = core.sealer(bytes(32), 7, 1420).seal([bytes(1000), b'', b'x'])[0]\n"
        "arrivals = core.arrivals()\n"
        "opened = core.opener(bytes(32), 7).open([*datagrams][:1], 0, arrivals, lambda source: True, 1)\n"
        "forgery = [bytes(datagrams[0])[:-1] + b'?']\n"
        "forged = core.opener(bytes(32), 7).open(forgery, 0, arrivals, lambda source: True, 1)\n"
        "print(b''.join(map(bytes, datagrams)).hex(), opened.malformed, forged.unauthentic)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    expected = PYTHON.sealer(bytes(32), 7, 1420).seal([bytes(1000), b"", b"x"])[0]
    assert done.stdout.split() == [b"".join(map(bytes, expected)).hex(), "1", "1"]


def test_without_a_library_python_does_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = tmp_path / "batch.so"
    broken.write_bytes(b"no library")
    for path in (str(broken), str(tmp_path / "nowhere")):
        assert choose(path) is PYTHON
        assert path in caplog.text
    caplog.clear()
    assert choose("none") is PYTHON
    assert choose("") is PYTHON
    assert not caplog.text
