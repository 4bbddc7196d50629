"""The service is restarted, as systemd does it: the TUN device stays, and what is sent meanwhile does not go astray."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PACKAGE_ROOT, Host, Mesh

UNIT = "sennit.service"


@pytest.fixture(params=["1", "2"], ids=["one-queue", "two-queues"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    """alpha's manager is this test: a systemctl that says what job there is, and what keeps descriptors."""
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        systemctl = tmp_path / "bin" / "systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(f"#!/bin/sh\ncat {tmp_path}/jobs\n")
        systemctl.chmod(0o755)
        alpha.environment |= {
            "SENNIT_UNIT": UNIT, "PATH": f"{systemctl.parent}:{os.environ['PATH']}", "SENNIT_QUEUES": request.param,
        }  # fmt: skip
        signed = mesh.netmap(1, alpha.node(), beta.node())
        for host in mesh.hosts:
            host.start()
            host.apply(signed)
        alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
        yield alpha, beta


def stop_for(host: Host, job: str) -> int | None:
    """Stop the agent with this job; the descriptor that it gave to be kept, if it gave one."""
    (host.mesh.directory / "jobs").write_text(f"123 {UNIT} {job} running\n")
    assert host.agent is not None
    host.agent.send_signal(signal.SIGTERM)
    kept = None
    message = ""
    while message != "STOPPING=1":
        message, _none = host.notifications.next()
    if job == "restart":
        message, (kept,) = host.notifications.next()
        assert message.splitlines() == ["FDSTORE=1", "FDNAME=tun", "FDPOLL=0"]
        message, (barrier,) = host.notifications.next()
        assert message == "BARRIER=1"
        os.close(barrier)
    assert host.agent.wait(30) == 0
    host.agent = None
    return kept


def start_with(host: Host, kept: int) -> None:
    """As sd_listen_fds(3) has it."""
    host.descriptors = (kept,)
    host.wrapper = [
        "bash",
        "-c",
        f'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tun exec "$@" 3<&{kept} {kept}<&-',
        "bash",
    ]
    host.agent = host.launch()
    host.notifications.wait_for("FDSTOREREMOVE=1\nFDNAME=tun", host.agent)
    os.close(kept)
    host.notifications.wait_for("READY=1", host.agent)


def index(host: Host) -> str:
    return host.run("cat", "/sys/class/net/sennit0/ifindex")


def test_the_device_stays_with_its_addresses_and_routes(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    before, addresses, traces = index(alpha), alpha.run("ip", "-o", "addr", "show", "sennit0"), alpha.traces()
    kept = stop_for(alpha, "restart")
    assert kept is not None
    assert (index(alpha), alpha.run("ip", "-o", "addr", "show", "sennit0"), alpha.traces()) == (
        before, addresses, traces
    )  # fmt: skip
    # Sent while nobody is there to take it, and answered.
    command = ["ip", "netns", "exec", alpha.namespace, "ping", "-n", "-c", "1", "-W", "30", beta.addresses[0]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as waiting:
        start_with(alpha, kept)
        assert waiting.wait(30) == 0
    assert index(alpha) == before
    # It is the agent's alone again: should it be killed, nobody is stranded.
    assert alpha.stop(signal.SIGKILL) == -signal.SIGKILL
    assert "sennit0" not in alpha.run("ip", "link")


@pytest.mark.parametrize("pair", ["1", "3"], indirect=True)
def test_another_number_of_queues(pair: tuple[Host, Host]) -> None:
    """A device has the queues that it was made with; where it was made for several, as many as are wanted now."""
    alpha, beta = pair
    before, made = index(alpha), alpha.environment["SENNIT_QUEUES"]
    for wanted in ("2", "1"):
        kept = stop_for(alpha, "restart")
        assert kept is not None
        alpha.environment["SENNIT_QUEUES"] = wanted
        start_with(alpha, kept)
        assert index(alpha) == before
        assert len(alpha.called("sennit-outbound")) == (int(wanted) if made == "3" else 1)
        told = "sennit0: the TUN device has one queue; going on without more"
        assert str(alpha.log).count(told) == (1 if made == "1" and wanted == "2" else 0)
        for address in beta.addresses:
            alpha.run("ping", "-n", "-c", "1", "-W", "10", address)


def test_a_stop_for_good_leaves_nothing(pair: tuple[Host, Host]) -> None:
    alpha, _beta = pair
    assert stop_for(alpha, "stop") is None
    assert alpha.traces() == {}


def test_an_interface_of_another_name_goes(pair: tuple[Host, Host]) -> None:
    """Between the two runs the configuration has changed."""
    alpha, beta = pair
    kept = stop_for(alpha, "restart")
    assert kept is not None
    alpha.configure(interface="mesh0")
    start_with(alpha, kept)
    links = alpha.run("ip", "link")
    assert "sennit0" not in links
    assert "mesh0" in links
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])


def test_the_device_gets_another_mtu(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    assert "mtu 1280 " in alpha.run("ip", "link", "show", "sennit0")
    before = index(alpha)
    kept = stop_for(alpha, "restart")
    assert kept is not None
    alpha.configure(mtu=1380)
    start_with(alpha, kept)
    assert index(alpha) == before
    assert "mtu 1380 " in alpha.run("ip", "link", "show", "sennit0")
    # The datapath's own size has changed with it.
    alpha.run("ping", "-n", "-c", "1", "-W", "10", "-M", "do", "-s", str(1380 - 28), beta.addresses[0])


def test_a_start_that_fails_strands_nobody(pair: tuple[Host, Host]) -> None:
    alpha, _beta = pair
    kept = stop_for(alpha, "restart")
    assert kept is not None
    (alpha.directory / "state/private.key").write_text("no key")
    with pytest.raises(AssertionError, match="the agent ended"):
        start_with(alpha, kept)
    alpha.agent = None
    assert "sennit0" not in alpha.run("ip", "link")


def test_an_agent_that_does_not_load_strands_nobody(pair: tuple[Host, Host], tmp_path: Path) -> None:
    """After an upgrade that went wrong; the next start is as any other."""
    alpha, beta = pair
    kept = stop_for(alpha, "restart")
    assert kept is not None
    shutil.copytree(PACKAGE_ROOT / "sennit", tmp_path / "broken/sennit")
    (tmp_path / "broken/sennit/config.py").write_text("half a line of (")
    good = alpha.environment
    alpha.environment = {**good, "PYTHONPATH": str(tmp_path / "broken")}
    with pytest.raises(AssertionError, match="the agent ended"):
        start_with(alpha, kept)
    alpha.log.wait_for("SyntaxError")
    assert "sennit0" not in alpha.run("ip", "link")
    alpha.environment, alpha.wrapper, alpha.descriptors, alpha.agent = good, [], (), None
    alpha.start()
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
