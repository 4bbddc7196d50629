"""Several workers a direction, against wireguard-go: all of them work, nothing is lost, each flow keeps its order."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh, wait
from tests.interop.processes import named
from tests.interop.stock import StockPeer, encoded
from tests.interop.streams import Stream
from tests.interop.wireguard import (
    GO,
    QUEUES,
    SEVERAL,
    SEVERAL_NATIVE,
    TRANSPORT,
    Capture,
    Datagram,
    Interface,
    Namespace,
    inside,
)
from tests.native import library

PATIENCE = 60
# What must not happen, however packets are spread; the kernel's housekeeping meets other reasons.
LOSSES = {"replayed-counter", "data-authentication", "unknown-receiver-index", "queue-full", "write-failed"}
RENEWALS = 3
UNDER_WAY = 1 << 13  # of a stream: so little that what waits for a process fits into its socket, however small that is


@pytest.fixture(params=[(2, "python"), (2, "native"), (3, "native")], ids=["two-python", "two-native", "three-native"])
def hub(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Host, list[StockPeer]]]:
    """An agent with so many queues, and three stock peers."""
    queues, core = request.param
    with Mesh(tmp_path, "alpha", "one", "two", "three") as mesh, contextlib.ExitStack() as stack:
        alpha, *others = mesh.hosts
        alpha.environment |= {
            "SENNIT_QUEUES": str(queues), "SENNIT_NATIVE": "none" if core == "python" else str(library())
        }  # fmt: skip
        alpha.start()
        peers = [stack.enter_context(StockPeer(other)) for other in others]
        for peer in peers:
            peer.know(alpha, "endpoint", f"{alpha.underlay[0]}:{PORT}")
        alpha.apply(mesh.netmap(1, alpha.node(), *(peer.node() for peer in peers)))
        assert alpha.status()["core"] == core
        yield alpha, peers


def worked(worker: int) -> int:
    """Nanoseconds that this process has run."""
    return int(Path(f"/proc/{worker}/schedstat").read_text().split()[0])


@contextlib.contextmanager
def streams(alpha: Host, peers: list[StockPeer]) -> Iterator[list[Stream]]:
    """Two with each peer in either direction, one of them in IPv6."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Stream(source.namespace, destination.namespace, destination.addresses[family], UNDER_WAY)
            )
            for peer in peers
            for source, destination in ((alpha, peer.host), (peer.host, alpha))
            for family in (0, 1)
        ]


def until_counted(alpha: Host, peer: StockPeer) -> None:
    """Both ends have counted the same, to the byte, when both have told; a keepalive may be on its way meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ours = alpha.peer(peer.host.name)
        received, sent = map(int, peer.shown("transfer").split())
        if (ours["tx_bytes"], ours["rx_bytes"]) == (received, sent):
            return
        assert time.monotonic() < deadline, (ours["tx_bytes"], received, sent, ours["rx_bytes"])


def test_streams_with_several_peers(hub: tuple[Host, list[StockPeer]]) -> None:
    alpha, peers = hub
    queues = int(alpha.environment["SENNIT_QUEUES"])
    children = alpha.workers()
    outbounds, inbounds = named("sennit-outbound", children), named("sennit-inbound", children)
    assert (len(outbounds), len(inbounds)) == (queues, queues)
    before = list(map(worked, outbounds + inbounds))
    with streams(alpha, peers) as running:
        for stream in running:
            stream.goes_on(1 << 20)
    after = list(map(worked, outbounds + inbounds))
    # A worker that has nothing to do wakes up for a few microseconds at a time.
    assert all(now - then > 2_000_000 for now, then in zip(after, before, strict=True)), (before, after)
    for peer in peers:
        until_counted(alpha, peer)
    assert LOSSES.isdisjoint(alpha.status()["drops"])


def test_sessions_are_renewed_while_streams_go_on(hub: tuple[Host, list[StockPeer]]) -> None:
    """By either side: whoever forgets the session begins another, on which the streams go on."""
    alpha, peers = hub
    with streams(alpha, peers) as running:
        for _renewal in range(RENEWALS):
            for peer in peers:
                peer.wg("set", peer.interface, "peer", encoded(alpha.public_key), "remove")
                peer.know(alpha, "endpoint", f"{alpha.underlay[0]}:{PORT}")
            for stream in running:
                stream.goes_on(1 << 18)
    # What was on its way on a session that two others have followed is late, whoever gets it.
    assert (LOSSES - {"unknown-receiver-index"}).isdisjoint(alpha.status()["drops"])


# --- order, and what is on the wire

FLOWS, ROUNDS, EACH = 24, 20, 4
PACKET = 32 + 32  # bytes of a datagram: headers of IP and UDP and up to four more; header and tag


@pytest.fixture(params=[SEVERAL, SEVERAL_NATIVE])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Interface, Interface, Capture]]:
    """One with several queues and a stock one that have a session; what passes the first one's underlay."""
    with Namespace("hub") as first, Namespace("stock") as second:
        first.join(second)
        first.address("eth0", "192.0.2.1/24")
        second.address("eth0", "192.0.2.2/24")
        hub = Interface(first, request.param, "10.9.0.1/24")
        stock = Interface(second, GO, "10.9.0.2/24")
        hub.know(stock, "10.9.0.2/32", "endpoint", "192.0.2.2:51820")
        stock.know(hub, "10.9.0.1/32")
        first.ping("10.9.0.2")
        with Capture(first) as wire:
            yield hub, stock, wire


