"""Maps that get around by beacons: pushed, caught up with, and never believed without a signature."""

from __future__ import annotations

import base64
import dataclasses
import json
import signal
import subprocess

import pytest
from tests.interop.agents import Host, Mesh, run, steady_ping, wait
from tests.interop.hostile import BEACON_PORT

THIS_NODE = "this is node"


def netmap(mesh: Mesh, version: int, beacons: tuple[str, ...] = ("alpha", "beta"), **of_gamma: object) -> bytes:
    """The next version of a map differs by a route."""
    nodes = []
    for host in mesh.hosts:
        changes = {"endpoint": None, **of_gamma} if host.name == "gamma" else {}
        beacon = {"beacon": BEACON_PORT} if host.name in beacons else {}
        routes = (f"10.77.{version}.0/24",) if host.name == "gamma" else ()
        nodes.append(host.node(routes=routes, **beacon, **changes))
    return mesh.netmap(version, *nodes)


def wait_for_version(host: Host, version: int) -> None:
    """Until the host keeps this version."""

    def kept() -> bool:
        status = host.status()
        return status["netmap"]["version"] == version and not status["trial"]

    wait(kept, f"version {version} on {host.name}\n{host.log}")


def wait_for_streams(host: Host, *beacons: str) -> None:
    def connected() -> bool:
        return {each["name"] for each in host.status()["beacons"] if each["since"]} >= set(beacons)

    wait(connected, f"streams of {host.name} to {beacons}\n{host.log}")


def start(mesh: Mesh, version: int = 1, **changes: object) -> None:
    for host in mesh.hosts:
        host.start()
        host.apply(netmap(mesh, version, **changes))


@pytest.fixture
def mesh(tmp_path):
    """Beacons alpha and beta; gamma, which nobody can reach first; delta. All connected, all at version 1."""
    with Mesh(tmp_path, "alpha", "beta", "gamma", "delta") as mesh:
        start(mesh)
        for host in mesh.hosts:
            wait_for_streams(host, *({"alpha", "beta"} - {host.name}))
        yield mesh


def test_a_change_is_pushed_to_everybody_and_lasts(mesh):
    alpha, beta, gamma, delta = mesh.hosts
    alpha.apply(netmap(mesh, 2))
    for host in (gamma, delta, beta):
        host.log.wait_for(f"netmap version 2: {THIS_NODE} {host.name}")
        wait_for_version(host, 2)
        assert host.status()["netmap"]["origin"] in ("beacon alpha", "beacon beta")
        assert host.status()["netmap"]["refused"] is None
        assert (host.directory / "state/netmap").read_bytes() == netmap(mesh, 2)
    # Now delta reaches what is behind gamma.
    assert "10.77.2.0/24" in delta.traces()["routes"]
    shown = gamma.cli("status").stdout
    assert "version 2, from beacon" in shown and "alpha, connected" in shown and "has version 2" in shown
    shown = alpha.cli("status").stdout
    assert "this node, TCP port 21472; 3 nodes are connected" in shown
    gamma.stop(signal.SIGKILL)
    gamma.start()
    assert gamma.status()["netmap"]["version"] == 2


def test_what_a_node_was_given_reaches_beacons_and_what_is_on_trial_stays(mesh):
    alpha, _beta, gamma, delta = mesh.hosts
    trial = gamma.call("netmap.apply", netmap=base64.b64encode(netmap(mesh, 2)).decode(), trial=60)["trial"]
    # What is for good overtakes what is on trial.
    alpha.apply(netmap(mesh, 3))
    wait_for_version(delta, 3)
    assert alpha.status()["netmap"]["version"] == 3
    assert (gamma.status()["netmap"]["version"], gamma.status()["trial"]["state"]) == (2, "running")
    gamma.call("trial.confirm", id=trial["id"])
    wait_for_version(gamma, 3)
    # Ansible has reached nobody but a node.
    gamma.apply(netmap(mesh, 4))
    for host in mesh.hosts:
        wait_for_version(host, 4)
    assert alpha.status()["netmap"]["origin"] in ("node gamma", "beacon beta")


def test_one_beacon_of_two_is_killed_and_comes_back_with_an_old_disk(mesh):
    alpha, beta, gamma, delta = mesh.hosts
    assert gamma.cli("ping", "delta", "-c", "1", "-W", "60").returncode == 0
    with steady_ping(gamma, delta.addresses[0]) as lost:
        alpha.stop(signal.SIGKILL)
        beta.apply(netmap(mesh, 2))
        for host in (gamma, delta):
            wait_for_version(host, 2)
            assert host.status()["netmap"]["origin"] == "beacon beta"
    assert lost == []
    beta.apply(netmap(mesh, 3))
    wait_for_version(gamma, 3)
    assert (alpha.directory / "state/netmap").read_bytes() == netmap(mesh, 1)
    alpha.start()
    wait_for_version(alpha, 3)
    # Neither beacon is special: gamma hears of the next by either.
    for host in (gamma, delta):
        wait_for_streams(host, "alpha", "beta")
    beta.stop(signal.SIGKILL)
    alpha.apply(netmap(mesh, 4))
    wait_for_version(gamma, 4)


