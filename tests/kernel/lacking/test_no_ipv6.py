"""A kernel that was started with ipv6.disable=1: no socket, no address and no route of IPv6 can be made."""

from __future__ import annotations

from pathlib import Path

from tests.interop.agents import Mesh


def test_both_datapaths_do_with_ipv4(tmp_path: Path) -> None:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        beta.configure(datapath="userspace")
        signed = mesh.netmap(1, alpha.node(), beta.node())
        for host in mesh.hosts:
            host.start()
            host.apply(signed)
        assert [host.status()["datapath"] for host in mesh.hosts] == ["kernel", "userspace"]
        beta.log.wait_for("this host has no IPv6; the underlay is IPv4 only")
        assert str(beta.log).count("this host has no IPv6; the underlay is IPv4 only") == 1
        for host, other in ((alpha, beta), (beta, alpha)):
            host.run("ping", "-n", "-c", "1", "-W", "10", other.addresses[0])
            # What cannot be had is told, once, and is all that is missing.
            (notice,) = host.status()["problems"]
            assert notice == "this kernel has no IPv6: of the mesh, this host has its IPv4 addresses alone"
            host.log.wait_for(notice)
            assert str(host.log).count(notice) == 1
        assert f"{beta.addresses[0]} dev sennit0" in alpha.run("ip", "-4", "route", "show", "table", "21472")
