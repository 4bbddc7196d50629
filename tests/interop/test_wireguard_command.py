"""`sennit wireguard` as a command: how it starts, what it refuses, by what it ends; and wg-quick, which starts it."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PACKAGE_ROOT, Lines, run
from tests.interop.processes import ending, name_of
from tests.interop.wireguard import COMMANDS, SENNIT, SOCKETS, Capture, Interface, Namespace

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1",
               "SENNIT_QUEUES": "1"}  # fmt: skip
NAME = f"sq{os.getpid() % 1000000}"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace("host") as host:
        yield host


def command(host: Namespace, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", host.name, *COMMANDS[SENNIT], *arguments],
        env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def links(host: Namespace) -> str:
    return host.ip("link")


def everything_is_gone(interface: Interface) -> bool:
    return not interface.socket.exists() and interface.name not in links(interface.namespace)


# --- how it ends


def control(processes: list[int]) -> int:
    """The one that all others work for. It was there first, but numbers of processes begin anew."""
    (found,) = (pid for pid in processes if not name_of(pid).startswith("sennit-"))
    return found


def test_by_a_signal(host: Namespace) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        interface = Interface(host, SENNIT)
        with ending(*interface.processes):
            os.kill(control(interface.processes), number)
        assert everything_is_gone(interface)


def test_when_its_interface_is_removed(host: Namespace) -> None:
    interface = Interface(host, SENNIT)
    with ending(*interface.processes):
        host.ip("link", "del", interface.name)
    assert everything_is_gone(interface)


def test_when_its_socket_is_removed(host: Namespace) -> None:
    interface = Interface(host, SENNIT)
    with ending(*interface.processes):
        interface.socket.unlink()
    assert everything_is_gone(interface)


def test_killed_it_leaves_a_socket_that_the_next_one_replaces(host: Namespace) -> None:
    assert command(host, NAME).returncode == 0
    processes = host.pids()
    with ending(*processes):
        os.kill(control(processes), signal.SIGKILL)
    assert (SOCKETS / f"{NAME}.sock").exists()
    assert NAME not in links(host)
    assert command(host, NAME).returncode == 0
    assert host.run("wg", "show", NAME, "peers") == ""
    with ending(*host.pids()):
        host.ip("link", "del", NAME)


# --- how it starts


def test_in_the_background_unless_told_otherwise(host: Namespace) -> None:
    """When the command is back, the interface is there and can be configured; it says nothing."""
    result = command(host, NAME)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(host.pids()) == 3
    assert host.run("wg", "show", NAME, "listen-port").strip().isdigit()
    assert (SOCKETS / f"{NAME}.sock").stat().st_mode & 0o777 == 0o600
    # Nothing of it holds on to a terminal.
    for pid in host.pids():
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    with ending(*host.pids()):
        host.ip("link", "del", NAME)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["-f"], {}), (["--foreground"], {}), ([], {"WG_PROCESS_FOREGROUND": "1"})],
    ids=["-f", "--foreground", "environment"],
)
def test_in_the_foreground(host: Namespace, arguments: list[str], environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        ["ip", "netns", "exec", host.name, *COMMANDS[SENNIT], *arguments, NAME],
        env={**ENVIRONMENT, "LOG_LEVEL": "info", **environment}, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    log = Lines(process.stderr)
    try:
        log.wait_for(f"{NAME} is there")
        assert host.run("wg", "show", NAME, "peers") == ""
    finally:
        process.terminate()
    assert process.wait(20) == 0
    assert not (SOCKETS / f"{NAME}.sock").exists()
    assert NAME not in links(host)


def test_what_is_there_already_is_left_alone(host: Namespace) -> None:
    interface = Interface(host, SENNIT)
    again = command(host, interface.name)
    assert again.returncode == 1
    assert "busy" in again.stderr
    with Namespace("other") as other:
        # The same name elsewhere: `wg` could not tell them apart.
        elsewhere = command(other, interface.name)
        assert elsewhere.returncode == 1
        assert "in use" in elsewhere.stderr
        assert interface.name not in links(other)
        assert other.pids() == []
    host.ip("link", "add", NAME, "type", "bridge")
    assert command(host, NAME).returncode == 1
    assert command(host, NAME, LOG_LEVEL="silent").stderr == ""
    assert "bridge" in host.ip("-d", "link", "show", NAME)
    assert interface.wg("show", interface.name, "peers") == ""


@pytest.mark.parametrize(
    "arguments", [[], ["-f"], ["a/b"], ["wg0", "wg1"], ["x" * 16], ["wg%d"], ["--nonsense", "wg0"]]
)
def test_wrong_arguments(host: Namespace, arguments: list[str]) -> None:
    result = command(host, *arguments)
    assert result.returncode == 2
    assert "usage: sennit wireguard" in result.stderr
    assert len(links(host).splitlines()) == 2


def test_a_port_that_is_taken(host: Namespace) -> None:
    """It is told, and the old one stays."""
    one, two = Interface(host, SENNIT), Interface(host, SENNIT, port=51821)
    with pytest.raises(AssertionError, match="Address already in use"):
        two.set("listen-port", "51820", "peer", one.public_key)
    assert two.wg("show", two.name, "listen-port").strip() == "51821"
    assert two.wg("show", two.name, "peers") == ""
    two.set("listen-port", "0")
    assert two.wg("show", two.name, "listen-port").strip() not in ("0", "51820", "51821")


def test_ten_thousand_peers(host: Namespace) -> None:
    interface = Interface(host, SENNIT)
    private_key = interface.wg("show", interface.name, "private-key").strip()
    lines = ["[Interface]", f"PrivateKey = {private_key}", "ListenPort = 51820"]
    for number in range(10_000):
        lines += [
            "[Peer]",
            f"PublicKey = {base64.b64encode(number.to_bytes(32, 'big')).decode()}",
            f"AllowedIPs = 10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32, fd00::{number:x}/128",
            f"Endpoint = 192.0.2.1:{number + 1}",
        ]
    before = sum(map(resident, interface.processes))
    interface.wg("setconf", interface.name, "/dev/stdin", given="\n".join(lines))
    assert len(interface.shown("allowed-ips")) == 10_000
    configuration = interface.wg("showconf", interface.name)
    interface.wg("syncconf", interface.name, "/dev/stdin", given=configuration)
    assert interface.wg("showconf", interface.name) == configuration
    assert sum(map(resident, interface.processes)) < before + 10_000 * 12
    interface.wg("syncconf", interface.name, "/dev/stdin", given="\n".join(lines[:3]))
    assert interface.shown("allowed-ips") == {}


def resident(pid: int) -> int:
    """kB of memory of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


