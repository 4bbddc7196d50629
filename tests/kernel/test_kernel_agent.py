"""An agent on the kernel's WireGuard, with an agent in userspace and with a plain kernel peer.

The hosts stay up from test to test: agents start slowly in an emulated machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.interop.agents import PORT, Host, Mesh, run, same_session, steady_ping, wait
from tests.interop.namespaces import inside
from tests.interop.stock import KernelPeer, encoded, transfer

from sennit.netmap.model import EXIT_NODE_APPROVED, Node

# As the service has it: of root's powers only that over the network, which is enough to have modules loaded.
SERVICE = ["setpriv", "--bounding-set", "-all,+net_admin", "--no-new-privs"]
UNIT = "sennit.service"
BEYOND = ("198.51.100.4", "2001:db8:1::4")


class Trio:
    """alpha's agent takes the kernel's WireGuard by itself, beta's is told not to, plain has none."""

    def __init__(self, mesh: Mesh, stock: KernelPeer) -> None:
        self.mesh = mesh
        self.alpha, self.beta, self.plain = mesh.hosts
        self.stock = stock
        self.version = 0

    def apply(self, *more: Node) -> None:
        self.version += 1
        nodes = (self.alpha.node(), self.beta.node(exit_node=EXIT_NODE_APPROVED), self.stock.node(), *more)
        signed = self.mesh.netmap(self.version, *nodes)
        for host in (self.alpha, self.beta):
            host.apply(signed)

    def restart(self, number: int = signal.SIGTERM, **configuration: object) -> None:
        self.alpha.stop(number)
        self.alpha.configure(**configuration)
        self.alpha.start()

    @contextlib.contextmanager
    def as_systemd_restarts(self) -> Iterator[None]:
        """Agents that are stopped in the block hear from a systemctl of ours that they are restarted."""
        jobs = self.mesh.directory / "jobs"
        jobs.write_text(f"123 {UNIT} restart running\n")
        try:
            yield
        finally:
            jobs.write_text("")


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    with Mesh(tmp_path_factory.mktemp("mesh"), "alpha", "beta", "plain") as mesh:
        alpha, beta, plain = mesh.hosts
        alpha.wrapper = SERVICE
        systemctl = mesh.directory / "bin/systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(f"#!/bin/sh\ncat {mesh.directory}/jobs\n")
        systemctl.chmod(0o755)
        (mesh.directory / "jobs").touch()
        alpha.environment |= {"SENNIT_UNIT": UNIT, "PATH": f"{systemctl.parent}:{os.environ['PATH']}"}
        beta.configure(datapath="userspace")
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.start, (alpha, beta)))
        # Only now: it is the agent's start that has the kernel load its WireGuard.
        with KernelPeer(plain) as stock:
            for host in (alpha, beta):
                stock.know(host, "endpoint", f"{host.underlay[0]}:{PORT}")
            trio = Trio(mesh, stock)
            trio.apply()
            yield trio


def ping(host: Host, *addresses: str) -> None:
    for address in addresses:
        host.run("ping", "-n", "-c", "1", "-W", "10", address)


def told_by_a_session(host: Host, other: Host) -> None:
    """The other still has an old session; it need neither send anything nor find that out by itself."""
    wait(lambda: host.peer(other.name)["latest_handshake"] is not None, f"{other.name}'s session")
    # It sends by the new one when it has heard by that. Until then what it sends is lost.
    ping(host, *other.addresses)
    ping(other, *host.addresses)


def answers(host: Host, address: str) -> bool:
    command = ["ip", "netns", "exec", host.namespace, "ping", "-n", "-c", "1", "-W", "1", address]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def link(host: Host) -> dict[str, object]:
    (found,) = json.loads(host.run("ip", "-j", "-d", "link", "show", "sennit0"))
    return found  # type: ignore[no-any-return]


def kind(host: Host) -> str:
    return str(link(host)["linkinfo"]["info_kind"])  # type: ignore[index]


def wg_show(host: Host, what: str) -> str:
    """Of the kernel's interface: `wg` would ask a socket of that name first, and beta's is on the same file system."""
    script = f"mount -t tmpfs tmpfs /run/wireguard && wg show sennit0 {what}"
    return host.run("unshare", "--mount", "sh", "-c", script)


def shown(host: Host, peer: Host) -> list[str]:
    """The kernel's line of this peer."""
    lines = [line.split("\t") for line in wg_show(host, "dump").splitlines()]
    return next(line for line in lines if line[0] == encoded(peer.public_key))


