"""What goes by the exit node, what does not, and that nothing leaves by the LAN that should not."""

from __future__ import annotations

import signal

import pytest
from tests.interop.agents import Mesh, wait
from tests.interop.internet import BEYOND, SERVER, Internet
from tests.interop.test_agent_names import STUB, dig, resolv_conf

from sennit.api import ApiError


@pytest.fixture
def internet(tmp_path):
    with Mesh(tmp_path, "client", "exit", "router", "server", "printer") as mesh:
        internet = Internet(mesh)
        internet.build()
        internet.start()
        with internet.listening(internet.server, internet.printer):
            yield internet


def by_exit(internet):
    return [f"{BEYOND[0]}.{internet.exit.number}", f"{BEYOND[1]}:{internet.exit.number}"]


def set_preferences(host, **preferences):
    return host.call("preferences.set", preferences=preferences)


def test_the_exit_node_carries_both_families(internet):
    client = internet.client
    assert internet.seen_by(internet.server, *SERVER) == list(client.underlay)
    with internet.captured() as packets:
        result = set_preferences(client, exit_node="exit")
        assert result["changed"] and result["preferences"]["exit_node"] == "exit"
        assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)
        assert client.cli("ping", "exit", "-c", "1").returncode == 0
        assert client.status()["exit_node"] == {"name": "exit", "state": "active"}
        assert client.status()["problems"] == []
    assert set(packets) == {"wireguard"}
    assert "exit node" in client.cli("status").stdout
    assert set_preferences(client, exit_node="exit")["changed"] is False

    assert client.cli("set", "--exit-node", "none").returncode == 0
    assert internet.seen_by(internet.server, *SERVER) == list(client.underlay)
    assert sorted(client.traces()["routes"]) == sorted(internet.exit.addresses)


def test_names_are_asked_for_by_the_exit_node_too(internet):
    client = internet.client
    resolv_conf(client).write_text(f"nameserver {SERVER[0]}\n")
    client.log.wait_for("leads to the mesh's resolver", times=2)
    set_preferences(client, exit_node="exit")
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)
    with internet.captured() as packets:
        assert dig(client, "exit.demo.internal") == [internet.exit.addresses[0]]
        # The server has no nameserver: what counts is the way that the question takes.
        asked = client.call("dns.query", name="www.example.org")
        assert (asked["rule"], [each["server"] for each in asked["tried"]]) == ("default", [SERVER[0]])
    assert set(packets) == {"wireguard"}
    assert "dev lo" in client.run("ip", "route", "get", STUB)


def test_nothing_leaves_by_the_lan_while_the_exit_node_is_down(internet):
    set_preferences(internet.client, exit_node="exit")
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)
    internet.exit.stop(signal.SIGKILL)
    with internet.captured() as packets:
        assert internet.seen_by(internet.server, *SERVER, timeout=2) == ["", ""]
        assert internet.seen_by(internet.printer, *internet.printer.underlay, timeout=1) == ["", ""]
        for address in (*SERVER, *internet.printer.underlay):
            internet.client.run("ping", "-c", "2", "-i", "0.2", "-W", "1", address, check=False)
    assert set(packets) == {"wireguard"}

    internet.exit.start()
    wait(lambda: internet.seen_by(internet.server, *SERVER, timeout=2) == by_exit(internet), "the way by the exit node")


def test_the_own_lan_is_reached_only_when_it_is_wanted(internet):
    client, printer = internet.client, internet.printer
    set_preferences(client, exit_node="exit")
    assert internet.seen_by(printer, *printer.underlay, timeout=1) == ["", ""]
    set_preferences(client, exit_node_allow_lan_access=True)
    assert internet.seen_by(printer, *printer.underlay) == list(client.underlay)
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)
    set_preferences(client, exit_node_allow_lan_access=False)
    assert internet.seen_by(printer, *printer.underlay, timeout=1) == ["", ""]
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)


def test_fail_open_lets_leave_by_the_lan_what_the_exit_node_cannot_carry(internet):
    client = internet.client
    internet.exit.stop(signal.SIGKILL)
    set_preferences(client, exit_node="exit", exit_node_fail_open=True)
    assert internet.seen_by(internet.server, *SERVER, timeout=1) == ["", ""]
    client.log.wait_for("the exit node is down")
    client.log.wait_for("remove route ::/0")
    assert internet.seen_by(internet.server, *SERVER) == list(client.underlay)
    internet.exit.start()
    client.log.wait_for("the exit node is up again")
    client.log.wait_for("add route ::/0", times=2)
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)


@pytest.mark.parametrize("offer", ["offered", None])
def test_an_exit_node_that_the_network_takes_away_stops_the_traffic(internet, offer):
    client = internet.client
    set_preferences(client, exit_node="exit")
    client.apply(internet.netmap(2, offer))
    with internet.captured() as packets:
        assert internet.seen_by(internet.server, *SERVER, timeout=1) == ["", ""]
        assert client.cli("ping", "exit", "-c", "1").returncode == 0
    assert set(packets) == {"wireguard"}
    assert any("exit is no approved exit node" in problem for problem in client.status()["problems"])
    client.apply(internet.netmap(3))
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_host_whose_agent_is_gone_is_not_stranded(internet, number):
    client = internet.client
    set_preferences(client, exit_node="exit", exit_node_allow_lan_access=True)
    client.stop(number)
    assert internet.seen_by(internet.server, *SERVER) == list(client.underlay)
    client.start()
    assert client.status()["preferences"]["exit_node"] == "exit"
    assert client.cli("ping", "exit", "-c", "1").returncode == 0
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)


@pytest.mark.parametrize(
    ("name", "offer", "code"),
    [
        ("nobody", "approved", "exit-node-unknown"),
        ("client", "approved", "exit-node-self"),
        ("exit", None, "exit-node-not-offered"),
        ("exit", "offered", "exit-node-not-approved"),
    ],
)
def test_an_exit_node_that_cannot_be_one_is_refused(internet, name, offer, code):
    client = internet.client
    client.apply(internet.netmap(2, offer))
    before = client.traces()
    with pytest.raises(ApiError, match=f'exit_node: "{name}" ') as caught:
        set_preferences(client, exit_node=name, accept_routes=False)
    assert caught.value.code == code
    assert client.call("preferences.get")["preferences"]["accept_routes"] is True
    assert client.traces() == before
    assert client.cli("set", "--exit-node", name).returncode == 5


def test_a_strict_reverse_path_filter_is_told_before_anything_changes(internet):
    client = internet.client
    client.run("sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1")
    before = client.traces()
    with pytest.raises(ApiError, match=r"net\.ipv4\.conf\.eth0\.rp_filter=2") as caught:
        set_preferences(client, exit_node="exit")
    assert caught.value.code == "exit-node-rp-filter"
    assert client.traces() == before
    client.run("sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=2")
    set_preferences(client, exit_node="exit")
    assert internet.seen_by(internet.server, *SERVER) == by_exit(internet)


def test_routes_of_others_are_taken_only_when_they_are_accepted(internet):
    client, exit_node = internet.client, internet.exit
    node = exit_node.node(exit_node="approved", routes=("198.51.100.0/24",))
    client.apply(internet.mesh.netmap(2, client.node(), node))
    assert internet.seen_by(internet.server, SERVER[0]) == by_exit(internet)[:1]
    set_preferences(client, accept_routes=False)
    assert internet.seen_by(internet.server, SERVER[0]) == [client.underlay[0]]
    assert client.status()["routes"][0]["state"] == "not-accepted"
