"""sennit.mesh.gateway's nftables table on a gateway between a mesh interface and a LAN, with packets.

The mesh interface is a cable here: what the table sees of a tunnel is an interface's name and its MTU.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.interop.agents import run
from tests.interop.namespaces import enter

PREFIX = f"sgw{os.getpid()}"
MESH, GATEWAY, LAN, OUTSIDE = (f"{PREFIX}-{name}" for name in ("mesh", "gateway", "lan", "outside"))
ADDRESSES = {
    MESH: {4: "100.64.0.2", 6: "fd00:1::2"},
    LAN: {4: "192.168.50.20", 6: "fd50::20"},
    OUTSIDE: {4: "203.0.113.80", 6: "2001:db8::80"},
}
# (interface on the gateway, other end, the gateway's addresses)
CABLES = [
    ("sennit0", MESH, ["100.64.0.1/10", "fd00:1::1/48"]),
    ("lan0", LAN, ["192.168.50.1/24", "fd50::1/64"]),
    ("wan0", OUTSIDE, ["203.0.113.1/24", "2001:db8::1/64"]),
]
TIMEOUT = 2.0


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The collection's own code under its full name, as it stands in the tree."""
    with tempfile.TemporaryDirectory() as directory:
        namespace = Path(directory) / "ansible_collections" / "sennit"
        namespace.mkdir(parents=True)
        (namespace / "mesh").symlink_to(Path(__file__).parents[2])
        sys.path.insert(0, directory)
        try:
            from ansible_collections.sennit.mesh.plugins.module_utils import _carried, _nftables

            yield _carried, _nftables
        finally:
            sys.path.remove(directory)


@pytest.fixture
def gateway() -> Iterator[None]:
    names = [GATEWAY, MESH, LAN, OUTSIDE]
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            run("ip", "-n", name, "link", "set", "lo", "up")
        forwarding = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        run("ip", "netns", "exec", GATEWAY, "sysctl", "-qw", *forwarding)
        for interface, other, addresses in CABLES:
            peer = ["peer", "name", "eth0", "netns", other]
            run("ip", "-n", GATEWAY, "link", "add", interface, "type", "veth", *peer)
            run("ip", "-n", GATEWAY, "link", "set", interface, "up")
            run("ip", "-n", other, "link", "set", "eth0", "up")
            for address in addresses:
                run("ip", "-n", GATEWAY, "address", "add", address, "dev", interface)
                own = ipaddress.ip_interface(address)
                theirs = f"{ADDRESSES[other][own.version]}/{own.network.prefixlen}"
                run("ip", "-n", other, "address", "add", theirs, "dev", "eth0")
                run("ip", "-n", other, "route", "add", "default", "via", str(own.ip))
        # Narrower on this side only, so that what the others offer is too much.
        run("ip", "-n", GATEWAY, "link", "set", "sennit0", "mtu", "1420")
        yield
    finally:
        for name in names:
            run("ip", "netns", "del", name, check=False)


@pytest.fixture
def table(gateway: None, modules: Any, tmp_path: Path) -> Any:
    """Load the table of a gateway that carries this."""
    carried, nftables = modules

    def load(clamp_only: bool = False, **what: Any) -> None:
        destinations = [(ipaddress.ip_network(text), "lan0") for text in ("192.168.50.0/24", "fd50::/64")]
        on_link = [ipaddress.ip_interface(a).network for _name, _other, own in CABLES[1:] for a in own]
        # The outside is on-link only for want of a router.
        refused = [p for p in carried.not_the_internet(on_link) if not p.overlaps(_network(p, OUTSIDE))]
        carries = carried.Carried(
            "sennit0", [], what.pop("destinations", destinations), not_the_internet=refused, **what
        )
        script = tmp_path / "table.nft"
        script.write_text(nftables.clamp_rules("sennit0") if clamp_only else nftables.gateway_rules(carries))
        run("ip", "netns", "exec", GATEWAY, "nft", "-f", str(script))

    return load


