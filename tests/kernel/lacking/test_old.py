"""Debian 11's kernel (5.10): no UDP segmentation offload of TUN, and a loopback that joins no datagrams."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.interop.agents import Mesh
from tests.interop.stock import transfer
from tests.native import library


@pytest.mark.parametrize("core", ["python", "native"])
def test_userspace_does_without_what_the_kernel_lacks(tmp_path: Path, core: str) -> None:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        signed = mesh.netmap(1, alpha.node(), beta.node())
        for host in mesh.hosts:
            host.environment["SENNIT_NATIVE"] = "none" if core == "python" else str(library())
            host.configure(datapath="userspace")
            host.start()
            host.apply(signed)
        for host, other in ((alpha, beta), (beta, alpha)):
            for address in other.addresses:
                host.run("ping", "-n", "-c", "1", "-W", "10", "-s", "1372", address)
                content = random.Random(address).randbytes(1 << 19)
                assert transfer(host, other, address, content) == content
            assert (host.status()["core"], host.status()["problems"]) == (core, [])
            told = [line for line in str(host.log).splitlines() if "going on without it" in line]
            assert len(told) == 1 and "TUN has no offload of UDP segmentation" in told[0], told
