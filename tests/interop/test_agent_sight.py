"""What the commands of a host show of the paths in a mesh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import Host, Mesh

from sennit.api import ApiError

Three = tuple[Host, Host, Host]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Agents of one map; the first two have a session."""
    directory: Path = tmp_path_factory.mktemp("mesh")
    with Mesh(directory, "alpha", "beta", "gamma") as mesh:
        alpha, beta, gamma = mesh.hosts
        signed = mesh.netmap(1, *(host.node() for host in mesh.hosts))
        for host in mesh.hosts:
            host.start()
            host.apply(signed)
        assert alpha.cli("ping", "beta", "-c", "1").returncode == 0
        yield alpha, beta, gamma


def echo_requests(host: Host) -> int:
    """How many the host has sent, by the kernel's count."""
    names, values = (
        line.split() for line in host.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Icmp:")
    )
    return int(dict(zip(names, values))["OutEchos"])


def test_round_trip_times_are_of_sessions_alone(three):
    alpha, _beta, gamma = three
    heard = [peer["rx_bytes"] for peer in gamma.status()["peers"]]
    shown = {peer["name"]: peer for peer in json.loads(alpha.cli("status", "--json").stdout)["peers"]}
    assert 0 < shown["beta"]["rtt"] < 1
    assert shown["gamma"]["rtt"] is None
    # And nothing was sent to the other: there is no handshake.
    assert alpha.peer("gamma")["latest_handshake"] is None
    assert [peer["rx_bytes"] for peer in gamma.status()["peers"]] == heard
    line = next(line for line in alpha.cli("status").stdout.splitlines() if line.startswith("beta "))
    assert " ms " in line


def test_nothing_is_sent_if_it_is_not_to_be_measured(three):
    alpha, _beta, _gamma = three
    before = echo_requests(alpha)
    shown = json.loads(alpha.cli("status", "--json", "--no-rtt").stdout)
    assert [peer["rtt"] for peer in shown["peers"]] == [None, None]
    assert echo_requests(alpha) == before
    alpha.cli("status")
    assert echo_requests(alpha) == before + 1


def test_a_peer_that_has_died_costs_a_second_and_no_more(three, tmp_path):
    with Mesh(tmp_path, "one", "two") as mesh:
        one, two = mesh.hosts
        for host in mesh.hosts:
            host.start()
            host.apply(mesh.netmap(1, one.node(), two.node()))
        assert one.cli("ping", "two", "-c", "1").returncode == 0
        two.stop()
        result = one.cli("status", "--json")
        assert result.returncode == 0
        assert json.loads(result.stdout)["peers"][0]["rtt"] is None


def test_ping_tells_the_way_of_each_answer(three):
    alpha, beta, _gamma = three
    result = json.loads(alpha.cli("ping", "beta", "-c", "1", "--json").stdout)
    endpoint = f"{beta.underlay[0]}:51820"
    replies = [reply for address in result["addresses"] for reply in address["replies"]]
    assert [reply["answered_by"]["endpoint"] for reply in replies] == [endpoint, endpoint]
    lines = alpha.cli("ping", "beta", "-4", "-c", "1").stdout.splitlines()
    assert lines[0].startswith("beta 100.64.0.2 (1): ")
    assert lines[0].endswith(endpoint)


def test_one_peer_can_be_asked_for(three):
    alpha, _beta, _gamma = three
    assert alpha.call("peer.status", name="beta")["name"] == "beta"
    for wrong in ({"name": "delta"}, {"name": 7}, {}, {"name": "alpha"}):
        with pytest.raises(ApiError) as caught:
            alpha.call("peer.status", **wrong)
        assert caught.value.code == "bad-request"
