"""Names on a host: the stub answers, the host's resolver asks it, and everything is as before when the agent ends."""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PACKAGE_ROOT, Host, Mesh, run
from tests.interop.processes import ending, named

from sennit.host.resolver.watch import FileWatch

ORIGINAL = b"# by hand\nnameserver 192.0.2.99\nsearch example.net\noptions timeout:1\n"
STUB = "100.100.100.100"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path, "one", "two") as mesh:
        yield mesh


@pytest.fixture
def one(mesh: Mesh) -> Host:
    one, two = mesh.hosts
    resolv_conf(one).write_bytes(ORIGINAL)
    one.start()
    one.apply(mesh.netmap(1, one.node(), two.node()))
    return one


def resolv_conf(host: Host) -> Path:
    return host.directory / "resolv.conf"


def nameservers(host: Host) -> list[str]:
    lines = resolv_conf(host).read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver")]


def dig(host: Host, name: str, *arguments: str, check: bool = True) -> list[str]:
    return host.run("dig", f"@{STUB}", "+short", "+tries=1", "+time=10", name, *arguments, check=check).split()


def wait_for_ours(host: Host) -> None:
    """Until the agent has written its own resolv.conf, after somebody else did."""
    path = resolv_conf(host)
    watch = FileWatch()
    watch.watch([str(path)])
    try:
        while STUB not in path.read_text():
            ready, _, _ = select.select([watch.descriptor], [], [], 30)
            assert ready, f"still {path.read_text()}\n{host.log}"
            watch.changed()
    finally:
        watch.close()


def test_names_of_the_mesh(one: Host) -> None:
    assert dig(one, "two.demo.internal") == ["100.64.0.2"]
    assert dig(one, "TWO.demo.internal", "AAAA") == ["fd5e::2"]
    assert dig(one, "two.demo.internal", "+tcp") == ["100.64.0.2"]
    assert dig(one, "-x", "100.64.0.2") == ["two.demo.internal."]


def test_a_new_map_answers_at_once(one: Host) -> None:
    mesh = one.mesh
    assert dig(one, "three.demo.internal") == []
    two = mesh.hosts[1]
    one.apply(mesh.netmap(2, one.node(), dataclasses.replace(two.node(), name="three")))
    assert dig(one, "three.demo.internal") == ["100.64.0.2"]
    assert dig(one, "two.demo.internal") == []


def test_resolv_conf_leads_to_the_stub_and_back(one: Host) -> None:
    assert nameservers(one) == one.call("dns.status")["answering"] == [STUB, "fd5e::24:6464"]
    assert "search demo.internal example.net\noptions timeout:1\n" in resolv_conf(one).read_text()
    assert one.call("dns.status")["resolver"]["nameservers"] == ["192.0.2.99"]
    one.stop()
    assert resolv_conf(one).read_bytes() == ORIGINAL


def test_a_symbolic_link_comes_back_as_one(mesh: Mesh) -> None:
    one = mesh.hosts[0]
    (one.directory / "elsewhere").write_bytes(ORIGINAL)
    resolv_conf(one).symlink_to("elsewhere")
    one.start()
    one.apply(mesh.netmap(1, one.node()))
    assert not resolv_conf(one).is_symlink()
    assert one.call("dns.status")["resolver"]["nameservers"] == ["192.0.2.99"]
    one.stop()
    assert os.readlink(resolv_conf(one)) == "elsewhere"
    assert (one.directory / "elsewhere").read_bytes() == ORIGINAL


def test_no_resolv_conf_is_none_again(mesh: Mesh) -> None:
    one = mesh.hosts[0]
    one.start()
    one.apply(mesh.netmap(1, one.node()))
    assert nameservers(one)[0] == STUB
    one.stop()
    assert not resolv_conf(one).exists()


def test_what_is_written_meanwhile_is_heeded_and_comes_back(one: Host) -> None:
    news = b"nameserver 192.0.2.98\n"
    fresh = one.directory / "fresh"
    fresh.write_bytes(news)
    fresh.rename(resolv_conf(one))
    wait_for_ours(one)
    one.log.wait_for("leads to the mesh's resolver", times=2)
    assert one.call("dns.status")["resolver"]["nameservers"] == ["192.0.2.98"]
    resolv_conf(one).unlink()
    one.log.wait_for("leads to the mesh's resolver", times=3)
    one.stop()
    assert resolv_conf(one).read_bytes() == news


def test_a_killed_agent_leaves_no_resolver_that_leads_nowhere(one: Host) -> None:
    one.stop(signal.SIGKILL)
    assert nameservers(one)[0] == STUB
    # What the unit runs when the agent has ended.
    command = (one.python, "-m", "sennit.host.resolver.reconcile", "--config", str(one.directory / "agent.json"))
    run("env", f"PYTHONPATH={PACKAGE_ROOT}", *command)
    assert resolv_conf(one).read_bytes() == ORIGINAL
    run("env", f"PYTHONPATH={PACKAGE_ROOT}", *command)
    assert resolv_conf(one).read_bytes() == ORIGINAL


