"""A host with several addresses and interfaces: answers leave from where the question came to, as the peer captures it.

alpha has two addresses on the switch, and a second wire to beta. beta's own address is on neither of them, so that
alpha's routes say how it is reached.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh
from tests.interop.namespaces import add_address
from tests.native import library

SWITCH = ("192.0.2.1", "2001:db8::1")
SECOND = ("192.0.2.101", "2001:db8::101")
WIRE = ("198.51.100.1", "2001:db8:1::1")
BETA_ON_SWITCH = ("192.0.2.2", "2001:db8::2")
BETA_ON_WIRE = ("198.51.100.2", "2001:db8:1::2")
BETA = ("203.0.113.2", "2001:db8:2::2")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])


def endpoint(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


class Capture:
    """What arrives at a host's underlay port: the interface and the source of each datagram."""

    def __init__(self, host: Host) -> None:
        self._tcpdump = subprocess.Popen(
            ["ip", "netns", "exec", host.namespace, "tcpdump", "--immediate-mode", "-l", "-n", "-i", "any", "-Q", "in",
             "udp", "and", "dst", "port", str(PORT)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._tcpdump.stderr is None or self._tcpdump.stdout is None:
            raise AssertionError("there are pipes")
        self._lines = self._tcpdump.stdout
        while "listening on" not in (line := self._tcpdump.stderr.readline()):
            if not line:
                raise AssertionError("tcpdump does not start")

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._tcpdump.kill()
        self._tcpdump.communicate()

    def next(self) -> tuple[str, str]:
        """The next datagram that arrives."""
        _time, interface, _in, _ip, source = self._lines.readline().split()[:5]
        return interface, source.rpartition(".")[0]


@pytest.fixture(params=["python", "native"])
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        alpha.environment["SENNIT_NATIVE"] = "none" if request.param == "python" else str(library())
        alpha.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", beta.namespace)
        for host in mesh.hosts:
            host.run("ip", "link", "set", "eth1", "up")
        for host, addresses in ((alpha, WIRE), (beta, BETA_ON_WIRE)):
            for address in (f"{addresses[0]}/24", f"{addresses[1]}/64"):
                add_address(address, "eth1", host.namespace)
            for name in ("all", "eth0", "eth1"):
                host.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        alpha.run("ip", "addr", "add", f"{SECOND[0]}/24", "dev", "eth0")
        # Not to be chosen by the host itself.
        alpha.run("ip", "addr", "add", f"{SECOND[1]}/64", "dev", "eth0", "nodad", "preferred_lft", "0")
        for address in BETA:
            add_address(address, "lo", beta.namespace)
        yield alpha, beta


def connect(alpha: Host, beta: Host, address: str, device: str, source: str) -> None:
    """Have beta speak to this address of alpha, through its device and from its source."""
    beta.run("ip", "route", "add", address, "dev", device, "src", source)
    signed = alpha.mesh.netmap(1, alpha.node(endpoint=endpoint(address)), beta.node(endpoint=None))
    for host in (alpha, beta):
        host.start()
        host.apply(signed)


def route(alpha: Host, family: int, device: str, metric: int) -> None:
    """A route of alpha to beta."""
    gateway = (BETA_ON_SWITCH if device == "eth0" else BETA_ON_WIRE)[family]
    alpha.run("ip", "route", "add", BETA[family], "via", gateway, "dev", device, "metric", str(metric))


def ping(host: Host, other: Host) -> None:
    host.run("ping", "-n", "-c", "1", "-W", "10", other.addresses[0])


@FAMILIES
def test_the_address_that_was_spoken_to(hosts: tuple[Host, Host], family: int) -> None:
    """For the handshake and for data, and for what the host sends by itself later."""
    alpha, beta = hosts
    connect(alpha, beta, SECOND[family], "eth0", BETA_ON_SWITCH[family])
    with Capture(beta) as capture:
        ping(beta, alpha)
        ping(alpha, beta)
        assert [capture.next() for _ in range(3)] == [("eth0", SECOND[family])] * 3
    assert beta.peer("alpha")["endpoint"] == endpoint(SECOND[family])


def test_the_interface_too_where_a_route_leads_through_it(hosts: tuple[Host, Host]) -> None:
    alpha, beta = hosts
    route(alpha, 0, "eth0", 10)
    route(alpha, 0, "eth1", 2000)
    connect(alpha, beta, WIRE[0], "eth1", BETA[0])
    with Capture(beta) as capture:
        ping(beta, alpha)
        assert [capture.next() for _ in range(2)] == [("eth1", WIRE[0])] * 2


@FAMILIES
def test_a_table_for_each_source(hosts: tuple[Host, Host], family: int) -> None:
    """As hosts with two providers have it."""
    alpha, beta = hosts
    route(alpha, family, "eth0", 10)
    alpha.run("ip", "route", "add", BETA[family], "via", BETA_ON_WIRE[family], "dev", "eth1", "table", "100")
    alpha.run("ip", ("-4", "-6")[family], "rule", "add", "from", WIRE[family], "table", "100")
    connect(alpha, beta, WIRE[family], "eth1", BETA[family])
    with Capture(beta) as capture:
        ping(beta, alpha)
        assert [capture.next() for _ in range(2)] == [("eth1", WIRE[family])] * 2


@FAMILIES
def test_where_no_route_leads_back_the_address_alone(hosts: tuple[Host, Host], family: int) -> None:
    alpha, beta = hosts
    route(alpha, family, "eth0", 10)
    connect(alpha, beta, WIRE[family], "eth1", BETA[family])
    with Capture(beta) as capture:
        ping(beta, alpha)
        assert [capture.next() for _ in range(2)] == [("eth0", WIRE[family])] * 2


@FAMILIES
def test_an_address_that_is_gone(hosts: tuple[Host, Host], family: int) -> None:
    """The next packet leaves from one that is there, and the peer follows."""
    alpha, beta = hosts
    connect(alpha, beta, SECOND[family], "eth0", BETA_ON_SWITCH[family])
    ping(beta, alpha)
    alpha.run("ip", "addr", "del", f"{SECOND[family]}/{(24, 64)[family]}", "dev", "eth0")
    with Capture(beta) as capture:
        ping(alpha, beta)
        assert capture.next() == ("eth0", SWITCH[family])
    assert beta.peer("alpha")["endpoint"] == endpoint(SWITCH[family])


@FAMILIES
def test_an_interface_that_goes_down(hosts: tuple[Host, Host], family: int) -> None:
    alpha, beta = hosts
    route(alpha, family, "eth0", 2000)
    route(alpha, family, "eth1", 10)
    connect(alpha, beta, WIRE[family], "eth1", BETA[family])
    ping(beta, alpha)
    beta.run("ip", "route", "del", WIRE[family])
    beta.run("ip", "route", "add", WIRE[family], "dev", "eth0", "src", BETA[family])
    alpha.run("ip", "link", "set", "eth1", "down")
    with Capture(beta) as capture:
        ping(alpha, beta)
        assert capture.next()[0] == "eth0"


@FAMILIES
def test_routes_that_lead_elsewhere_now(hosts: tuple[Host, Host], family: int) -> None:
    """Address and interface are given up, and the peer follows."""
    alpha, beta = hosts
    route(alpha, family, "eth0", 2000)
    connect(alpha, beta, SWITCH[family], "eth0", BETA[family])
    ping(beta, alpha)
    with Capture(beta) as capture:
        route(alpha, family, "eth1", 10)
        # Pings that are on their way meanwhile are answered where they were sent.
        while True:
            ping(alpha, beta)
            if capture.next() == ("eth1", WIRE[family]):
                break
    assert beta.peer("alpha")["endpoint"] == endpoint(WIRE[family])
