"""Agents that become a mesh: real processes, real tunnels, in network namespaces."""

from __future__ import annotations

import json
import signal

import pytest
from tests.interop.agents import Mesh, steady_ping, wait

from sennit.api import ApiError


@pytest.fixture
def mesh(tmp_path):
    with Mesh(tmp_path, "alpha", "beta", "gamma") as mesh:
        yield mesh


@pytest.fixture
def pair(mesh):
    """Two agents with a map of both, and a session."""
    alpha, beta, _gamma = mesh.hosts
    signed = mesh.netmap(1, alpha.node(), beta.node())
    for host in (alpha, beta):
        host.start()
        assert host.apply(signed) == {"changed": True, "version": 1}
    assert alpha.cli("ping", "beta", "-c", "1").returncode == 0
    return alpha, beta


def test_both_families_answer_in_both_directions(pair):
    alpha, beta = pair
    for host, other in ((alpha, beta), (beta, alpha)):
        result = host.cli("ping", other.name, "-c", "2", "--json")
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert answer["endpoint"] == f"{other.underlay[0]}:51820"
        assert [entry["address"] for entry in answer["addresses"]] == list(other.addresses)
        assert [len(entry["rtt_ms"]) for entry in answer["addresses"]] == [2, 2]
    peer = alpha.peer("beta")
    assert peer["latest_handshake"] and peer["rx_bytes"] and peer["tx_bytes"]


def test_over_an_ipv6_underlay(mesh):
    alpha, beta, _gamma = mesh.hosts
    nodes = [host.node(endpoint=f"[{host.underlay[1]}]:51820") for host in (alpha, beta)]
    for host in (alpha, beta):
        host.start()
        host.apply(mesh.netmap(1, *nodes))
    result = alpha.cli("ping", "beta", "-c", "1")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == f"beta: 2 of 2 answered, by [{beta.underlay[1]}]:51820"


def test_the_same_map_again_changes_nothing(mesh, pair):
    alpha, _beta = pair
    alpha.log.wait_for("leads to the mesh's resolver")  # the last that is said of a map
    before = str(alpha.log)
    assert alpha.apply(mesh.netmap(1, *(host.node() for host in pair))) == {"changed": False, "version": 1}
    assert str(alpha.log) == before


def test_an_added_peer_leaves_the_session_of_the_others_alone(mesh, pair):
    alpha, beta = pair
    gamma = mesh.hosts[2]
    before = alpha.peer("beta")
    with steady_ping(alpha, beta.addresses[0]) as lost:
        gamma.start()
        for host in mesh.hosts:
            host.apply(mesh.netmap(2, *(each.node() for each in mesh.hosts)))
        assert gamma.cli("ping", "alpha", "-c", "1").returncode == 0
        assert alpha.cli("ping", "gamma", "-c", "1").returncode == 0
    assert lost == []
    assert alpha.peer("beta")["latest_handshake"] == before["latest_handshake"]
    wait(lambda: alpha.peer("beta")["rx_bytes"] > before["rx_bytes"], "what was received to be told")


def test_a_removed_peer_is_cut_off_and_its_routes_go(mesh, pair):
    alpha, beta = pair
    alpha.apply(mesh.netmap(2, alpha.node()))
    assert alpha.status()["peers"] == []
    assert alpha.traces() == {"links": ["sennit0"]}
    assert beta.cli("ping", "alpha", "-c", "1", "-W", "1").returncode == 1


def test_a_restart_takes_up_the_stored_map(pair):
    alpha, beta = pair
    before = alpha.traces()
    assert alpha.stop() == 0
    alpha.start()
    assert alpha.status()["netmap"]["version"] == 1
    assert alpha.traces() == before
    # The very first packet of the new session is answered; a handshake that failed is tried again after 5 s.
    assert alpha.cli("ping", beta.name, "-c", "1", "-W", "4").returncode == 0


def test_sigterm_leaves_the_host_as_it_was(mesh):
    alpha, beta, _gamma = mesh.hosts
    alpha.run("ip", "rule", "add", "priority", "5200", "fwmark", "7", "table", "99")
    alpha.run("ip", "route", "add", "198.51.100.0/24", "via", beta.underlay[0], "table", "99")

    def picture():
        return [
            json.loads(alpha.run("ip", "-j", *what))
            for what in (
                ("address",),
                ("-4", "rule"),
                ("-6", "rule"),
                ("-4", "route", "show", "table", "all"),
                ("-6", "route", "show", "table", "all"),
            )
        ]

    before = picture()
    alpha.start()
    alpha.apply(mesh.netmap(1, alpha.node(), beta.node(routes=("192.168.10.0/24",))))
    assert len(alpha.traces()["routes"]) == 3
    assert alpha.stop() == 0
    assert picture() == before


def test_what_a_killed_agent_left_is_taken_up_again(pair):
    alpha, beta = pair
    before = alpha.traces()
    alpha.stop(signal.SIGKILL)
    # The tunnel and its routes go with the process; the rules stay, and lead into an empty table.
    assert alpha.traces() == {"rules": before["rules"]}
    alpha.start()
    assert alpha.traces() == before
    # The very first packet of the new session is answered; a handshake that failed is tried again after 5 s.
    assert alpha.cli("ping", beta.name, "-c", "1", "-W", "4").returncode == 0