def test_a_start_after_a_power_cut_knows_the_original(one: Host) -> None:
    one.stop(signal.SIGKILL)
    one.start()
    assert nameservers(one)[0] == STUB
    assert one.call("dns.status")["resolver"]["nameservers"] == ["192.0.2.99"]
    one.stop()
    assert resolv_conf(one).read_bytes() == ORIGINAL


def test_a_resolver_that_dies_is_started_again(one: Host) -> None:
    for times in (1, 2):
        [stub] = named("sennit-dns", one.workers())
        with ending(stub):
            os.kill(stub, signal.SIGKILL)
        one.log.wait_for("names are answered at", times=times + 1)
        assert dig(one, "two.demo.internal") == ["100.64.0.2"]
    wait_for_ours(one)
    one.stop()
    assert resolv_conf(one).read_bytes() == ORIGINAL


def test_without_accept_dns_the_host_is_left_alone(one: Host) -> None:
    one.call("preferences.set", preferences={"accept_dns": False})
    assert resolv_conf(one).read_bytes() == ORIGINAL
    assert STUB not in one.run("ip", "addr")
    shown = one.cli("dns", "query", "two.demo.internal")
    assert (shown.returncode, "accept_dns is off" in shown.stderr) == (5, True)
    one.stop()
    before = resolv_conf(one).stat()
    one.start()
    after = resolv_conf(one).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    one.call("preferences.set", preferences={"accept_dns": True})
    assert dig(one, "two.demo.internal") == ["100.64.0.2"]


def test_a_trial_that_ends_takes_names_back(one: Host) -> None:
    one.call("preferences.set", preferences={"accept_dns": False}, trial=3)
    one.log.wait_for("resolv.conf is as it was")
    one.log.wait_for("leads to the mesh's resolver", times=2)
    assert STUB in nameservers(one)
    assert dig(one, "two.demo.internal") == ["100.64.0.2"]


def test_a_resolver_that_cannot_listen_leaves_the_host_its_own(mesh: Mesh) -> None:
    one = mesh.hosts[0]
    resolv_conf(one).write_bytes(ORIGINAL)
    holder = "import socket; s = socket.socket(type=2); s.bind(('', 53)); t = socket.socket(socket.AF_INET6, 2)"
    script = f"{holder}; t.setsockopt(41, 26, 1); t.bind(('::', 53)); print(flush=True); input()"
    with subprocess.Popen(
        ["ip", "netns", "exec", one.namespace, one.python, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        one.start()
        one.apply(mesh.netmap(1, one.node()))
        assert resolv_conf(one).read_bytes() == ORIGINAL
        assert any("cannot answer DNS at" in problem for problem in one.status()["problems"])
        other.stdin.close()
    wait_for_ours(one)
    assert dig(one, "one.demo.internal") == ["100.64.0.1"]


def test_the_stub_is_for_this_host_alone(one: Host) -> None:
    """A neighbour that sends to the stub's address by way of the host gets no answer, by no interface."""
    two = one.mesh.hosts[1]
    two.run("ip", "route", "add", f"{STUB}/32", "via", one.underlay[0])
    assert dig(two, "two.demo.internal", "+time=3", check=False)[-1:] != ["100.64.0.2"]
    two.start()
    two.apply(one.mesh.netmap(1, one.node(), two.node()))
    two.call("preferences.set", preferences={"accept_dns": False})
    assert dig(two, "two.demo.internal", "+time=3", check=False)[-1:] != ["100.64.0.2"]


def test_the_stub_addresses_are_no_source_of_other_traffic(one: Host) -> None:
    for destination, source in (("100.64.0.2", "100.64.0.1"), ("fd5e::2", "fd5e::1"), (one.underlay[0], None)):
        line = one.run("ip", "route", "get", destination)
        assert STUB not in line and "24:6464" not in line
        assert source is None or f"src {source} " in line


def test_what_the_command_shows(one: Host) -> None:
    status = one.cli("dns", "status")
    assert status.returncode == 0
    assert "192.0.2.99" in status.stdout and "demo.internal (mesh)" in status.stdout
    query = one.cli("dns", "query", "two.demo.internal", "AAAA")
    assert query.returncode == 0
    assert "fd5e::2" in query.stdout and "from the netmap" in query.stdout
    assert "100.64.0.2" in one.cli("dns", "query", "two").stdout
    assert one.cli("dns", "query", "nobody.demo.internal").returncode == 1
    assert one.cli("dns", "query", "two.demo.internal", "NONSENSE").returncode == 2
    assert one.cli("dns", "query", "a" * 300).returncode == 2