def test_without_any_beacon_the_mesh_goes_on(mesh):
    alpha, beta, gamma, delta = mesh.hosts
    assert gamma.cli("ping", "delta", "-c", "1", "-W", "60").returncode == 0
    with steady_ping(gamma, delta.addresses[0]) as lost:
        for beacon in (alpha, beta):
            beacon.stop(signal.SIGKILL)
        # Whether the kernel can still say farewell for a killed process is a matter of luck.
        gamma.log.wait_for("beacon alpha: no connection within 20 s")
        gamma.log.wait_for("beacon beta: no connection within 20 s")
    assert lost == []
    assert "beta, not connected" in gamma.cli("status").stdout


def test_a_node_that_was_away_catches_up_with_three_changes(mesh):
    alpha, beta, gamma, _delta = mesh.hosts
    gamma.stop()
    for version in (2, 3, 4):
        beta.apply(netmap(mesh, version))
    wait_for_version(alpha, 4)
    gamma.start()
    wait_for_version(gamma, 4)
    # Those in between are of no use to anybody.
    assert "netmap version 3" not in str(gamma.log) and "netmap version 2" not in str(gamma.log)


def test_two_beacons_that_were_split_agree_when_they_are_joined(mesh):
    alpha, beta, gamma, _delta = mesh.hosts
    switch = f"{mesh.prefix}-sw"
    run("ip", "-n", switch, "link", "set", "alpha", "down")
    beta.apply(netmap(mesh, 2))
    wait_for_version(gamma, 2)
    alpha.log.wait_for("beacon beta: no answer within 10 s")
    assert alpha.status()["netmap"]["version"] == 1
    run("ip", "-n", switch, "link", "set", "alpha", "up")
    wait_for_version(alpha, 2)
    wait_for_streams(gamma, "alpha")


def test_a_node_goes_back_when_no_beacon_answers_under_a_pushed_map(mesh):
    """The beacons' service moves to a port that their firewalls do not let through."""
    alpha, beta, gamma, delta = mesh.hosts
    delta.stop()
    before = gamma.traces()
    for beacon in (alpha, beta):
        beacon.run("nft", "add table inet test; add chain inet test input { type filter hook input priority 0; }; "
                          "add rule inet test input tcp dport 7000 drop")  # fmt: skip
    moved = [host.node(beacon=7000) for host in (alpha, beta)]
    alpha.apply(mesh.netmap(2, *moved, gamma.node(endpoint=None), delta.node(routes=("10.78.0.0/24",))))
    gamma.log.wait_for("netmap version 2: on trial")
    wait(lambda: "10.78.0.0/24" in gamma.traces()["routes"], "version 2 on gamma")
    gamma.log.wait_for("netmap version 2: not confirmed within 30 s; back to netmap version 1")
    gamma.log.wait_for("version 2 from beacon alpha: no beacon answered under it")
    gamma.log.wait_for("remove route 10.78.0.0/24")
    assert gamma.traces() == before
    status = gamma.status()
    assert (status["netmap"]["version"], status["netmap"]["refused"]["reason"]) == (1, "trial-expired")
    assert gamma.cli("ping", "alpha", "-c", "1", "-W", "60").returncode == 0
    # Somebody notices, and gamma did not have to be visited.
    alpha.apply(netmap(mesh, 3))
    wait_for_version(gamma, 3)
    assert gamma.status()["netmap"]["refused"] is None


def test_the_service_is_in_the_mesh_and_nowhere_else(mesh):
    alpha, _beta, gamma, _delta = mesh.hosts
    for address in alpha.addresses:
        gamma.run("python3", "-c", f"import socket; socket.create_connection(('{address}', {BEACON_PORT}), 20)")
    for address in alpha.underlay:
        with pytest.raises(AssertionError, match="refused"):
            gamma.run("python3", "-c", f"import socket; socket.create_connection(('{address}', {BEACON_PORT}), 20)")
    # Not even what a neighbour on the underlay sends to the mesh address is taken.
    listeners = [line.split()[3] for line in alpha.run("ss", "-Hltn", f"sport = {BEACON_PORT}").splitlines()]
    assert sorted(listeners) == [f"100.64.0.1%sennit0:{BEACON_PORT}", f"[fd5e::1]%sennit0:{BEACON_PORT}"]


def moved(mesh: Mesh, version: int) -> bytes:
    """All addresses are others."""
    changed = []
    for host in mesh.hosts:
        beacon = {"beacon": BEACON_PORT} if host.name in ("alpha", "beta") else {}
        endpoint = {"endpoint": None} if host.name == "gamma" else {}
        node = host.node(**beacon, **endpoint)
        changed.append(
            dataclasses.replace(node, addresses=(f"100.65.{version}.{host.number}", f"fd5e::{version}:{host.number}"))
        )
    return mesh.netmap(version, *changed)


