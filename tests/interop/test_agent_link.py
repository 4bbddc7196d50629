"""An administrator sets the agent's interface down, and up again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh

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


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline


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
    until(lambda: problem(alpha) and not listens(alpha) and not resolv_conf.exists())
    # A look for another reason does not undo it either.
    alpha.apply(mesh.netmap(2, alpha.node(), beta.node()))
    assert "UP" not in alpha.run("ip", "-br", "link", "show", "sennit0")
    assert alpha.peer("beta")["latest_handshake"] == handshake
    assert alpha.status()["listen_port"] == PORT
    alpha.run("ip", "link", "set", "sennit0", "up")
    until(lambda: addresses(alpha) == before and alpha.traces() == routes and not problem(alpha))
    until(resolv_conf.exists)
    ping(alpha, *beta.addresses)
    ping(beta, *alpha.addresses)
    assert alpha.peer("beta")["latest_handshake"] > handshake


def test_a_link_that_is_down_goes_with_its_agent_and_the_next_sets_it_up(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    alpha.run("ip", "link", "set", "sennit0", "down")
    until(lambda: problem(alpha))
    assert alpha.stop(signal.SIGTERM) == 0
    assert alpha.traces() == {}
    alpha.start()
    ping(alpha, *beta.addresses)
