"""Agents in userspace on a kernel that lacks a feature: it is told once, and done without."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop import lacking
from tests.interop.agents import Host, Mesh
from tests.interop.stock import transfer
from tests.native import library

TOLD = {
    "UDP_SEGMENT": "this kernel has no UDP_SEGMENT; going on without it",
    "UDP_GRO": "this kernel has no UDP_GRO; going on without it",
    "USO": "this kernel's TUN has no offload of UDP segmentation; going on without it",
    "TSO": "this kernel's TUN has no offload of segmentation; going on without it",
    "steering": "this kernel does not steer datagrams to one of several sockets; going on with one",
    "IPv6": "this host has no IPv6; the underlay is IPv4 only",
}


@pytest.fixture(params=["python", "native"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    """Two hosts whose agents are yet to start."""
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        for host in mesh.hosts:
            host.environment["SENNIT_NATIVE"] = "none" if request.param == "python" else str(library())
            host.environment["SENNIT_QUEUES"] = "2"
        yield mesh.hosts[0], mesh.hosts[1]


@pytest.mark.parametrize("features", [(feature,) for feature in TOLD] + [tuple(TOLD)], ids="+".join)
def test_everything_passes_without(pair: tuple[Host, Host], features: tuple[str, ...]) -> None:
    alpha, beta = pair
    alpha.configure(datapath="userspace")
    alpha.wrapper = lacking.command(*features)
    signed = alpha.mesh.netmap(1, alpha.node(), beta.node())
    for host in pair:
        host.start()
        host.apply(signed)
    for host, other in ((alpha, beta), (beta, alpha)):
        for address in other.addresses[: 1 if "IPv6" in features else 2]:
            host.run("ping", "-n", "-c", "1", "-W", "10", "-s", "1372", address)
            content = random.Random(address).randbytes(1 << 20)
            assert transfer(host, other, address, content) == content
    for feature in features:
        # All that TUN can do is one line.
        if (feature, "TSO" in features) != ("USO", True):
            assert str(alpha.log).count(TOLD[feature]) == 1, str(alpha.log)
    assert not any(line in str(beta.log) for line in TOLD.values())
    assert ("this kernel has no IPv6" in str(alpha.status()["problems"])) == ("IPv6" in features)
