"""Clients of the stub resolver that mean no good, or come from elsewhere."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import struct
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest
from tests.interop.agents import run
from tests.interop.nameservers import dnsmasq, stub
from tests.interop.namespaces import add_address

from sennit.dns.listener import MAX_TCP_CLIENTS

MESH = {"alpha.demo.internal": ("100.64.0.1", "fd5e::1")}
STUB, STUB_IPV6 = "100.100.100.100", "fd5e::24:6464"
QUESTION = dns.message.make_query("alpha.demo.internal", "A").to_wire()


def connected(server: str = STUB) -> socket.socket:
    return socket.create_connection((server, 53), 20)


def framed(wire: bytes) -> bytes:
    return struct.pack(">H", len(wire)) + wire


def read(client: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = client.recv(length - len(found))
        if not piece:
            raise EOFError(f"{len(found)} of {length} bytes came")
        found += piece
    return found


def answer(client: socket.socket) -> dns.message.Message:
    (length,) = struct.unpack(">H", read(client, 2))
    return dns.message.from_wire(read(client, length))


def is_served() -> None:
    """By TCP and by UDP, in both families."""
    for server in (STUB, STUB_IPV6):
        with connected(server) as client:
            client.sendall(framed(QUESTION))
            assert answer(client).answer
        assert udp(QUESTION, server).answer


def udp(wire: bytes, server: str = STUB) -> dns.message.Message:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect((server, 53))
        client.send(wire)
        return dns.message.from_wire(client.recv(65535))


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "sent",
    [
        b"",  # half open
        b"\x00",  # half of a length
        framed(QUESTION)[:-1],  # a query but for its last byte
        b"\xff\xff" + bytes(30000),  # less than half of 64 KB
    ],
    ids=["nothing", "half a length", "a query without its end", "half of 64 KB"],
)
def test_a_thousand_slow_clients_keep_nobody_out(namespace: str, many_files: None, sent: bytes) -> None:
    with stub(MESH) as resolver, contextlib.ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(connected())
            with contextlib.suppress(OSError):  # dropped already, in favour of a later one
                client.sendall(sent)
            if number % 250 == 0:
                is_served()
        is_served()
        # It does not keep them all either.
        (pid,) = resolver.pids
        assert len(os.listdir(f"/proc/{pid}/fd")) < MAX_TCP_CLIENTS + 20


def test_clients_that_never_read_keep_nobody_out(namespace: str) -> None:
    """They ask for more than fits into the buffers on the way."""
    many = tuple(f"10.9.{number // 250}.{number % 250 + 1}" for number in range(2000))
    query = framed(dns.message.make_query("many.demo.internal", "A").to_wire())
    with stub({**MESH, "many.demo.internal": many}), contextlib.ExitStack() as stack:
        for _client in range(50):
            client = stack.enter_context(connected())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _query in range(1000):
                    client.send(query)
        is_served()


def test_a_client_that_waits_is_not_dropped_for_those_that_do_nothing(namespace: str, many_files: None) -> None:
    nameserver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with nameserver, stub(MESH, default=["127.0.0.11"]), connected() as patient, contextlib.ExitStack() as stack:
        nameserver.bind(("127.0.0.11", 53))
        nameserver.settimeout(20)
        patient.sendall(framed(dns.message.make_query("www.example.com", "A").to_wire()))
        wire, stub_address = nameserver.recvfrom(4096)
        for _client in range(500):
            stack.enter_context(connected())
        is_served()
        nameserver.sendto(dns.message.make_response(dns.message.from_wire(wire)).to_wire(), stub_address)
        assert answer(patient).rcode() in (dns.rcode.NOERROR, dns.rcode.SERVFAIL)


def test_many_queries_on_one_connection(namespace: str) -> None:
    queries = [dns.message.make_query(f"n{number}.demo.internal", "A") for number in range(500)]
    with stub(MESH), connected() as client:
        client.sendall(b"".join(framed(query.to_wire()) for query in queries))
        client.shutdown(socket.SHUT_WR)
        found = {answer(client).id for _query in queries}
        assert found == {query.id for query in queries}
        assert client.recv(1) == b""


@pytest.mark.parametrize("seed", range(3))
def test_messages_of_64_kb(namespace: str, seed: int) -> None:
    noise = random.Random(seed).randbytes(65535)
    records = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00" * 5000
    messages = [
        noise,
        QUESTION + noise[: 65535 - len(QUESTION)],
        b"\x00\x01\x01\x00" + b"\xff\xff" * 4 + records,
        struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 1) + QUESTION[12:] + b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00"
        + struct.pack(">H", 65000) + bytes(65000),
    ]  # fmt: skip
    with stub(MESH):
        for message in messages:
            with connected() as client:
                client.sendall(framed(message[:65535]) + framed(QUESTION))
                # Whatever the first one gets, the second gets its answer.
                while not answer(client).answer:
                    pass
        is_served()


def test_garbage_by_udp(namespace: str) -> None:
    noise = random.Random(5)
    with stub(MESH) as resolver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((STUB, 53))
        for _round in range(50):
            for number in range(100):
                wire = noise.randbytes(noise.randrange(600))
                client.send(wire if number % 2 else QUESTION[:12] + wire)
            # So many fit into its buffer, which this has passed.
            assert udp(QUESTION).answer
        is_served()
        assert resolver.status()["queries"]["malformed"] > 1000
        assert len(resolver.pids) == 1


def test_only_this_host_is_answered(namespace: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A neighbour on a wire sends to the stub's addresses; what else this host answers there, it gets."""
    neighbour = f"{namespace}n"
    run("ip", "netns", "add", neighbour)
    try:
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", neighbour)
        for where in (namespace, neighbour):
            run("ip", "-n", where, "link", "set", "eth0", "up")
        for number, where in enumerate((namespace, neighbour), start=1):
            for address in (f"192.0.2.{number}/24", f"2001:db8::{number}/64"):
                add_address(address, "eth0", where)
        for address, gateway in (("100.100.100.0/24", "192.0.2.1"), ("fd5e::/48", "2001:db8::1")):
            run("ip", "-n", neighbour, "route", "add", address, "via", gateway)
        other, other_ipv6 = "100.100.100.99", "fd5e::99"
        for address in (other, other_ipv6):
            add_address(address, "lo")

        def asked(server: str, transport: str, seconds: int = 1) -> str:
            return run("ip", "netns", "exec", neighbour, "dig", f"@{server}", "+tries=1", f"+time={seconds}", "+short",
                       transport, "alpha.demo.internal", check=False).strip()  # fmt: skip

        names = {"alpha.demo.internal": "100.64.0.1"}
        with dnsmasq(tmp_path, other, names), dnsmasq(tmp_path, other_ipv6, names), stub(MESH):
            is_served()
            for transport in ("+notcp", "+tcp"):
                # The way there is open.
                assert asked(other, transport, 20) == asked(other_ipv6, transport, 20) == "100.64.0.1"
                assert "100.64.0.1" not in asked(STUB, transport)
                assert "100.64.0.1" not in asked(STUB_IPV6, transport)
            # Not even by an address of the wire: the stub is bound to its own.
            assert "100.64.0.1" not in asked("192.0.2.1", "+notcp")
    finally:
        run("ip", "netns", "del", neighbour)


def test_nobody_else_uses_the_memory_of_a_flood(namespace: str) -> None:
    """A flood of different names leaves no more behind than is kept of any."""
    with stub(MESH) as resolver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect((STUB, 53))

        def flood(start: int) -> None:
            for number in range(start, start + 6000):
                client.send(QUESTION.replace(b"\x05alpha", b"\x05%05d" % number))
                client.recv(4096)

        def resident() -> int:
            (pid,) = resolver.pids
            with open(f"/proc/{pid}/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        flood(0)
        before = resident()
        flood(6000)
        assert resident() - before < 4 << 20
