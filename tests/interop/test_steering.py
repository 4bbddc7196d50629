"""Several sockets on one port, and which of them the kernel gives a packet, within a network namespace."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Iterator

import pytest

from sennit.datapath import queues
from sennit.datapath.base import DatapathError
from sennit.datapath.core import PYTHON
from sennit.datapath.udp import UdpSocket
from sennit.wireguard.queues import MAX_QUEUES, queue_of

LENGTHS = [0, 1, 4, 5, 31, 32, 92, 148, 1452]


def opened(namespace: str, number: int) -> list[UdpSocket]:
    return queues.open_sockets(0, 0, number)


@pytest.fixture(params=[2, 3, 4, MAX_QUEUES])
def sockets(namespace: str, request: pytest.FixtureRequest) -> Iterator[list[UdpSocket]]:
    sockets = opened(namespace, request.param)
    assert len(sockets) == request.param
    yield sockets
    for each in sockets:
        each.close()


def waiting(udp: UdpSocket, number: int) -> list[bytes]:
    """So many datagrams, and no more."""
    found: list[bytes] = []
    while len(found) < number:
        assert select.select([udp.socket], [], [], 10)[0], f"{len(found)} of {number} have come"
        arrivals = PYTHON.arrivals()
        received = udp.receive(arrivals.space())
        assert received is not None
        found += map(bytes, arrivals.received(*received[:2]))
    assert udp.receive(PYTHON.arrivals().space()) is None
    return found


def queue_for(datagram: bytes, number: int) -> int:
    """As the core knows it."""
    if len(datagram) < 5 or datagram[0] != 4:
        return 0
    return queue_of(int.from_bytes(datagram[4:8], "little"), number)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_gets_what_is_of_its_queue(sockets: list[UdpSocket], host: str) -> None:
    """Of whatever length and type; from one source, so that nothing but the program can tell them apart."""
    chance = random.Random(4)
    datagrams = [bytes([4, 0, 0, 0, low]) + chance.randbytes(27) for low in range(256)]
    datagrams += [bytes([kind, 0, 0, 0]) + chance.randbytes(144) for kind in (0, 1, 2, 3, 5, 255) for _ in range(9)]
    datagrams += [(bytes([4, 0, 0, 0]) + chance.randbytes(1448))[:length] for length in LENGTHS for _ in range(9)]
    expected: list[list[bytes]] = [[] for _ in sockets]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (host, sockets[0].port))
            expected[queue_for(datagram, len(sockets))].append(datagram)
    for udp, own in zip(sockets, expected, strict=True):
        assert own
        assert waiting(udp, len(own)) == own


@pytest.mark.parametrize("number", [1, 2])
def test_nobody_else_gets_the_port(namespace: str, number: int) -> None:
    """Nor do we get somebody else's: another agent's sockets are shared among its own."""
    ours = opened(namespace, 2)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DatapathError, match=f"UDP port {ours[0].port}: Address already in use"):
        queues.open_sockets(ours[0].port, 0, number)
    assert len(os.listdir("/proc/self/fd")) == before
    for each in ours:
        each.close()


def test_all_leave_from_the_same_port_with_the_mark(namespace: str) -> None:
    ours, receiver = queues.open_sockets(0, 0x53E0, 3), UdpSocket(0, 0)
    for each in ours:
        assert each.socket.getsockopt(socket.SOL_SOCKET, 36) == 0x53E0
        assert each.send([b"x"], ("127.0.0.1", receiver.port)) == 0
        assert select.select([receiver.socket], [], [], 10)[0]
        received = receiver.receive(PYTHON.arrivals().space())
        assert received is not None
        assert received[2][:2] == ("127.0.0.1", ours[0].port)
    for udp in (*ours, receiver):
        udp.close()


@pytest.mark.parametrize("value", ["0", "9", "two", "-1", "2.0", " 2"])
def test_a_number_of_queues_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(queues.VARIABLE, value)
    with pytest.raises(DatapathError, match=f"SENNIT_QUEUES is '{value}', not a number from 1 to 8"):
        queues.wanted()


@pytest.mark.parametrize(("processors", "wanted"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (8, 4), (64, 4)])
def test_as_many_as_there_are_processors_for(monkeypatch: pytest.MonkeyPatch, processors: int, wanted: int) -> None:
    """Those that we may run on."""
    monkeypatch.delenv(queues.VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(processors)))
    assert queues.wanted() == wanted
    monkeypatch.setenv(queues.VARIABLE, "5")
    assert queues.wanted() == 5
