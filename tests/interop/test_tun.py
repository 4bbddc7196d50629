"""The TUN device against this kernel, within a network namespace."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator

import pytest
from tests.interop.agents import run
from tests.unit.datapath.packets import is_intact, tcp, udp

from sennit.datapath import tun as tun_module
from sennit.datapath.base import DatapathError
from sennit.datapath.segment import segment
from sennit.datapath.tun import Tun
from sennit.datapath.vnet import PLAIN

MTU = 1420


@pytest.fixture
def tun(namespace: str) -> Iterator[Tun]:
    tun = Tun("test0", MTU)
    bring_up(namespace)
    yield tun
    tun.close()


def bring_up(namespace: str) -> None:
    run("ip", "-n", namespace, "link", "set", "test0", "up", "addrgenmode", "none")
    run("ip", "-n", namespace, "addr", "add", "10.0.0.2/24", "dev", "test0")


def frames(tun: Tun, protocol: int) -> Iterator[bytes]:
    """What the kernel sends of this protocol over IPv4, as it comes."""
    while select.select([tun.fd], [], [], 10)[0]:
        frame = tun.read()
        if frame is not None and frame[10] >> 4 == 4 and frame[19] == protocol:
            yield frame
    raise AssertionError("nothing has come")


def test_the_device_has_its_mtu_and_goes_with_its_descriptor(namespace: str) -> None:
    tun = Tun("test0", 1234)
    (link,) = json.loads(run("ip", "-n", namespace, "-j", "link", "show", "test0"))
    assert link["mtu"] == 1234
    assert tun.read() is None
    tun.close()
    assert "test0" not in run("ip", "-n", namespace, "link")


def test_a_device_that_is_taken(tun: Tun) -> None:
    with pytest.raises(DatapathError, match="TUN device test0: Device or resource busy"):
        Tun("test0", MTU)


def test_a_device_that_cannot_be_made(namespace: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DatapathError, match="TUN device test0: Invalid argument"):
        Tun("test0", 100_000)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_datagrams_out_and_in(tun: Tun) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("10.0.0.2", 53))
        peer.settimeout(10)
        peer.sendto(b"out", ("10.0.0.1", 7))
        (packet,) = segment(next(frames(tun, 17)))
        assert is_intact(packet)
        assert packet.endswith(b"out")
        tun.write([PLAIN, udp(4, b"in")])
        assert peer.recvfrom(100) == (b"in", ("10.0.0.1", 1024))


@pytest.mark.parametrize("offloads", ["all", "tcp", "none"])
def test_a_large_write_comes_as_whole_as_the_kernel_can(
    namespace: str, monkeypatch: pytest.MonkeyPatch, offloads: str
) -> None:
    """Whatever the kernel hands over, the segments are right."""
    if offloads != "all":
        monkeypatch.setattr(tun_module, "_UDP", 1 << 20)  # no kernel has this bit
    if offloads == "none":
        monkeypatch.setattr(tun_module, "_TCP", 1 << 20)
    tun = Tun("test0", MTU)
    bring_up(namespace)
    listener = socket.create_server(("10.0.0.2", 80))
    tun.write([PLAIN, tcp(4, b"", 1000, 0x02)])
    (answer,) = segment(next(frames(tun, 6)))
    sequence = int.from_bytes(answer[24:28], "big") + 1
    tun.write([PLAIN, tcp(4, b"", 1001, acknowledgement=sequence, window=60_000)])
    connection, _ = listener.accept()
    content = os.urandom(5000)
    connection.sendall(content)
    received, pieces = b"", 0
    for frame in frames(tun, 6):
        pieces += 1
        for packet in segment(frame):
            assert is_intact(packet)
            assert len(packet) <= MTU
            received += packet[20 + (packet[32] >> 4) * 4 :]
        if len(received) >= len(content):
            break
    assert received == content
    assert (pieces < 5) is (offloads != "none")  # of 10 segments
    connection.close()
    listener.close()
    tun.close()


def test_what_the_kernel_does_not_take(tun: Tun) -> None:
    with pytest.raises(OSError):
        tun.write([PLAIN, b"\x00" * 40])


# --- several queues


def links(namespace: str) -> str:
    return run("ip", "-n", namespace, "link")


def test_flows_are_spread_over_the_queues(namespace: str) -> None:
    """Each stays in its own, and the device goes with the last descriptor."""
    tun = Tun("test0", MTU, queues=3)
    queues = [tun, *tun.open_others()]
    assert [queue.mtu for queue in queues] == [MTU] * 3
    bring_up(namespace)
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(60)]
    for _round in range(3):
        for sender in senders:
            sender.sendto(b"x", ("10.0.0.9", 7))
    found: list[list[int]] = [[] for _ in queues]
    for queue, ports in zip(queues, found, strict=True):
        while (frame := queue.read()) is not None:
            if frame[10] >> 4 == 4:
                ports.append(int.from_bytes(frame[30:32], "big"))
    assert all(found)
    assert sum(map(len, found)) == 3 * len(senders)
    assert sum(len(set(ports)) for ports in found) == len(senders)
    for sender in senders:
        sender.close()
    for queue in queues:
        assert "test0" in links(namespace)
        queue.close()
    assert "test0" not in links(namespace)


@pytest.mark.parametrize("queues", [1, 2])
def test_nobody_gets_a_queue_of_a_device_that_is_held(namespace: str, queues: int) -> None:
    tun = Tun("test0", MTU, queues=2)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DatapathError, match="TUN device test0: Device or resource busy"):
        Tun("test0", MTU, queues=queues)
    assert len(os.listdir("/proc/self/fd")) == before
    tun.close()


@pytest.mark.parametrize("made", [[], ["multi_queue"]], ids=["one", "several"])
@pytest.mark.parametrize("wanted", [1, 2])
def test_a_persistent_device_has_the_queues_it_was_made_with(
    namespace: str, caplog: pytest.LogCaptureFixture, made: list[str], wanted: int
) -> None:
    caplog.set_level("INFO", logger="sennit")
    run("ip", "-n", namespace, "tuntap", "add", "test0", "mode", "tun", *made)
    tun = Tun("test0", MTU, queues=wanted)
    others = tun.open_others()
    assert len(others) == (1 if made and wanted == 2 else 0)
    bring_up(namespace)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"out", ("10.0.0.1", 7))
    assert any(segment(frame)[0].endswith(b"out") for queue in [tun, *others] for frame in waiting(queue))
    told = "test0: the TUN device has one queue; going on without more"
    assert [record.getMessage() for record in caplog.records].count(told) == (wanted == 2 and not made)
    for queue in [tun, *others]:
        queue.close()
    run("ip", "-n", namespace, "link", "del", "test0")


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (3, 2)])
def test_the_first_queue_is_enough_to_take_a_device_over(namespace: str, before: int, now: int) -> None:
    """With what waits in it, and as many others as it was made for."""
    tun = Tun("test0", MTU, queues=before)
    bring_up(namespace)
    for queue in tun.open_others():
        queue.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _packet in range(20):
            sender.sendto(b"out", ("10.0.0.1", 7))
    again = Tun("test0", MTU, os.dup(tun.fd), queues=now)
    tun.close()
    assert len(again.open_others()) == (now - 1 if before > 1 else 0)
    assert sum(segment(frame)[0].endswith(b"out") for frame in waiting(again)) == 20


def waiting(tun: Tun) -> Iterator[bytes]:
    """The IPv4 packets in the queue."""
    while (frame := tun.read()) is not None:
        if frame[10] >> 4 == 4:
            yield frame