def place(host: Host) -> dict[str, object]:
    """The addresses, rules and routes that the agent has on its host."""
    addresses = [entry for entry in host.run("ip", "-br", "addr", "show", "sennit0").split() if "/" in entry]
    return {**host.traces(), "addresses": sorted(entry for entry in addresses if not entry.startswith("fe80"))}


def test_the_kernel_is_taken_by_itself_and_userspace_where_it_is_configured(trio: Trio) -> None:
    assert (kind(trio.alpha), kind(trio.beta)) == ("wireguard", "tun")
    assert trio.alpha.status()["datapath"] == "kernel"
    assert trio.beta.status()["datapath"] == "userspace"
    trio.alpha.log.wait_for("the datapath is the kernel's WireGuard")
    assert "kernel, UDP port 51820" in trio.alpha.cli("status").stdout


@pytest.mark.parametrize("other", ["beta", "plain"])
def test_packets_pass_both_ways_in_both_families(trio: Trio, other: str) -> None:
    host = getattr(trio, other)
    ping(trio.alpha, *host.addresses)
    ping(host, *trio.alpha.addresses)


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_what_is_sent_in_large_pieces_arrives(trio: Trio, family: int) -> None:
    """GSO on one side and segments sealed by the other, both ways."""
    content = random.Random(family).randbytes(1 << 20)
    assert transfer(trio.alpha, trio.beta, trio.beta.addresses[family], content) == content
    assert transfer(trio.beta, trio.alpha, trio.alpha.addresses[family], content) == content


def test_status_is_the_same_to_look_at(trio: Trio) -> None:
    ping(trio.alpha, trio.beta.addresses[0], trio.plain.addresses[0])
    alpha, beta = trio.alpha.status(), trio.beta.status()
    assert alpha.keys() == beta.keys()
    seen, counterpart = trio.alpha.peer("beta"), trio.beta.peer("alpha")
    assert {key: type(value) for key, value in seen.items()} == {key: type(v) for key, v in counterpart.items()}
    assert seen["endpoint"] == f"{trio.beta.underlay[0]}:{PORT}"
    assert counterpart["endpoint"] == f"{trio.alpha.underlay[0]}:{PORT}"

    # A session that has become old may be renewed between two looks.
    def same_handshakes() -> bool:
        seen, counterpart = trio.alpha.peer("beta"), trio.beta.peer("alpha")
        return abs(seen["latest_handshake"] - counterpart["latest_handshake"]) < 5 and all(
            int(shown(trio.alpha, host)[4]) == int(trio.alpha.peer(host.name)["latest_handshake"])
            for host in (trio.beta, trio.plain)
        )

    wait(same_handshakes, "the same handshakes at both ends, and by the kernel")
    for host in (trio.beta, trio.plain):
        assert set(shown(trio.alpha, host)[3].split(",")) == set(trio.alpha.peer(host.name)["allowed_ips"])

    def count_the_same() -> bool:
        seen, counterpart = trio.alpha.peer("beta"), trio.beta.peer("alpha")
        return (seen["rx_bytes"], seen["tx_bytes"]) == (counterpart["tx_bytes"], counterpart["rx_bytes"])

    # What one sent, the other has received, when the workers of userspace have reported it.
    wait(count_the_same, "the same count at both ends")


def test_an_added_and_removed_peer_leaves_the_sessions_of_others_alone(trio: Trio) -> None:
    ping(trio.alpha, trio.beta.addresses[0])
    before = trio.alpha.peer("beta")["latest_handshake"]
    with steady_ping(trio.alpha, trio.beta.addresses[0], interval=1) as lost:
        trio.apply(Node("other", "static", bytes([9]) * 32, ("100.64.9.9", "fd5e::9:9")))
        assert trio.alpha.peer("other")["latest_handshake"] is None
        assert encoded(bytes([9]) * 32) in wg_show(trio.alpha, "peers")
        trio.apply()
        assert encoded(bytes([9]) * 32) not in wg_show(trio.alpha, "peers")
    assert lost == []
    assert same_session(before, trio.alpha.peer("beta")["latest_handshake"])


def test_a_peer_that_roams_is_followed(trio: Trio) -> None:
    alpha, beta = trio.alpha, trio.beta
    ping(alpha, beta.addresses[0])
    for old, new in ((beta.underlay[0], "192.0.2.77"), ("192.0.2.77", beta.underlay[0])):
        beta.run("ip", "addr", "del", f"{old}/24", "dev", "eth0")
        beta.run("ip", "addr", "add", f"{new}/24", "dev", "eth0")
        ping(beta, alpha.addresses[0])
        assert alpha.peer("beta")["endpoint"] == f"{new}:{PORT}"
        ping(alpha, *beta.addresses)


