"""What the commands of a host show of the paths in a mesh."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.interop.agents import PATIENCE, Host, Mesh, wait

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
    shown: dict = {}

    def measured() -> bool:
        """Whether beta has answered; a busy machine may need more than the second that it is given."""
        shown.update({peer["name"]: peer for peer in json.loads(alpha.cli("status", "--json").stdout)["peers"]})
        return shown["beta"]["rtt"] is not None

    wait(measured, "a round-trip time to beta")
    assert 0 < shown["beta"]["rtt"] < PATIENCE
    assert shown["gamma"]["rtt"] is None
    # And nothing was sent to the other: there is no handshake.
    assert alpha.peer("gamma")["latest_handshake"] is None
    assert [peer["rx_bytes"] for peer in gamma.status()["peers"]] == heard

    def told() -> bool:
        line = next(line for line in alpha.cli("status").stdout.splitlines() if line.startswith("beta "))
        return " ms " in line

    wait(told, "it to be told in words")


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


def scrape(host: Host, address: str) -> str | None:
    """What this host gets from there; None if it is turned away."""
    place = f"[{address}]" if ":" in address else address
    code = f"import urllib.request as r; print(r.urlopen('http://{place}:9586/metrics', timeout=20).read().decode())"
    result = subprocess.run(
        ["ip", "netns", "exec", host.namespace, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return result.stdout if result.returncode == 0 else None


@pytest.fixture
def exporter(three: Three) -> Iterator[subprocess.Popen[bytes]]:
    alpha = three[0]
    process = alpha.popen("metrics", "--listen", "9586")
    try:
        assert process.stdout
        assert process.stdout.readline().decode() == f"serving at {' '.join(alpha.addresses)}\n"
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_metrics_are_there_for_the_mesh_alone(three, exporter):
    alpha, beta, gamma = three
    for scraper, address in ((beta, alpha.addresses[0]), (beta, alpha.addresses[1]), (alpha, alpha.addresses[0])):
        text = scrape(scraper, address)
        assert text is not None
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["sennit_up"].samples[0].value == 1
        received = {sample.labels["peer"]: sample.value for sample in families["sennit_peer_receive_bytes"].samples}
        assert received["beta"] > 0
    # Not at the host's other addresses; and not by the way of the LAN, though the kernel would answer there.
    assert scrape(gamma, alpha.underlay[0]) is None
    gamma.run("ip", "rule", "add", "to", alpha.addresses[0], "lookup", "main", "priority", "100")
    gamma.run("ip", "route", "add", alpha.addresses[0], "via", alpha.underlay[0])
    try:
        assert gamma.run("ping", "-c", "1", "-W", "5", alpha.addresses[0])
        assert scrape(gamma, alpha.addresses[0]) is None
    finally:
        gamma.run("ip", "route", "del", alpha.addresses[0], "via", alpha.underlay[0])
        gamma.run("ip", "rule", "del", "priority", "100")
    assert scrape(gamma, alpha.addresses[0]) is not None


def test_a_client_that_says_nothing_keeps_no_other_away(three, exporter):
    alpha, beta, _gamma = three
    code = (
        "import socket, sys\n"
        f"kept = [socket.create_connection(('{alpha.addresses[0]}', 9586)) for _ in range(5)]\n"
        "print('there', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["ip", "netns", "exec", beta.namespace, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as idle:
        assert idle.stdout
        assert idle.stdout.readline() == b"there\n"
        assert scrape(beta, alpha.addresses[0]) is not None
        idle.communicate(b"")


def test_netcheck_without_a_beacon(three):
    alpha, _beta, _gamma = three
    result = alpha.cli("netcheck")
    assert result.returncode == 0
    assert "the network has no beacon" in result.stdout