# --- wg-quick


def test_wg_quick(host: Namespace, tmp_path: Path) -> None:
    """Its whole way: addresses, MTU, a default route by a mark, DNS left out; and down again."""
    implementation = tmp_path / "sennit-wireguard"
    implementation.write_text(
        f'#!/bin/sh\nPYTHONPATH={PACKAGE_ROOT} exec {sys.executable} -m sennit.launcher wireguard "$@"\n'
    )
    implementation.chmod(0o755)
    environment = {**ENVIRONMENT, "WG_QUICK_USERSPACE_IMPLEMENTATION": str(implementation)}

    def wg_quick(action: str) -> None:
        result = subprocess.run(
            ["ip", "netns", "exec", host.name, "wg-quick", action, str(tmp_path / f"{NAME}.conf")],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr

    with Namespace("peer") as peer:
        host.join(peer)
        host.address("eth0", "192.0.2.1/24")
        peer.address("eth0", "192.0.2.2/24")
        peer.address("lo", "203.0.113.1/32")
        host.ip("route", "add", "default", "via", "192.0.2.2")
        other = Interface(peer, SENNIT, "10.9.0.2/24")
        private_key = run("wg", "genkey").strip()
        public_key = subprocess.run(
            ["wg", "pubkey"], input=private_key, capture_output=True, text=True, check=True
        ).stdout.strip()
        other.set("peer", public_key, "allowed-ips", "10.9.0.1/32")
        (tmp_path / f"{NAME}.conf").write_text(f"""
[Interface]
PrivateKey = {private_key}
Address = 10.9.0.1/24
MTU = 1380
[Peer]
PublicKey = {other.public_key}
AllowedIPs = 0.0.0.0/0
Endpoint = 192.0.2.2:51820
PersistentKeepalive = 25
""")
        (tmp_path / f"{NAME}.conf").chmod(0o600)
        wg_quick("up")
        with Capture(host) as wire:
            host.ping("203.0.113.1")
            assert {packet[9] for packet, _outgoing in wire.packets()} == {17}
        assert "mtu 1380" in host.ip("link", "show", NAME)
        processes = host.pids()
        assert len(processes) == 3
        with ending(*processes):
            wg_quick("down")
        assert NAME not in links(host)
        assert not (SOCKETS / f"{NAME}.sock").exists()
        assert "51820" not in host.ip("rule")