def test_what_a_killed_agent_left_is_removed_when_it_is_not_wanted(pair):
    alpha, _beta = pair
    alpha.stop(signal.SIGKILL)
    (alpha.directory / "state/netmap").unlink()
    alpha.start()
    assert alpha.traces() == {"links": ["sennit0"]}


def test_a_rule_that_somebody_removes_comes_back(pair):
    alpha, _beta = pair
    before = alpha.traces()
    alpha.run("ip", "rule", "del", "priority", "5200")
    alpha.log.wait_for("add rule IPv4", times=2)
    assert alpha.traces() == before


def test_a_subnet_the_host_is_on_link_with_is_not_taken_from_it(mesh):
    alpha, beta, _gamma = mesh.hosts
    alpha.run("ip", "addr", "add", "192.168.10.7/24", "dev", "eth0")
    alpha.start()
    alpha.apply(mesh.netmap(1, alpha.node(), beta.node(routes=("192.168.10.0/24", "192.168.20.0/24"))))
    assert alpha.status()["routes"] == [
        {"prefix": "192.168.10.0/24", "via": "beta", "state": "on-link"},
        {"prefix": "192.168.20.0/24", "via": "beta", "state": "installed"},
    ]
    assert "192.168.10.0/24" not in alpha.traces()["routes"]
    alpha.run("ip", "addr", "del", "192.168.10.7/24", "dev", "eth0")
    alpha.log.wait_for("add route 192.168.10.0/24")
    assert "192.168.10.0/24" in alpha.traces()["routes"]


def test_without_ipv6_on_the_host_ipv4_works_and_the_problem_is_told(mesh):
    alpha, beta, _gamma = mesh.hosts
    alpha.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    for host in (alpha, beta):
        host.start()
        host.apply(mesh.netmap(1, alpha.node(), beta.node()))
    assert alpha.cli("ping", "beta", "-4", "-c", "1").returncode == 0
    assert "fd5e::1/128: Permission denied" in alpha.status()["problems"]


@pytest.mark.parametrize("name", ["sennit-inbound", "sennit-outbound"])
def test_a_dead_worker_ends_the_agent_so_that_it_is_started_anew(pair, name):
    alpha, _beta = pair
    [pid] = alpha.called(name)
    alpha.run("kill", "-9", str(pid))
    assert alpha.agent.wait(30) == 1
    alpha.agent = None
    alpha.log.wait_for(f"{name} (process {pid}) has ended")


def test_the_watchdog_is_fed(mesh):
    alpha = mesh.hosts[0]
    alpha.environment["WATCHDOG_USEC"] = "100000"
    alpha.start()
    for _ in range(3):
        alpha.notifications.wait_for("WATCHDOG=1", alpha.agent)


def test_a_second_agent_does_not_start(pair):
    alpha, _beta = pair
    log = alpha.log
    second = alpha.launch()
    assert second.wait(30) == 1
    alpha.log.wait_for("another agent runs already")
    alpha.log = log
    assert alpha.cli("ping", "beta", "-c", "1").returncode == 0


@pytest.mark.parametrize(("key", "value"), [("listen_port", 99999), ("network", "")])
def test_a_bad_configuration_is_named_and_not_tried_again(mesh, key, value):
    alpha = mesh.hosts[0]
    alpha.configure(**{key: value})
    assert alpha.launch().wait(30) == 78
    alpha.log.wait_for(f"agent.json: {key}: ")


def test_a_damaged_key_is_named_and_not_tried_again(mesh):
    alpha = mesh.hosts[0]
    (alpha.directory / "state/private.key").write_text("nonsense\n")
    assert alpha.launch().wait(30) == 78
    alpha.log.wait_for("private.key: not a WireGuard private key")


def test_the_private_key_is_shown_nowhere(pair):
    alpha, _beta = pair
    secret = (alpha.directory / "state/private.key").read_text().strip()
    assert secret not in json.dumps(alpha.status())
    assert secret not in str(alpha.log)


def test_an_unknown_method_is_an_error(pair):
    alpha, _beta = pair
    with pytest.raises(ApiError) as caught:
        alpha.call("no.such")
    assert caught.value.code == "unknown-method"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_peer_that_speaks_first_is_heard_after_a_restart(mesh, number):
    """beta goes on with the session that it has; of alpha's side nobody but alpha itself knows where beta is."""
    alpha, beta, _gamma = mesh.hosts
    signed = mesh.netmap(1, alpha.node(), beta.node(endpoint=None))
    for host in (alpha, beta):
        host.start()
        host.apply(signed)
    assert beta.cli("ping", "alpha", "-c", "1").returncode == 0
    if number == signal.SIGKILL:
        wait((alpha.directory / "run/sessions.json").exists, "what a killed agent's successor goes on with")
    alpha.stop(number)
    handshake = beta.peer("alpha")["latest_handshake"]
    alpha.start()
    # Nobody speaks, so this can only be alpha's.
    wait(lambda: beta.peer("alpha")["latest_handshake"] != handshake, "another handshake")
    beta.run("ping", "-n", "-c", "1", "-W", "5", alpha.addresses[0])
