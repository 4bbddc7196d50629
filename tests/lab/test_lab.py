"""The lab itself, on real machines: needs root, and about a minute. One lab is raised, used, broken and taken down."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sennit_lab.lab import BOOT_TIMEOUT
from sennit_lab.machine import Machine

HERE = Path(__file__).parent
NAME = "selftest"
STATE = Path("/run/sennit-lab") / NAME
TOPOLOGY = """
networks:
  internet: [203.0.113.0/24, "2001:db8::/64"]
  near: [198.51.100.0/27, "2001:db8:1::/64"]
  far: [198.51.100.32/27, "2001:db8:2::/64"]
routers:
  near-router:
    wan0: {network: internet, addresses: [203.0.113.1, "2001:db8::1"]}
    lan0: {network: near, addresses: [198.51.100.1, "2001:db8:1::1"]}
  far-router:
    wan0: {network: internet, addresses: [203.0.113.2, "2001:db8::2"]}
    lan0: {network: far, addresses: [198.51.100.33, "2001:db8:2::1"]}
hosts:
  wall:
    interfaces: {eth0: {network: near, addresses: [198.51.100.10, "2001:db8:1::10"]}}
    gateway: near-router
  plain:
    interfaces: {eth0: {network: far, addresses: [198.51.100.42, "2001:db8:2::10"]}}
    gateway: far-router
    firewalld: false
    files: {/etc/marker: hello}
  old:
    interfaces: {eth0: {network: far, addresses: [198.51.100.43, "2001:db8:2::11"]}}
    gateway: far-router
    manager: ifupdown
    resolver: resolvconf
    nameservers: [203.0.113.53, "2001:db8::53"]
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")