def test_a_killed_agent_leaves_a_tunnel_that_works_and_the_next_one_takes_it_over(trio: Trio) -> None:
    alpha, beta = trio.alpha, trio.beta
    ping(alpha, *beta.addresses, *trio.plain.addresses)
    before, index, handshake = place(alpha), link(alpha)["ifindex"], alpha.peer("beta")["latest_handshake"]
    with steady_ping(alpha, beta.addresses[0], interval=1) as lost:
        alpha.stop(signal.SIGKILL)
        assert place(alpha) == before
        ping(trio.plain, *alpha.addresses)
        alpha.start()
        assert same_session(handshake, alpha.peer("beta")["latest_handshake"])
    assert lost == []
    assert (place(alpha), link(alpha)["ifindex"]) == (before, index)
    alpha.log.wait_for("sennit0 is there already: taken over")


@contextlib.contextmanager
def connection(one: Host, two: Host) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection through the tunnel."""
    with inside(two.namespace), socket.create_server((two.addresses[0], 5000)) as listener:
        with inside(one.namespace):
            near = socket.create_connection((two.addresses[0], 5000), timeout=60)
        far, _address = listener.accept()
    far.settimeout(60)
    with near, far:
        yield near, far


def carries(near: socket.socket, far: socket.socket) -> None:
    content = os.urandom(50_000)
    for sender, receiver in ((near, far), (far, near)):
        sender.sendall(content)
        received = b""
        while len(received) < len(content):
            received += receiver.recv(len(content)) or pytest.fail("the connection has ended")
        assert received == content


def test_a_restart_leaves_the_tunnel_at_work(trio: Trio) -> None:
    """Nobody notices: there is no agent for a moment, and the kernel goes on without it."""
    alpha, beta = trio.alpha, trio.beta
    ping(alpha, *beta.addresses, *trio.plain.addresses)
    before, index, handshake = place(alpha), link(alpha)["ifindex"], alpha.peer("beta")["latest_handshake"]
    peers = wg_show(alpha, "allowed-ips")
    with connection(alpha, beta) as stream:
        carries(*stream)
        with trio.as_systemd_restarts():
            assert alpha.stop() == 0
        assert (place(alpha), link(alpha)["ifindex"], wg_show(alpha, "allowed-ips")) == (before, index, peers)
        carries(*stream)
        ping(trio.plain, *alpha.addresses)
        alpha.start()
        assert (place(alpha), link(alpha)["ifindex"], wg_show(alpha, "allowed-ips")) == (before, index, peers)
        assert same_session(handshake, alpha.peer("beta")["latest_handshake"])
        carries(*stream)
    alpha.log.wait_for("sennit0 is there already: taken over")


def test_a_restart_with_other_values_changes_the_interface_where_it_is(trio: Trio) -> None:
    alpha, beta = trio.alpha, trio.beta
    ping(alpha, *beta.addresses)
    before, index, handshake = place(alpha), link(alpha)["ifindex"], alpha.peer("beta")["latest_handshake"]
    with connection(alpha, beta) as stream:
        with trio.as_systemd_restarts():
            trio.restart(mtu=1380, listen_port=51999)
        assert (place(alpha), link(alpha)["ifindex"], link(alpha)["mtu"]) == (before, index, 1380)
        assert wg_show(alpha, "listen-port").strip() == "51999"
        carries(*stream)
        assert same_session(handshake, alpha.peer("beta")["latest_handshake"])
    assert beta.peer("alpha")["endpoint"] == f"{alpha.underlay[0]}:51999"


def test_a_restart_with_another_name_leaves_no_second_interface(trio: Trio) -> None:
    """What is left of the first would hold the port. The peers do not know yet, and are told by a new session."""
    alpha = trio.alpha
    ping(alpha, trio.beta.addresses[0], trio.plain.addresses[0])
    with trio.as_systemd_restarts():
        trio.restart(interface="mesh0")
    names = [entry["ifname"] for entry in json.loads(alpha.run("ip", "-j", "link", "show", "type", "wireguard"))]
    assert names == ["mesh0"]
    assert alpha.status()["listen_port"] == PORT
    for other in (trio.beta, trio.plain):
        told_by_a_session(alpha, other)
    trio.restart()
    ping(alpha, *trio.beta.addresses)


@pytest.mark.parametrize("whose", ["alpha", "beta"])
def test_a_link_that_is_set_down_is_left_so_and_brings_all_back(trio: Trio, whose: str) -> None:
    """By the kernel's WireGuard and in userspace alike."""
    host, other = (trio.alpha, trio.beta) if whose == "alpha" else (trio.beta, trio.alpha)
    ping(host, *other.addresses)
    before, handshake = place(host), host.peer(other.name)["latest_handshake"]
    host.run("ip", "link", "set", "sennit0", "down")
    wait(lambda: any("somebody has set it down" in each for each in host.status()["problems"]), "a problem told")
    received = host.peer(other.name)["rx_bytes"]
    assert not answers(other, host.addresses[0])
    assert (host.peer(other.name)["rx_bytes"], "UP" in link(host)["flags"]) == (received, False)  # type: ignore[operator]
    host.run("ip", "link", "set", "sennit0", "up")
    wait(lambda: place(host) == before, "what there was before")
    ping(host, *other.addresses)
    ping(other, *host.addresses)
    assert host.peer(other.name)["latest_handshake"] > handshake


