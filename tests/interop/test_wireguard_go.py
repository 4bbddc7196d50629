"""The agent and a stock WireGuard peer: real packets, each side starting in turn, over either family."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh, wait
from tests.interop.stock import StockPeer, transfer

CONTENT = random.Random(1).randbytes(8 << 20)
FAMILIES = pytest.mark.parametrize("inner", [0, 1], ids=["inner-v4", "inner-v6"])


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path, "alpha", "stock") as mesh:
        yield mesh


@pytest.fixture
def alpha(mesh: Mesh) -> Host:
    alpha = mesh.hosts[0]
    alpha.start()
    return alpha


@pytest.fixture
def stock(mesh: Mesh) -> Iterator[StockPeer]:
    with StockPeer(mesh.hosts[1]) as stock:
        yield stock


def underlay(host: Host, family: int) -> str:
    return f"[{host.underlay[1]}]:{PORT}" if family else f"{host.underlay[0]}:{PORT}"


def ping(host: Host, address: str) -> None:
    host.run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "5", address)


@pytest.mark.parametrize("outer", [0, 1], ids=["underlay-v4", "underlay-v6"])
@pytest.mark.parametrize("initiator", ["agent", "stock"])
def test_either_side_starts(mesh: Mesh, alpha: Host, stock: StockPeer, initiator: str, outer: int) -> None:
    """Only the initiator knows where the other one is; the responder learns it."""
    if initiator == "agent":
        stock.know(alpha)
        node = stock.node(endpoint=underlay(stock.host, outer))
        first, second = alpha, stock.host
    else:
        stock.know(alpha, "endpoint", underlay(alpha, outer))
        node = stock.node(endpoint=None)
        first, second = stock.host, alpha
    alpha.apply(mesh.netmap(1, alpha.node(), node))
    for source, destination in ((first, second), (second, first)):
        for address in destination.addresses:
            ping(source, address)
    assert stock.shown("endpoints") == underlay(alpha, outer)
    assert alpha.peer("stock")["endpoint"] == underlay(stock.host, outer)
    assert alpha.peer("stock")["latest_handshake"] is not None


@FAMILIES
def test_tcp_in_both_directions(mesh: Mesh, alpha: Host, stock: StockPeer, inner: int) -> None:
    stock.know(alpha)
    alpha.apply(mesh.netmap(1, alpha.node(), stock.node()))
    for source, destination in ((alpha, stock.host), (stock.host, alpha)):
        assert transfer(source, destination, destination.addresses[inner], CONTENT) == CONTENT
    # The kernel looks for routers and listeners on every interface.
    assert set(alpha.status()["drops"]) <= {"no-peer-for-destination"}


@FAMILIES
@pytest.mark.parametrize("size", [0, 1, 1372, 1392, 1393, 20_000, 65_000])
def test_datagrams_of_any_size(mesh: Mesh, alpha: Host, stock: StockPeer, inner: int, size: int) -> None:
    """Full packets, fragments, and those that are padded up to the MTU."""
    stock.know(alpha)
    alpha.apply(mesh.netmap(1, alpha.node(), stock.node()))
    for host, other in ((alpha, stock.host), (stock.host, alpha)):
        host.run("ping", "-n", "-c", "1", "-W", "5", "-s", str(size), other.addresses[inner])


def test_both_count_the_same_bytes(mesh: Mesh, alpha: Host, stock: StockPeer) -> None:
    stock.know(alpha)
    alpha.apply(mesh.netmap(1, alpha.node(), stock.node()))
    ping(alpha, stock.host.addresses[0])

    def counted() -> tuple[int, int]:
        peer = alpha.peer("stock")
        return peer["tx_bytes"], peer["rx_bytes"]

    def told() -> tuple[int, int]:
        received, sent = stock.shown("transfer").split("\t")
        return int(received), int(sent)

    # The agent sums up for a moment what it counts, and wireguard-go counts what it has sent a moment later.
    wait(lambda: counted() == told(), f"{told()} bytes, not {counted()}")


def test_the_stock_peer_moves(mesh: Mesh, alpha: Host, stock: StockPeer) -> None:
    """To another port, and to the other family; the next packet goes there."""
    stock.know(alpha, "endpoint", underlay(alpha, 0))
    alpha.apply(mesh.netmap(1, alpha.node(), stock.node(endpoint=None)))
    ping(stock.host, alpha.addresses[0])
    stock.wg("set", stock.interface, "listen-port", "4444")
    ping(stock.host, alpha.addresses[0])
    assert alpha.peer("stock")["endpoint"] == f"{stock.host.underlay[0]}:4444"
    stock.know(alpha, "endpoint", underlay(alpha, 1))
    ping(stock.host, alpha.addresses[0])
    assert alpha.peer("stock")["endpoint"] == f"[{stock.host.underlay[1]}]:4444"
    ping(alpha, stock.host.addresses[1])


def test_a_source_that_is_not_allowed_does_not_pass(mesh: Mesh, alpha: Host, stock: StockPeer) -> None:
    stock.know(alpha, "endpoint", underlay(alpha, 0))
    alpha.apply(mesh.netmap(1, alpha.node(), stock.node()))
    ping(stock.host, alpha.addresses[0])
    stock.host.run("ip", "addr", "add", "100.64.7.7/32", "dev", stock.interface)
    stock.host.run("ping", "-n", "-c", "1", "-W", "1", "-I", "100.64.7.7", alpha.addresses[0], check=False)
    ping(stock.host, alpha.addresses[0])
    wait(lambda: alpha.status()["drops"].get("source-not-allowed") == 1, "one packet that was not allowed")
