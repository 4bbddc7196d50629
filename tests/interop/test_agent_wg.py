"""An agent's interface in userspace, as `wg` sees it, and what `wg` may change of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PORT, Host, Mesh, run, wait
from tests.interop.stock import encoded

NAMES = [f"sa{os.getpid() % 1000000}{letter}" for letter in "ab"]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """Two agents with a session; their interfaces have names of their own, as their sockets lie in one directory."""
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        for host, name in zip(mesh.hosts, NAMES, strict=True):
            host.configure(interface=name)
            host.start()
            host.apply(mesh.netmap(1, alpha.node(), beta.node()))
        yield mesh
    for name in NAMES:
        # What an agent that was killed could not take away.
        Path(f"/var/run/wireguard/{name}.sock").unlink(missing_ok=True)


def wg(host: Host, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", host.namespace, "wg", *arguments],
        input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip


def shown(host: Host, what: str) -> list[str]:
    """The fields of `wg show` of the one peer."""
    name = NAMES[host.number - 1]
    return wg(host, "show", name, what).stdout.split()[1:]


def test_wg_tells_of_it(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
    text = wg(alpha, "show", NAMES[0]).stdout
    assert f"public key: {encoded(alpha.public_key)}" in text
    assert f"peer: {encoded(beta.public_key)}" in text
    assert f"listening port: {PORT}" in text
    assert shown(alpha, "endpoints") == [f"{beta.underlay[0]}:{PORT}"]
    assert set(shown(alpha, "allowed-ips")) == {f"{beta.addresses[0]}/32", f"{beta.addresses[1]}/128"}
    assert int(shown(alpha, "latest-handshakes")[0]) == int(alpha.peer("beta")["latest_handshake"])
    # What one has sent the other has received, at once and to the byte.
    assert shown(alpha, "transfer") == shown(beta, "transfer")[::-1]


def test_the_peers_are_the_netmaps_again_with_the_next_one(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    stranger = run("wg", "genkey").strip()

    def set_for_a_while() -> bool:
        wg(alpha, "set", NAMES[0], "peer", stranger, "allowed-ips", "10.0.0.0/8")
        wg(alpha, "set", NAMES[0], "peer", encoded(beta.public_key), "persistent-keepalive", "9")
        text = wg(alpha, "show", NAMES[0]).stdout
        return stranger in text and "every 9 seconds" in text

    # A look at the host, which has just got its addresses, undoes it as well.
    wait(set_for_a_while, "what was set")
    alpha.apply(mesh.netmap(2, alpha.node(), beta.node()))
    assert stranger not in wg(alpha, "show", NAMES[0]).stdout
    assert shown(alpha, "persistent-keepalive") == ["off"]
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])


def test_key_port_and_mark_are_the_agents(mesh: Mesh) -> None:
    alpha, beta = mesh.hosts
    before = wg(alpha, "showconf", NAMES[0]).stdout
    for arguments in (("listen-port", "1234"), ("fwmark", "0"), ("private-key", "/dev/stdin")):
        result = wg(alpha, "set", NAMES[0], *arguments, given=run("wg", "genkey"))
        assert result.returncode == 1
        assert "Operation not permitted" in result.stderr
    assert wg(alpha, "showconf", NAMES[0]).stdout == before
    # To say what is so is fine.
    assert wg(alpha, "syncconf", NAMES[0], "/dev/stdin", given=before).returncode == 0
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
    assert wg(alpha, "setconf", NAMES[0], "/dev/stdin", given=before).returncode == 0
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])


def test_an_agent_goes_without_a_socket_that_is_in_use(mesh: Mesh) -> None:
    """Of the same name, in another namespace; and takes its own away when it stops."""
    alpha, beta = mesh.hosts
    beta.stop()
    assert not Path(f"/var/run/wireguard/{NAMES[1]}.sock").exists()
    beta.configure(interface=NAMES[0])
    beta.start()
    beta.log.wait_for(f"wg does not see {NAMES[0]}")
    alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
    beta.stop()
    assert wg(alpha, "show", NAMES[0], "peers").stdout.strip() == encoded(beta.public_key)