def lab(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the lab's own command line on the lab of these tests."""
    command = [str(HERE / "lab"), "--lab", NAME, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def inside(host: str, command: str) -> str:
    """The output of a shell command on a host; it must succeed."""
    done = lab("exec", host, "--", "sh", "-c", command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def links() -> str:
    """The interfaces in the machine's own network namespace."""
    return subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout


def traces() -> dict[str, list[str]]:
    """Everything on this machine that belongs to the lab of these tests."""
    processes = []
    machines = [Machine(NAME, host, STATE / "hosts" / host).identity for host in ("old", "plain", "wall")]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            groups, command = (directory / "cgroup").read_text(), (directory / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if command and (f"/sennit-lab/{NAME}/" in groups or f"\0{NAME}\0".encode() in command):
            processes.append(f"{directory.name}: {command!r}")
    return {
        "processes": processes,
        "namespaces": [path.name for path in Path("/run/netns").glob(f"sennit-lab.{NAME}.*")],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"-lab/{NAME}" in line],
        # Not a glob, which fails when a group that it has seen is gone.
        "cgroups": [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/sennit-lab/{NAME}")],
        "files": [str(path) for path in (STATE, STATE.with_suffix(".lock")) if path.exists()],
        "nspawn": [str(path) for path in Path("/run/systemd/nspawn").glob("*/*") if path.name in machines],
    }


def supervisors() -> list[int]:
    """The process IDs of the hosts' supervisors."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if command[-4:-2] == [b"supervise", NAME.encode()]:
            found.append(int(directory.name))
    return sorted(found)


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("topology") / "topology.yml"
    path.write_text(TOPOLOGY, encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def running(topology: Path) -> Iterator[None]:
    """A lab that is up; whatever a test leaves of it is gone afterwards, and nothing was seen outside meanwhile."""
    before = links()
    try:
        done = lab("up", str(topology))
        assert done.returncode == 0, done.stderr
        yield
        assert links() == before
    finally:
        down = lab("down")
    assert down.returncode == 0, down.stderr
    assert not any(traces().values()), traces()


def test_exec_passes_streams_and_status_through() -> None:
    done = lab("exec", "plain", "--", "sh", "-c", "cat; echo problem >&2; exit 7", stdin="question")
    assert (done.returncode, done.stdout, done.stderr) == (7, "question", "problem\n")
    done = lab("exec", "near-router", "--", "sh", "-c", "cat; exit 8", stdin="question")
    assert (done.returncode, done.stdout) == (8, "question")
    assert lab("exec", "nobody", "--", "true").stderr == f"lab: lab {NAME} has no host or router nobody\n"


def test_a_host_is_as_it_was_described() -> None:
    assert inside("plain", "hostname") == "plain"
    assert inside("plain", "cat /etc/marker") == "hello"
    assert inside("plain", "systemctl list-units --failed --plain --no-legend") == ""
    assert inside("wall", "firewall-cmd --state") == "running"
    assert inside("plain", "systemctl is-enabled firewalld || true") == "masked"
    assert inside("wall", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding").split() == [
        "0",
        "0",
    ]
    assert inside("wall", "test -c /dev/net/tun && ip tuntap add name tun9 mode tun && ip link delete tun9") == ""


@pytest.mark.parametrize("address", ["198.51.100.42", "2001:db8:2::10"])
def test_hosts_reach_each_other_through_the_routers(address: str) -> None:
    assert "ttl=62" in inside("wall", f"ping -n -c 1 -W 5 {address}")


@pytest.mark.parametrize(("host", "nameservers"), [("plain", "127.0.0.53"), ("old", "203.0.113.53 2001:db8::53")])
def test_a_host_asks_the_nameservers_that_its_resolver_says(host: str, nameservers: str) -> None:
    assert inside(host, "awk '$1 == \"nameserver\" {print $2}' /etc/resolv.conf").split() == nameservers.split()


def test_packages_can_be_installed_without_a_network() -> None:
    inside("plain", "apt-get update && apt-get install --yes python3-nacl wireguard-tools")
    assert inside("plain", "python3 -c 'import nacl.bindings' && wg --version")


def test_up_again_changes_nothing(topology: Path) -> None:
    before = supervisors()
    done = lab("up", str(topology))
    assert (done.returncode, done.stderr) == (0, f"lab {NAME} is up already\n")
    assert supervisors() == before != []


@pytest.mark.parametrize("how", ["by the lab", "by the host"])
def test_a_reboot_keeps_what_is_on_disk_and_nothing_else(how: str) -> None:
    before = inside("wall", "cat /proc/sys/kernel/random/boot_id")
    inside("wall", "echo kept >/srv/kept; ip route add 10.9.9.0/24 dev lo; sysctl -q -w net.ipv4.ip_forward=1")
    if how == "by the lab":
        assert lab("reboot", "wall").returncode == 0
    else:
        lab("exec", "wall", "--", "systemctl", "reboot")
        deadline = time.monotonic() + BOOT_TIMEOUT
        # In this order: that it is ready was perhaps said of the boot before.
        while _boot_id() in ("", before) or not _is_ready("wall"):
            assert time.monotonic() < deadline
    assert inside("wall", "cat /proc/sys/kernel/random/boot_id") != before
    assert inside("wall", "cat /srv/kept") == "kept"
    assert inside("wall", "ip route show 10.9.9.0/24") == ""
    assert inside("wall", "cat /proc/sys/net/ipv4/ip_forward") == "0"
    assert "ttl=62" in inside("plain", "ping -n -c 1 -W 5 198.51.100.10")


def test_a_command_that_was_stopped_for_a_moment_ends() -> None:
    """As all are when a machine shuts down."""
    command = [str(HERE / "lab"), "--lab", NAME, "exec", "plain", "--", "sh", "-c", "echo $$; kill -STOP $$; exit 3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout is not None
        pid = int(stopped.stdout.readline())
        inside("plain", f"until grep -q '^State:.T' /proc/{pid}/status; do :; done; kill -CONT {pid}")
        try:
            assert stopped.wait(20) == 3
        finally:
            stopped.kill()


def _is_ready(host: str) -> bool:
    return [host, "ready"] in [line.split()[:2] for line in lab("list").stdout.splitlines()]


def _boot_id() -> str:
    return lab("exec", "wall", "--", "cat", "/proc/sys/kernel/random/boot_id").stdout.strip()


def test_a_lab_with_a_dead_host_is_started_again(topology: Path) -> None:
    assert lab("exec", "plain", "--", "touch", "/srv/old").returncode == 0
    os.kill(supervisors()[0], signal.SIGKILL)
    done = lab("up", str(topology))
    assert done.returncode == 0, done.stderr
    assert len(supervisors()) == 3
    assert inside("plain", "ls /srv") == "apt"


def test_an_up_that_was_killed_can_be_run_again(topology: Path) -> None:
    assert lab("down").returncode == 0
    wall = Machine(NAME, "wall", STATE / "hosts/wall")
    apt_at_work = STATE / "hosts/old/overlay/upper/var/lib/dpkg/lock-frontend"
    for moment in (wall.root / "etc", apt_at_work, STATE / "hosts/plain/supervisor.sock"):
        with subprocess.Popen([str(HERE / "lab"), "--lab", NAME, "up", str(topology)], stderr=subprocess.DEVNULL) as up:
            while not moment.exists():
                assert up.poll() is None or moment.exists()
                time.sleep(0.01)  # the machine is busy enough
            up.kill()
        done = lab("up", str(topology))
        assert done.returncode == 0, done.stderr
        assert "ttl=62" in inside("wall", "ping -n -c 1 -W 5 198.51.100.42")
        assert lab("down").returncode == 0
        assert not any(traces().values()), traces()
    assert lab("up", str(topology)).returncode == 0


def test_down_ends_what_still_runs_in_the_lab(topology: Path) -> None:
    def running(where: str) -> subprocess.Popen[bytes]:
        command = [str(HERE / "lab"), "--lab", NAME, "exec", where, "--", "sh", "-c", "echo; exec sleep 1000"]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    with running("near-router") as on_router, running("plain") as on_host:
        for process in (on_router, on_host):
            assert process.stdout is not None and process.stdout.readline() == b"\n"
        assert lab("down").returncode == 0
        assert on_router.wait(timeout=60) != 0
        assert on_host.wait(timeout=60) != 0
    assert not any(traces().values()), traces()
    assert lab("up", str(topology)).returncode == 0
