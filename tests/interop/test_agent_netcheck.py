"""`sennit netcheck` behind real NAT, and on paths with a narrow place."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.agents import Host, Mesh, run, wait
from tests.interop.hostile import BEACON_PORT

INSIDE = ("192.168.7.1", "192.168.7.2")  # the router, the node
# Conntrack keeps the port while nobody else has it; or takes another for each connection.
MASQUERADE = {"endpoint-independent": "masquerade", "symmetric": "masquerade fully-random"}


def netcheck(host: Host) -> dict[str, Any]:
    return json.loads(host.cli("netcheck", "--json").stdout)  # type: ignore[no-any-return]


def underlay(result: dict[str, Any], host: Host) -> dict[str, Any]:
    """What was found of the way to this beacon's IPv4 address; it may be reached by its others as well."""
    beacon = next(beacon for beacon in result["beacons"] if beacon["name"] == host.name)
    return next(path for path in beacon["underlay"] if path["address"] == host.underlay[0])


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Mesh, Host, Host]]:
    """A node, and a beacon that it has a stream to."""
    with Mesh(tmp_path, "node", "harbor") as mesh:
        node, harbor = mesh.hosts
        signed = mesh.netmap(1, node.node(), harbor.node(beacon=BEACON_PORT))
        for host in (harbor, node):
            host.start()
            host.apply(signed)
        yield mesh, node, harbor


def test_a_beacon(watched):
    _mesh, node, harbor = watched
    # By the tunnel: a busy machine may need more than the second that it is given.
    wait(lambda: node.cli("netcheck").returncode == 0, "harbor to answer in time")
    results: list[dict[str, Any]] = []

    def answered() -> bool:
        results.append(netcheck(node))
        return results[-1]["beacons"][0]["tunnel_rtt"] is not None

    wait(answered, "harbor to answer in time")
    result = results[-1]
    (beacon,) = result["beacons"]
    assert beacon["tunnel_rtt"] > 0
    path = underlay(result, harbor)
    assert path["source"] == node.underlay[0]
    assert path["mtu"] == path["kernel_mtu"] == 1500
    assert path["rtt"] > 0
    assert node.underlay[0] in result["own_addresses"]
    # There is no NAT between them; the beacon says so when it has looked.
    wait(lambda: node.status()["beacons"][0]["seen_as"]["observed"], "harbor to tell how the node looks")
    nat = netcheck(node)["nat"]["ipv4"]
    assert (nat["kind"], nat["outside"]) == ("none", [[node.underlay[0], 51820]])


def test_the_narrow_place_of_a_path(watched):
    mesh, node, harbor = watched
    # A switch that is too narrow tells nobody: what is too large is lost.
    mesh.narrow(harbor, 1397)
    path = underlay(netcheck(node), harbor)
    assert (path["mtu"], path["kernel_mtu"]) == (1397, 1500)
    node.run("ip", "link", "set", "sennit0", "mtu", "1400")
    problems = [problem for problem in netcheck(node)["problems"] if harbor.underlay[0] in problem]
    assert len(problems) == 1
    assert "carries 1397 bytes, which is room for 1337 of the mesh's own; its MTU is 1400" in problems[0]


def test_past_what_others_have_to_take(watched):
    """With the agent's mark, what is measured is the network around, whatever an exit node's rules say."""
    _mesh, node, harbor = watched
    node.run("ip", "rule", "add", "priority", "90", "not", "fwmark", "21472", "to", "192.0.2.0/24", "unreachable")
    assert underlay(netcheck(node), harbor)["mtu"] == 1500


def test_a_beacon_that_is_gone(watched):
    _mesh, node, harbor = watched
    harbor.stop(signal.SIGKILL)
    harbor.run("ip", "link", "set", "eth0", "down")
    result = node.cli("netcheck", "--json")
    assert result.returncode == 1
    (beacon,) = json.loads(result.stdout)["beacons"]
    assert beacon["tunnel_rtt"] is None
    assert {(path["rtt"], path["mtu"]) for path in beacon["underlay"]} == {(None, None)}
    assert "harbor does not answer through the mesh" in node.cli("netcheck").stdout


def put_behind(node: Host, router: Host, translation: str) -> None:
    """Take the node off the switch, and have the router translate what it sends."""
    node.run("ip", "link", "del", "eth0")
    run(
        "ip",
        "-n",
        node.namespace,
        "link",
        "add",
        "eth0",
        "type",
        "veth",
        "peer",
        "name",
        "lan",
        "netns",
        router.namespace,
    )
    for host, link, address in ((router, "lan", INSIDE[0]), (node, "eth0", INSIDE[1])):
        host.run("ip", "address", "add", f"{address}/24", "dev", link)
        host.run("ip", "link", "set", link, "up")
    node.run("ip", "route", "add", "default", "via", INSIDE[0])
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    rules = f"""table ip nat {{
        chain out {{ type nat hook postrouting priority 100; oifname "eth0" {translation}; }}
    }}
    """
    subprocess.run(["ip", "netns", "exec", router.namespace, "nft", "-f", "-"], input=rules, text=True, check=True)


@pytest.mark.parametrize("kind", MASQUERADE)
def test_the_kind_of_nat(tmp_path, kind):
    with Mesh(tmp_path, "node", "harbor", "mole", "router") as mesh:
        node, harbor, mole, router = mesh.hosts
        put_behind(node, router, MASQUERADE[kind])
        beacons = [beacon.node(beacon=BEACON_PORT) for beacon in (harbor, mole)]
        signed = mesh.netmap(1, node.node(endpoint=None), *beacons)
        for host in (harbor, mole, node):
            host.start()
            host.apply(signed)

        def seen() -> bool:
            return all(beacon["seen_as"]["observed"] for beacon in node.status()["beacons"])

        wait(seen, "both beacons to tell how the node looks")
        result = netcheck(node)
        nat = result["nat"]["ipv4"]
        assert nat["kind"] == kind, nat
        assert {address for address, _port in nat["outside"]} == {router.underlay[0]}
        assert result["own_addresses"] == [INSIDE[1]]
        assert [underlay(result, beacon)["mtu"] for beacon in (harbor, mole)] == [1500, 1500]