def test_all_addresses_change_and_nodes_that_only_beacons_reach_hear_of_it(mesh):
    """Under the old map they know the beacons by addresses that these have no more."""
    alpha, beta, gamma, delta = mesh.hosts
    delta.stop()
    alpha.apply(moved(mesh, 2))
    for host in (beta, gamma):
        wait_for_version(host, 2)
    assert gamma.status()["addresses"] == ["100.65.2.3", "fd5e::2:3"]
    alpha.stop(signal.SIGKILL)
    alpha.start()
    alpha.apply(moved(mesh, 3))
    wait_for_version(gamma, 3)
    # It was away during both, and is not alone with what it knows.
    delta.start()
    wait_for_version(delta, 3)
    wait_for_streams(delta, "alpha", "beta")
    # What the beacon itself has to say comes from where it is now.
    assert alpha.cli("ping", "delta", "-c", "1", "-W", "60").returncode == 0
    assert alpha.status()["addresses"] == ["100.65.3.1", "fd5e::3:1"]
    assert "100.64.0.1/32" in {
        f"{address['local']}/{address['prefixlen']}"
        for link in json.loads(alpha.run("ip", "-j", "addr", "show", "dev", "sennit0")) for address in link["addr_info"]
    }  # fmt: skip
    source = json.loads(alpha.run("ip", "-j", "route", "get", "100.65.3.4"))[0]["prefsrc"]
    assert source == "100.65.3.1"


def test_a_node_that_becomes_a_beacon_and_ceases_to_be_one(mesh):
    alpha, beta, gamma, delta = mesh.hosts
    alpha.apply(netmap(mesh, 2, beacons=("beta", "delta")))
    for host in (beta, gamma, delta):
        wait_for_version(host, 2)
    wait_for_streams(gamma, "beta", "delta")
    assert alpha.status()["beacon"] is None
    assert [each["name"] for each in gamma.status()["beacons"]] == ["beta", "delta"]
    with pytest.raises(AssertionError, match="refused"):
        gamma.run("python3", "-c",
                  f"import socket; socket.create_connection(('{alpha.addresses[0]}', {BEACON_PORT}), 20)")  # fmt: skip


def test_a_full_disk_does_not_stop_a_beacon(mesh):
    alpha, beta, gamma, _delta = mesh.hosts
    state = alpha.directory / "state"
    alpha.stop()
    keep = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(state))
    try:
        for name, content in keep.items():
            (state / name).write_bytes(content)
            (state / name).chmod(0o600)
        with (state / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(bytes(4096))
        alpha.start()
        wait_for_streams(alpha, "beta")
        wait_for_streams(gamma, "alpha", "beta")
        beta.apply(netmap(mesh, 2))
        wait_for_version(alpha, 2)
        assert any("in memory only" in problem for problem in alpha.status()["problems"])
        assert "No space left" in alpha.cli("status").stdout
        # Where nodes are is written down once a minute, and told from memory meanwhile.
        told = "where nodes are is kept in memory only"
        wait(lambda: any(told in problem for problem in alpha.status()["problems"]), told)
        wait(lambda: next(each for each in gamma.status()["beacons"] if each["name"] == "alpha")["seen_as"]["observed"],
             "what the beacon sees")  # fmt: skip
        # It goes on serving: with beta gone, gamma hears of it all the same.
        gamma.stop()
        beta.stop()
        (gamma.directory / "state/netmap").write_bytes(netmap(mesh, 1))
        gamma.start()
        wait_for_version(gamma, 2)
        assert gamma.status()["netmap"]["origin"] == "beacon alpha"
    finally:
        alpha.stop()
        run("umount", str(state))


def test_the_first_map_of_all_may_come_from_a_url(tmp_path):
    with Mesh(tmp_path, "alpha", "gamma") as mesh:
        alpha, gamma = mesh.hosts
        store = tmp_path / "store"
        store.mkdir()
        (store / "netmap").write_bytes(netmap(mesh, 5, beacons=("alpha",)))
        server = subprocess.Popen(
            ["ip", "netns", "exec", gamma.namespace, "python3", "-u", "-m", "http.server",
             "--bind", "127.0.0.1", "--directory", str(store), "8000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            if server.stdout is None:
                raise AssertionError("there is a pipe")
            server.stdout.readline()
            alpha.start()
            alpha.apply(netmap(mesh, 6, beacons=("alpha",)))
            gamma.configure(netmap_url="http://127.0.0.1:8000/netmap?sig=word")
            gamma.start()
            # From there it knows a beacon, which knows better.
            wait_for_version(gamma, 6)
            assert "netmap version 5: this is node gamma" in str(gamma.log)
            status = gamma.status()
            assert status["netmap"]["origin"] == "beacon alpha"
            assert status["netmap_url"]["url"] == "http://127.0.0.1:8000/netmap"
            assert status["netmap_url"]["problem"] is None and status["netmap_url"]["looked_at"]
        finally:
            server.kill()
            server.communicate()
