"""Debian 11's kernel (5.10) with modprobe.blacklist=wireguard: no WireGuard, and no offload of UDP segmentation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.interop.agents import PATIENCE, Mesh
from tests.interop.stock import transfer
from tests.native import library


@pytest.mark.parametrize("core", ["python", "native"])
def test_userspace_does_without_what_the_kernel_lacks(tmp_path: Path, core: str) -> None:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        signed = mesh.netmap(1, alpha.node(), beta.node())
        for host in mesh.hosts:
            host.environment["SENNIT_NATIVE"] = "none" if core == "python" else str(library())
            host.start()
            host.apply(signed)
        for host, other in ((alpha, beta), (beta, alpha)):
            for address in other.addresses:
                host.run("ping", "-n", "-c", "1", "-W", "10", "-s", "1372", address)
                content = random.Random(address).randbytes(1 << 19)
                assert transfer(host, other, address, content) == content
            assert (host.status()["core"], host.status()["problems"]) == (core, [])
            for text in ("going on without it", "this kernel has no WireGuard; the datapath is in userspace"):
                host.log.wait_for(text)
            told = [line for line in str(host.log).splitlines() if "going on without it" in line]
            assert len(told) == 1 and "TUN has no offload of UDP segmentation" in told[0], told
            assert str(host.log).count("this kernel has no WireGuard; the datapath is in userspace") == 1


def test_where_the_kernels_is_demanded_that_is_told_and_not_tried_again(tmp_path: Path) -> None:
    with Mesh(tmp_path, "alpha") as mesh:
        (alpha,) = mesh.hosts
        alpha.configure(datapath="kernel")
        assert alpha.launch().wait(PATIENCE) == 78
        alpha.log.wait_for("datapath: kernel: this kernel has no WireGuard; auto or userspace does without")
        assert alpha.traces() == {}
