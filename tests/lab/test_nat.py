"""The lab's NAT routers, by what they do to packets: no machines, only namespaces."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator

import pytest
import yaml
from sennit_lab import network
from sennit_lab.commands import ip_batch, run
from sennit_lab.nat import ADDRESS_DEPENDENT, ENDPOINT_INDEPENDENT, KINDS, SYMMETRIC
from sennit_lab.topology import load

LAB = f"nattest{os.getpid()}"
PORT = 51820
KINDS_BY_NUMBER = list(enumerate(KINDS, 1))
_CLONE_NEWNET = 0x40000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture(scope="module", autouse=True)
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two hosts behind a router of each kind, and two on the internet."""
    networks = {"internet": ["203.0.113.0/24", "2001:db8::/64"]}
    routers, hosts = {}, {}
    for number, kind in KINDS_BY_NUMBER:
        networks[f"lan{number}"] = [f"192.168.{number}.0/24", f"2001:db8:{number}::/64"]
        routers[kind] = {
            "wan0": {"network": "internet", "addresses": [f"203.0.113.{number}", f"2001:db8::{number}"]},
            "lan0": {"network": f"lan{number}", "addresses": [f"192.168.{number}.1", f"2001:db8:{number}::1"]},
            "nat": {"outside": "wan0", "kind": kind},
        }
        for which in (1, 2):
            addresses = [f"192.168.{number}.1{which}", f"2001:db8:{number}::1{which}"]
            interfaces = {"eth0": {"network": f"lan{number}", "addresses": addresses}}
            hosts[f"in{number}-{which}"] = {"interfaces": interfaces, "gateway": kind}
    for which in (1, 2):
        interface = {"network": "internet", "addresses": [f"203.0.113.10{which}", f"2001:db8::10{which}"]}
        hosts[f"out{which}"] = {"interfaces": {"eth0": interface}}
    path = tmp_path_factory.mktemp("nat") / "topology.yml"
    path.write_text(yaml.safe_dump({"networks": networks, "routers": routers, "hosts": hosts}), encoding="utf-8")
    topology = load(path)
    plan = network.cables(LAB, topology)
    try:
        network.add_switches(LAB, topology)
        for router in topology.routers.values():
            network.add_router(LAB, topology, router, plan[router.name])
        for host in topology.hosts.values():
            network.add_host(LAB, host.name, plan[host.name])
            addresses = [f"address add {a} dev eth0 nodad" for i in host.interfaces for a in i.addresses]
            routes = [f"route add default via {hop}" for hop in topology.gateways(host)]
            ip_batch(network.namespace(LAB, host.name), ["link set eth0 up", *addresses, *routes])
        ipv6 = [f"route add 2001:db8:{number}::/64 via 2001:db8::{number}" for number, _kind in KINDS_BY_NUMBER]
        for number in (1, 2):
            ip_batch(network.namespace(LAB, f"out{number}"), ipv6)
        yield
    finally:
        network.remove(LAB)


def udp(host: str, family: int = socket.AF_INET) -> socket.socket:
    """A socket on a host, at the port that all of them use."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(network.NETNS / network.namespace(LAB, host), os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), host)
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind(("", PORT))
        made.settimeout(5)
        return made
    finally:
        libc.setns(home, _CLONE_NEWNET)
        os.close(home)
        os.close(there)


def outside(sender: socket.socket, receiver: socket.socket, address: str) -> tuple[str, int]:
    """Where a packet seems to come from."""
    sender.sendto(b"hello", (address, PORT))
    source: tuple[str, int] = receiver.recvfrom(100)[1][:2]
    return source


def reaches(sender: socket.socket, receiver: socket.socket, to: tuple[str, int], sign: socket.socket) -> bool:
    """Whether a packet of out2 gets through; `sign` has a way for sure, so that nobody waits for what does not come."""
    sender.sendto(b"uninvited", to)
    # It may have to wait for its neighbour's address. What is answered behind it tells that it has gone its way.
    run("ip", "netns", "exec", network.namespace(LAB, "out2"), "ping", "-n", "-c", "1", "-W", "5", to[0])
    sign.sendto(b"sign", to)
    came = receiver.recv(100) == b"uninvited"
    assert not came or receiver.recv(100) == b"sign"
    return came


@pytest.mark.parametrize(("number", "kind"), KINDS_BY_NUMBER)
def test_what_a_host_behind_it_looks_like_and_who_can_reach_it(number: int, kind: str) -> None:
    with udp(f"in{number}-1") as one, udp(f"in{number}-2") as two, udp("out1") as first, udp("out2") as second:
        at_first = outside(one, first, "203.0.113.101")
        assert at_first[0] == f"203.0.113.{number}"
        # An answer always comes through, and another host behind the router, with the same port, is somebody else.
        first.sendto(b"answer", at_first)
        assert one.recv(100) == b"answer"
        assert outside(two, first, "203.0.113.101")[1] != at_first[1]
        # Whoever was not asked anything:
        assert reaches(second, one, at_first, first) == (kind == ENDPOINT_INDEPENDENT)
        at_second = outside(one, second, "203.0.113.102")
        assert (at_first == at_second) == (kind != SYMMETRIC)
        # Both have been asked, but each at its own outside port.
        assert reaches(second, one, at_first, first) == (kind in (ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT))


@pytest.mark.parametrize("number", [number for number, _kind in KINDS_BY_NUMBER])
def test_ipv6_is_not_translated_but_admits_answers_only(number: int) -> None:
    address, port = f"2001:db8:{number}::11", PORT
    with udp(f"in{number}-1", socket.AF_INET6) as one, udp("out1", socket.AF_INET6) as first:
        assert outside(one, first, "2001:db8::101") == (address, port)
        with udp("out2", socket.AF_INET6) as second:
            assert not reaches(second, one, (address, port), first)
            assert outside(one, second, "2001:db8::102") == (address, port)
            second.sendto(b"answer", (address, port))
            assert one.recv(100) == b"answer"