def _network(like: Any, name: str) -> Any:
    return ipaddress.ip_network(ADDRESSES[name][like.version])


def _in(name: str, function: Any, *arguments: Any) -> Any:
    """Call it in a thread of its own, which lives in that namespace."""

    def call() -> Any:
        enter(f"/run/netns/{name}")
        return function(*arguments)

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result()


def _listen(family: int) -> socket.socket:
    listener = socket.create_server(("", 80), family=family)
    listener.settimeout(TIMEOUT)
    return listener


def connect(source: str, destination: str, version: int) -> tuple[str, int, int] | None:
    """The source's address as the destination sees it, and the MSS of both ends without options; None if refused."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with _in(destination, _listen, family) as listener:
        try:
            client = _in(source, socket.create_connection, (ADDRESSES[destination][version], 80), TIMEOUT)
        except (PermissionError, ConnectionRefusedError, OSError):
            return None
        with client:
            server, peer = listener.accept()
            with server:
                sizes = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for end in (client, server)]
                return peer[0], sizes[0], sizes[1]


# What fits into 1420 bytes: without the headers of IP and TCP, and TCP's timestamps.
FITTING = {4: 1420 - 20 - 20 - 12, 6: 1420 - 40 - 20 - 12}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("clamp_only", [False, True], ids=["whole", "with firewalld"])
def test_tcp_is_clamped_in_both_directions(table: Any, version: int, clamp_only: bool) -> None:
    table(clamp_only, from_lan=True, masquerade=False)
    for source, destination in ((MESH, LAN), (LAN, MESH)):
        connected = connect(source, destination, version)
        assert connected is not None
        assert connected[1:] == (FITTING[version], FITTING[version])


@pytest.mark.parametrize("version", [4, 6])
def test_what_does_not_pass_the_mesh_is_left_alone(table: Any, version: int) -> None:
    table(exit_node=True)
    assert connect(LAN, OUTSIDE, version) == (ADDRESSES[LAN][version], FITTING[version] + 80, FITTING[version] + 80)


@pytest.mark.parametrize("version", [4, 6])
def test_subnet_routes_with_the_routers_address(table: Any, version: int) -> None:
    table()
    seen = connect(MESH, LAN, version)
    assert seen is not None
    assert seen[0] == {4: "192.168.50.1", 6: "fd50::1"}[version]
    assert connect(LAN, MESH, version) is None
    assert connect(MESH, OUTSIDE, version) is None


@pytest.mark.parametrize("version", [4, 6])
def test_subnet_routes_with_everyones_own_address_both_ways(table: Any, version: int) -> None:
    table(masquerade=False, from_lan=True)
    for source, destination in ((MESH, LAN), (LAN, MESH)):
        seen = connect(source, destination, version)
        assert seen is not None
        assert seen[0] == ADDRESSES[source][version]
    assert connect(OUTSIDE, MESH, version) is None


@pytest.mark.parametrize("version", [4, 6])
def test_an_exit_node_shows_its_own_address_and_not_its_lan(table: Any, version: int) -> None:
    table(exit_node=True, destinations=[])
    seen = connect(MESH, OUTSIDE, version)
    assert seen is not None
    assert seen[0] == {4: "203.0.113.1", 6: "2001:db8::1"}[version]
    assert connect(MESH, LAN, version) is None
    assert connect(OUTSIDE, MESH, version) is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("masquerade", [False, True])
def test_an_exit_node_that_is_a_subnet_router_too(table: Any, version: int, masquerade: bool) -> None:
    table(exit_node=True, masquerade=masquerade)
    outside, inside = connect(MESH, OUTSIDE, version), connect(MESH, LAN, version)
    assert outside is not None
    assert inside is not None
    assert outside[0] == {4: "203.0.113.1", 6: "2001:db8::1"}[version]
    assert inside[0] == ({4: "192.168.50.1", 6: "fd50::1"} if masquerade else ADDRESSES[MESH])[version]
