"""Which of the kernel's notifications are worth another look at the host."""

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.host.monitor import Monitor

NEWLINK, NEWADDR, DELADDR, NEWRULE = 16, 20, 21, 32


def notification(kind, body=b""):
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def address(kind, text, index=2, flags=0x80):
    """An IPv4 address as the kernel announces it: ifa_cacheinfo, which changes all the time, and then IFA_ADDRESS."""
    body = struct.pack("=BBBBI", socket.AF_INET, 24, flags, 0, index)
    body += struct.pack("=HHIIII", 20, 6, 1, 2, 3, 4)
    body += struct.pack("=HH4s", 8, 1, socket.inet_aton(text))
    return notification(kind, body)


@pytest.fixture
def monitor():
    """A monitor that listens to the test instead of the kernel."""
    monitor = Monitor("lo")
    monitor.close()
    monitor.socket, monitor.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monitor.socket.setblocking(False)
    yield monitor
    monitor.kernel.close()
    monitor.close()


def test_a_new_address_counts_once(monitor):
    monitor.kernel.send(address(NEWADDR, "192.0.2.1"))
    assert monitor.changed()
    monitor.kernel.send(address(NEWADDR, "192.0.2.1", flags=0))
    assert not monitor.changed()
    monitor.kernel.send(address(NEWADDR, "192.0.2.1", index=3))
    assert monitor.changed()


def test_an_address_that_goes_counts_and_so_does_its_return(monitor):
    for kind in (NEWADDR, DELADDR, NEWADDR, DELADDR):
        monitor.kernel.send(address(kind, "192.0.2.1"))
        assert monitor.changed()


def test_every_rule_counts(monitor):
    for _ in range(2):
        monitor.kernel.send(notification(NEWRULE, bytes(12)))
        assert monitor.changed()


def link(index, flags):
    return notification(NEWLINK, struct.pack("=BxHiII", 0, 65534, index, flags, 0))


def test_the_tunnel_counts_when_it_is_set_up_or_down(monitor):
    loopback = socket.if_nametoindex("lo")
    monitor.kernel.send(link(loopback, 0x10D1))
    monitor.changed()
    for flags, counts in ((0x10D1, False), (0x1090, True), (0x1090, False), (0x10D1, True)):
        monitor.kernel.send(link(loopback, flags))
        assert monitor.changed() == counts
    for flags in (0, 1):
        monitor.kernel.send(link(loopback + 1, flags))
        assert not monitor.changed()


def test_one_that_counts_among_others_is_enough(monitor):
    monitor.kernel.send(address(NEWADDR, "192.0.2.1"))
    assert monitor.changed()
    monitor.kernel.send(address(NEWADDR, "192.0.2.1") + address(NEWADDR, "192.0.2.9"))
    monitor.kernel.send(address(NEWADDR, "192.0.2.1"))
    assert monitor.changed()


def test_nothing_there(monitor):
    assert not monitor.changed()


def test_what_the_kernel_had_to_drop_counts(monitor, monkeypatch):
    class Overrun:
        calls = 0

        def recv(self, _size):
            self.calls += 1
            raise OSError(105, "No buffer space available") if self.calls == 1 else BlockingIOError

        def close(self):
            pass

    monitor.socket.close()
    monitor.socket = Overrun()
    assert monitor.changed()


@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 255))
def test_whatever_comes_is_no_error(garbage, position, value):
    monitor = Monitor("lo")
    monitor.close()
    monitor.socket, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monitor.socket.setblocking(False)
    mutated = bytearray(address(NEWADDR, "192.0.2.1"))
    mutated[position % len(mutated)] = value
    with kernel, contextlib.closing(monitor):
        for datagram in (bytes(mutated), bytes(mutated[:position]), address(NEWADDR, "192.0.2.1") + garbage):
            kernel.send(datagram)
        monitor.changed()
        kernel.send(notification(NEWRULE, bytes(12)))
        assert monitor.changed()
