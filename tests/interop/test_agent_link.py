"""An administrator sets the agent's interface down, and up again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh, wait

STUB = "100.100.100.100"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        for host in mesh.hosts:
            host.start()
        signed = mesh.netmap(1, *(host.node() for host in mesh.hosts))
        for host in mesh.hosts:
            host.apply(signed)
        yield mesh


def listens(host: Host) -> bool:
    return host.run("ss", "-Hlun", f"sport = :{PORT}") != ""


def addresses(host: Host) -> list[str]:
    return [word for word in host.run("ip", "-br", "addr", "show", "sennit0").split() if "/" in word]


def ping(host: Host, *targets: str) -> None:
    for target in targets:
        host.run("ping", "-n", "-c", "1", "-W", "10", target)


def problem(host: Host) -> bool:
    return any("somebody has set it down" in problem for problem in host.status()["problems"])


def test_a_link_that_is_set_down_stays_down_and_brings_all_back_when_it_is_up(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    ping(alpha, *beta.addresses)
    before, routes = addresses(alpha), alpha.traces()
    handshake = alpha.peer("beta")["latest_handshake"]
    resolv_conf = alpha.directory / "resolv.conf"
    assert STUB in resolv_conf.read_text()
    alpha.run("ip", "link", "set", "sennit0", "down")
    # Names that nobody could be asked for by the tunnel are asked for as without it.
    wait(lambda: problem(alpha) and not listens(alpha) and not resolv_conf.exists(), "all of it down")
    # A look for another reason does not undo it either.
    alpha.apply(mesh.netmap(2, alpha.node(), beta.node()))
    assert "UP" not in alpha.run("ip", "-br", "link", "show", "sennit0")
    assert alpha.peer("beta")["latest_handshake"] == handshake
    assert alpha.status()["listen_port"] == PORT
    alpha.run("ip", "link", "set", "sennit0", "up")
    wait(lambda: addresses(alpha) == before and alpha.traces() == routes and not problem(alpha), "all of it back")
    wait(resolv_conf.exists, "the stub asked again")
    ping(alpha, *beta.addresses)
    ping(beta, *alpha.addresses)
    assert alpha.peer("beta")["latest_handshake"] > handshake


def test_a_link_that_is_down_goes_with_its_agent_and_the_next_sets_it_up(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    alpha.run("ip", "link", "set", "sennit0", "down")
    wait(lambda: problem(alpha), "a problem told")
    assert alpha.stop(signal.SIGTERM) == 0
    assert alpha.traces() == {}
    alpha.start()
    ping(alpha, *beta.addresses)
