"""Which of the host's addresses are told to others."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.netlink import NetlinkError, attribute
from sennit.paths.local import HostAddress, local, parse


def answer(address: str, length: int, *, flags: int = 0x80, scope: int = 0, other_end: str = "") -> memoryview:
    """As the kernel answers RTM_GETADDR."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    body = struct.pack("=BBBBI", family, length, flags & 0xFF, scope, 2)
    if other_end:
        body += attribute(1, socket.inet_pton(family, other_end))
    body += attribute(2 if other_end or family == socket.AF_INET else 1, socket.inet_pton(family, address))
    return memoryview(body + attribute(8, struct.pack("=I", flags)))


def test_addresses_that_others_may_reach() -> None:
    assert parse(answer("192.0.2.7", 24)) == HostAddress("192.0.2.7", 24, 2, False)
    assert parse(answer("2001:db8::7", 64)) == HostAddress("2001:db8::7", 64, 2, False)
    assert parse(answer("2001:db8::7", 64, flags=0x81)) == HostAddress("2001:db8::7", 64, 2, True)
    assert parse(answer("192.0.2.7", 32, other_end="192.0.2.8")) == HostAddress("192.0.2.7", 32, 2, False)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("127.0.0.1", {"scope": 254}),
        ("fe80::1", {"scope": 253}),
        ("2001:db8::7", {"flags": 0x40}),  # tentative
        ("2001:db8::7", {"flags": 0x20}),  # deprecated
        ("2001:db8::7", {"flags": 0x08}),  # somebody else's
    ],
)
def test_addresses_of_no_use(address: str, options: dict[str, int]) -> None:
    assert parse(answer(address, 64, **options)) is None


@given(st.binary(max_size=64))
def test_whatever_the_kernel_answers(body: bytes) -> None:
    with contextlib.suppress(NetlinkError):
        parse(memoryview(body))


def test_those_that_last_come_first_and_tunnels_not_at_all() -> None:
    found = [
        HostAddress("2001:db8::a", 64, 2, True),
        HostAddress("2001:db8::7", 64, 2, False),
        HostAddress("192.0.2.7", 24, 2, False),
        HostAddress("10.8.0.2", 24, 9, False),
    ]
    made = local(found, frozenset({9}))
    assert made.addresses == ("2001:db8::7", "192.0.2.7", "2001:db8::a")
    assert made.networks == (ip_network("2001:db8::/64"), ip_network("192.0.2.0/24"))
    assert made.endpoints(7)[0] == ("2001:db8::7", 7)
