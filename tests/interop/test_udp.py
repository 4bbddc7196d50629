"""The underlay's socket against this kernel, within a network namespace."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest
from tests.interop.agents import run
from tests.interop.namespaces import add_address

from sennit.datapath import udp
from sennit.datapath.base import DatapathError
from sennit.datapath.core import PYTHON
from sennit.datapath.udp import UdpSocket
from sennit.wireguard.events import Endpoint, endpoint_of

BATCH = [bytes([n]) * 1452 for n in range(50)] + [b"last"]


@pytest.fixture
def opened(namespace: str) -> Iterator[Callable[..., UdpSocket]]:
    sockets = []

    def open_socket(port: int = 0, fwmark: int = 0) -> UdpSocket:
        sockets.append(UdpSocket(port, fwmark))
        return sockets[-1]

    yield open_socket
    for each in sockets:
        each.close()


def take(receiver: UdpSocket, count: int) -> tuple[list[bytes], set[Endpoint], int]:
    """Datagrams, where they came from, and in how many pieces."""
    datagrams: list[bytes] = []
    sources = set()
    pieces = 0
    while len(datagrams) < count:
        assert select.select([receiver.socket], [], [], 10)[0], f"{len(datagrams)} of {count} have come"
        arrivals = PYTHON.arrivals()
        received = receiver.receive(arrivals.space())
        if received is not None:
            length, size, source = received
            datagrams += map(bytes, arrivals.received(length, size))
            sources.add(endpoint_of(source))
            pieces += 1
    assert receiver.receive(arrivals.space()) is None
    return datagrams, sources, pieces


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_batch_arrives_in_order_and_in_few_pieces(opened: Callable[..., UdpSocket], host: str) -> None:
    sender, receiver = opened(), opened()
    assert sender.send(BATCH, (host, receiver.port)) == 0
    datagrams, sources, pieces = take(receiver, len(BATCH))
    assert datagrams == BATCH
    assert sources == {(host, sender.port)}
    assert pieces < 10


def test_sizes_in_any_order(opened: Callable[..., UdpSocket]) -> None:
    sender, receiver = opened(), opened()
    mixed = [bytes([n]) * size for n, size in enumerate([32, 1452, 1452, 96, 96, 96, 32, 1452, 5000, 5000, 1])]
    assert sender.send(mixed, ("127.0.0.1", receiver.port)) == 0
    assert take(receiver, len(mixed))[0] == mixed


def test_a_single_datagram_without_waiting(opened: Callable[..., UdpSocket]) -> None:
    sender, receiver = opened(), opened()
    assert sender.send_now(b"handshake", ("::1", receiver.port))
    assert take(receiver, 1)[0] == [b"handshake"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_path_too_narrow_for_segments_is_remembered(
    opened: Callable[..., UdpSocket], namespace: str, host: str
) -> None:
    """Segments are never fragmented, single datagrams are."""
    run("ip", "-n", namespace, "link", "set", "lo", "mtu", "1300")
    sender, receiver = opened(), opened()
    for _ in range(2):
        assert sender.send(BATCH, (host, receiver.port)) == 0
        assert take(receiver, len(BATCH))[0] == BATCH
    assert sender._refused == {(host, receiver.port): 1452}
    small = [bytes(1000)] * 20
    assert sender.send(small, (host, receiver.port)) == 0
    assert take(receiver, 20)[2] < 10


def test_a_device_that_cannot_segment_is_remembered(
    opened: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = opened(), opened()

    class Refusing:
        def __init__(self, real: socket.socket) -> None:
            self.real, self.close = real, real.close
            self.calls = 0

        def sendmsg(self, buffers: object, ancillary: tuple[tuple[int, int, bytes], ...], *arguments: object) -> None:
            if not ancillary:
                self.real.sendmsg(buffers, ancillary, *arguments)
                return
            self.calls += 1
            raise OSError(errno.EIO, "no checksums")

    refusing = Refusing(sender.socket)
    monkeypatch.setattr(sender, "socket", refusing)
    for _ in range(2):
        assert sender.send(BATCH, ("127.0.0.1", receiver.port)) == 0
        assert take(receiver, len(BATCH))[0] == BATCH
    assert refusing.calls == 1
    monkeypatch.undo()


def test_a_kernel_without_the_offloads(opened: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "_UDP_SEGMENT", 9999)
    monkeypatch.setattr(udp, "_UDP_GRO", 9998)
    sender, receiver = opened(), opened()
    assert sender.send(BATCH, ("127.0.0.1", receiver.port)) == 0
    datagrams, _, pieces = take(receiver, len(BATCH))
    assert datagrams == BATCH
    assert pieces == len(BATCH)


def take_ipv6_away(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *arguments: int, **options: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(error, os.strerror(error))
        return real(family, *arguments, **options)

    monkeypatch.setattr(udp.socket, "socket", without_ipv6)


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, None])
def test_a_host_without_ipv6(
    opened: Callable[..., UdpSocket], namespace: str, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """Not compiled in, or disabled."""
    if error is None:
        run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    else:
        take_ipv6_away(monkeypatch, error)
    sender, receiver = opened(), opened()
    assert sender.send(BATCH, ("127.0.0.1", receiver.port)) == 0
    datagrams, sources, _ = take(receiver, len(BATCH))
    assert datagrams == BATCH
    assert sources == {("127.0.0.1", sender.port)}
    assert sender.send([b"x"] * 3, ("2001:db8::1", 1)) == 3


def test_what_cannot_be_sent_is_counted(opened: Callable[..., UdpSocket]) -> None:
    sender = opened()
    assert sender.send(BATCH, ("198.51.100.1", 1)) == len(BATCH)
    assert sender.send([b"x"], ("fe80::1%nowhere", 1)) == 1
    assert sender.send([bytes(70_000)], ("127.0.0.1", 1)) == 1
    assert not sender.send_now(b"x", ("198.51.100.1", 1))


def test_link_local_endpoints_have_a_scope(opened: Callable[..., UdpSocket], namespace: str) -> None:
    run("ip", "-n", namespace, "link", "add", "left", "type", "veth", "peer", "name", "right")
    for name in ("left", "right"):
        run("ip", "-n", namespace, "link", "set", name, "up")
    for name, address in (("left", "fe80::1"), ("right", "fe80::2")):
        add_address(f"{address}/64", name)
    sender, receiver = opened(), opened()
    endpoint = ("fe80::1%left", receiver.port)
    assert sender.send([b"x"], endpoint) == 0
    ((source,),) = (take(receiver, 1)[1],)
    assert source[0].partition("%")[2] in ("left", "lo")


def test_the_mark_and_the_port(opened: Callable[..., UdpSocket]) -> None:
    one = opened(0, 0x53E0)
    assert one.socket.getsockopt(socket.SOL_SOCKET, 36) == 0x53E0
    with pytest.raises(DatapathError, match=f"UDP port {one.port}: Address already in use"):
        opened(one.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_answer_to_whoever_may_be_forged(opened: Callable[..., UdpSocket], namespace: str, host: str) -> None:
    """It leaves from the address that was spoken to, and nothing is kept of it."""
    second = "127.0.0.9" if host == "127.0.0.1" else "2001:db8::9"
    add_address(second, "lo")
    sender, receiver = opened(), opened()
    assert sender.send_now(b"answer", (host, receiver.port, second, 0))
    assert take(receiver, 1)[:2] == ([b"answer"], {(second, sender.port)})
    assert sender._ways == {}


def test_the_way_back_on_a_host_without_ipv6(
    opened: Callable[..., UdpSocket], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is of the other family there, and tells in other words where a datagram came to."""
    take_ipv6_away(monkeypatch, errno.EAFNOSUPPORT)
    add_address("127.0.0.9", "lo")
    one, two = opened(), opened()
    assert one.family == socket.AF_INET
    assert one.send([b"question"], ("127.0.0.9", two.port)) == 0
    arrivals = PYTHON.arrivals()
    assert select.select([two.socket], [], [], 10)[0]
    received = two.receive(arrivals.space())
    assert received is not None
    path = received[2]
    assert path[1:] == (one.port, "127.0.0.9", socket.if_nametoindex("lo"))
    assert two.send([b"answer"], path) == 0
    assert take(one, 1)[:2] == ([b"answer"], {("127.0.0.9", two.port)})