def send_flows(source: Interface, destination: Interface, address: str, wire: Capture) -> list[Datagram]:
    """Numbered packets of many flows, one way; each flow's must come in order, and all of them."""
    with inside(destination.namespace):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((address, 4001))
        sink.settimeout(PATIENCE)
    with inside(source.namespace):
        flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _flow in range(FLOWS)]
    arrived: dict[int, list[int]] = {}
    seen: list[Datagram] = []
    for number in range(ROUNDS):
        for turn in range(EACH):
            for flow in flows:
                flow.sendto(bytes([number, turn]), (address, 4001))
        for _packet in range(EACH * FLOWS):
            packet, (_host, port) = sink.recvfrom(100)
            arrived.setdefault(port, []).append(EACH * packet[0] + packet[1])
        seen += wire.datagrams()
    for each in (sink, *flows):
        each.close()
    assert len(arrived) == FLOWS
    assert all(numbers == list(range(EACH * ROUNDS)) for numbers in arrived.values())
    return [each for each in seen if each.kind == TRANSPORT]


def headers(datagrams: list[Datagram]) -> list[tuple[int, int]]:
    """Receiver index and counter of each. What the kernel is to cut, the capture sees whole: all are of one length."""
    parts = [each.payload[at : at + PACKET] for each in datagrams for at in range(0, each.length, PACKET)]
    return [(int.from_bytes(part[4:8], "little"), int.from_bytes(part[8:16], "little")) for part in parts]


def test_flows_out(pair: tuple[Interface, Interface, Capture]) -> None:
    """Every worker seals some, under counters of its own."""
    hub, stock, wire = pair
    queues = QUEUES[hub.implementation]
    datagrams = [each for each in send_flows(hub, stock, "10.9.0.2", wire) if each.outgoing]
    sent = headers(datagrams)
    assert len({index for index, _counter in sent}) == 1
    assert len(sent) == FLOWS * ROUNDS * EACH
    assert len(set(sent)) == len(sent)
    assert len(Counter(counter % queues for _index, counter in sent)) == queues
    assert {each.source for each in datagrams} == {"192.0.2.1:51820"}


def test_flows_in(pair: tuple[Interface, Interface, Capture]) -> None:
    hub, stock, wire = pair
    queues = QUEUES[hub.implementation]
    received = headers([each for each in send_flows(stock, hub, "10.9.0.1", wire) if not each.outgoing])
    assert len(received) == FLOWS * ROUNDS * EACH
    # A session is one worker's, and the next one the same worker's.
    (place,) = {(index & 0xFF) % queues for index, _counter in received}
    for _renewal in range(RENEWALS):
        stock.set("peer", hub.public_key, "remove")
        stock.know(hub, "10.9.0.1/32", "endpoint", "192.0.2.1:51820")
        again = headers(
            [each for each in send_flows(stock, hub, "10.9.0.1", wire) if not each.outgoing and each.length == PACKET]
        )
        assert {(index & 0xFF) % queues for index, _counter in again} == {place}
        assert {index for index, _counter in again}.isdisjoint({index for index, _counter in received})


def test_another_port_while_packets_flow(pair: tuple[Interface, Interface, Capture]) -> None:
    """All workers follow, and the peer does; nobody holds the one before."""
    hub, stock, wire = pair
    for port, before in ((4444, 51820), (51820, 4444), (4445, 51820)):
        hub.set("listen-port", str(port))
        datagrams = send_flows(hub, stock, "10.9.0.2", wire)
        assert {each.source for each in datagrams if each.outgoing} == {f"192.0.2.1:{port}"}
        assert stock.endpoint(hub) == f"192.0.2.1:{port}"
        send_flows(stock, hub, "10.9.0.1", wire)
        # When this is answered, those that no packet has waited for have followed, too.
        hub.wg("show", hub.name)
        with inside(hub.namespace), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
            free.bind(("::", before))


def test_another_mark(pair: tuple[Interface, Interface, Capture]) -> None:
    """On the packets of every worker: a rule sends what has it nowhere, and the rest goes its way."""
    hub, stock, wire = pair
    hub.namespace.ip("rule", "add", "fwmark", "7", "blackhole")
    hub.set("fwmark", "8")
    send_flows(hub, stock, "10.9.0.2", wire)
    hub.set("fwmark", "7")
    _received, sent = hub.transfer(stock)
    with inside(hub.namespace), contextlib.ExitStack() as stack:
        for _flow in range(FLOWS):
            flow = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            flow.sendto(b"lost", ("10.9.0.2", 4001))
    # Of what it tells that it has sealed, a worker has tried to send all; what is in the device yet is not counted.
    wait(lambda: hub.transfer(stock)[1] >= sent + FLOWS * PACKET, f"{FLOWS} packets sealed")
    assert [each for each in wire.datagrams() if each.outgoing] == []
    hub.set("fwmark", "0")
    send_flows(hub, stock, "10.9.0.2", wire)
