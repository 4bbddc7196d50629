"""Echo requests and what is taken for a reply."""

import itertools
import os
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.diagnostics.echo import Pinger, checksum, echo_request, is_reply
from sennit.diagnostics.path_mtu import _Prober

TOKEN = bytes(range(16))


def test_checksum_of_rfc_1071():
    # RFC 1071, section 3: the sum of these is ddf2.
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(max_size=100))
def test_checksum_is_the_ones_complement_sum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == 0xFFFF - total


def reply_to(family, request, header=b""):
    kind = 0 if family == socket.AF_INET else 129
    return header + bytes([kind]) + request[1:]


IPV4_HEADER = b"\x45" + bytes(19)


def test_the_reply_is_recognised():
    four = echo_request(socket.AF_INET, 7, 1, TOKEN)
    assert checksum(four) == 0
    assert is_reply(socket.AF_INET, reply_to(socket.AF_INET, four, IPV4_HEADER), 7, 1, TOKEN)
    assert is_reply(socket.AF_INET, reply_to(socket.AF_INET, four, b"\x46" + bytes(23)), 7, 1, TOKEN)
    six = echo_request(socket.AF_INET6, 7, 1, TOKEN)
    assert is_reply(socket.AF_INET6, reply_to(socket.AF_INET6, six), 7, 1, TOKEN)


@pytest.mark.parametrize(("identifier", "sequence", "token"), [(8, 1, TOKEN), (7, 2, TOKEN), (7, 1, bytes(16))])
def test_another_reply_is_not(identifier, sequence, token):
    request = echo_request(socket.AF_INET6, 7, 1, TOKEN)
    assert not is_reply(socket.AF_INET6, reply_to(socket.AF_INET6, request), identifier, sequence, token)


def test_the_request_itself_is_not():
    request = echo_request(socket.AF_INET6, 7, 1, TOKEN)
    assert not is_reply(socket.AF_INET6, request, 7, 1, TOKEN)


@given(st.sampled_from([socket.AF_INET, socket.AF_INET6]), st.binary(max_size=60))
def test_garbage_is_not(family, packet):
    assert not is_reply(family, packet, 7, 1, TOKEN)


class Channel:
    """In place of a raw socket. Two requests are answered when both are there, others not at all."""

    def __init__(self, family, kind, protocol):
        self._reading, self._writing = os.pipe()
        self._asked = []
        self._answers = []

    def fileno(self):
        return self._reading

    def setblocking(self, *_options):
        pass

    setsockopt = setblocking

    def sendto(self, request, destination):
        self._asked.append((reply_to(socket.AF_INET, request, IPV4_HEADER), destination))
        if len(self._asked) == 2:
            self._answers += self._asked
            os.write(self._writing, b"..")

    def recvfrom(self, size):
        os.read(self._reading, 1)
        return self._answers.pop(0)

    def close(self):
        os.close(self._reading)
        os.close(self._writing)


@pytest.fixture
def held_up(monkeypatch):
    """Between any two looks at the clock, the time is over."""
    clock = itertools.count(step=1000)
    monkeypatch.setattr(socket, "socket", Channel)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))


def test_an_answer_that_is_there_counts_however_late_it_is_looked_at(held_up):
    with Pinger(["192.0.2.1", "192.0.2.2"]) as pinger:
        answered = [answer.address for answer in pinger.round(1, 6.0) if answer.rtt is not None]
    assert answered == ["192.0.2.1", "192.0.2.2"]


def test_so_does_a_size_that_has_passed(held_up):
    with _Prober([socket.AF_INET], 0) as prober:
        assert prober.round({"192.0.2.1": [600, 700, 800]}, 1.0) == {"192.0.2.1": [600, 700]}