def test_the_exit_node_has_what_is_not_for_the_mesh_and_the_underlay_goes_past_it(trio: Trio) -> None:
    alpha, beta = trio.alpha, trio.beta
    beta.run("ip", "addr", "add", f"{BEYOND[0]}/32", "dev", "lo")
    beta.run("ip", "addr", "add", f"{BEYOND[1]}/128", "dev", "lo")
    received = beta.peer("alpha")["rx_bytes"]
    assert alpha.call("preferences.set", preferences={"exit_node": "beta"})["changed"]
    try:
        ping(alpha, *BEYOND, *beta.addresses)
        assert alpha.status()["exit_node"] == {"name": "beta", "state": "active"}
        assert beta.peer("alpha")["rx_bytes"] > received
        # What is marked goes by the underlay, where it would otherwise come back into the tunnel.
        route = alpha.run("ip", "route", "get", beta.underlay[0], "mark", "21472")
        assert "dev eth0" in route
        assert "dev sennit0" in alpha.run("ip", "route", "get", beta.underlay[0])
        assert wg_show(alpha, "fwmark").strip() == hex(21472)
    finally:
        alpha.call("preferences.set", preferences={"exit_node": None})
    assert not answers(alpha, BEYOND[0])


def test_from_the_kernel_to_userspace_and_back(trio: Trio) -> None:
    """The device is another one; addresses, rules and routes are as before, and sessions come back by themselves."""
    alpha = trio.alpha
    ping(alpha, *trio.beta.addresses, *trio.plain.addresses)
    before = place(alpha)
    for configured, device in (("userspace", "tun"), ("kernel", "wireguard")):
        trio.restart(datapath=configured)
        assert kind(alpha) == device
        assert place(alpha) == before
        for other in (trio.beta, trio.plain):
            told_by_a_session(alpha, other)


def test_an_agent_in_userspace_takes_over_from_a_killed_one_in_the_kernel_and_the_other_way_round(trio: Trio) -> None:
    alpha = trio.alpha
    before = place(alpha)
    for configured, device in (("userspace", "tun"), ("auto", "wireguard")):
        trio.restart(signal.SIGKILL, datapath=configured)
        assert (kind(alpha), place(alpha)) == (device, before)
        ping(alpha, *trio.beta.addresses)


def test_a_host_that_another_programs_interface_is_on_is_told_what_to_do(trio: Trio) -> None:
    alpha = trio.alpha
    assert alpha.stop() == 0
    alpha.run("ip", "link", "add", "sennit0", "type", "dummy")
    assert alpha.launch().wait(60) == 78
    alpha.log.wait_for("sennit0 is a dummy interface, of another program or the system: choose another name")
    alpha.run("ip", "link", "del", "sennit0")
    alpha.start()
    ping(alpha, *trio.beta.addresses)


def test_an_interface_that_is_taken_away_ends_the_agent_so_that_it_is_started_anew(trio: Trio) -> None:
    alpha = trio.alpha
    assert alpha.agent is not None
    alpha.run("ip", "link", "del", "sennit0")
    assert alpha.agent.wait(60) == 1
    alpha.log.wait_for("cannot be read any more: No such device")
    alpha.agent = None
    alpha.start()
    ping(alpha, *trio.beta.addresses)


def test_a_stopped_agent_leaves_nothing(trio: Trio) -> None:
    assert trio.alpha.stop() == 0
    assert trio.alpha.traces() == {}
    wait(lambda: "sennit0" not in run("ip", "-n", trio.alpha.namespace, "link"), "the end of sennit0")
