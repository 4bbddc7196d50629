"""Where nodes are, as beacons tell it: observed by WireGuard, said by each node of itself, kept over a restart."""

from __future__ import annotations

import json

import pytest
from tests.interop.agents import PORT, Host, Mesh, wait
from tests.interop.hostile import Ear, connect
from tests.interop.test_agent_beacon import netmap, wait_for_streams

from sennit.beacon.messages import PREFACE, Nodes, Ping, Place, Pong, encode
from sennit.beacon.whereabouts import LOCAL, OBSERVED, Candidate, Whereabouts


@pytest.fixture
def mesh(tmp_path):
    """Beacon alpha, its client gamma, whose endpoint no map has; probe has a tunnel, and an agent that knows no beacon.

    What probe is told, a test hears by a stream of its own.
    """
    with Mesh(tmp_path, "alpha", "gamma", "probe") as mesh:
        for host in mesh.hosts:
            host.start()
            host.apply(netmap(mesh, 1, beacons=() if host.name == "probe" else ("alpha",)))
        wait_for_streams(mesh.hosts[1], "alpha")
        yield mesh


def seen_as(host: Host) -> dict[str, str | None]:
    return host.status()["beacons"][0]["seen_as"]  # type: ignore[no-any-return]


class Told:
    """What the beacon tells, over a stream that stays open."""

    def __init__(self, host: Host, beacon: Host) -> None:
        self.connection = connect(host, beacon.addresses[0])
        self.connection.sendall(PREFACE)
        self._ear = Ear(self.connection)
        self.nodes: dict[bytes, Whereabouts] = {}

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.connection.close()

    def wait_for(self, host: Host, *candidates: Candidate) -> None:
        """Until these are among the node's candidates. Whatever is told is confirmed, or nothing more would be."""
        while True:
            known = self.nodes.get(host.public_key)
            if known and set(candidates) <= set(known.candidates):
                return
            message = self._ear.wait_for(Nodes, Ping)
            if isinstance(message, Nodes):
                self.nodes.update(message.entries)
            elif isinstance(message, Ping):
                self.connection.sendall(encode(Pong(message.content)))


def test_a_node_is_told_how_it_looks_from_outside_and_the_others_where_it_is(mesh):
    alpha, gamma, probe = mesh.hosts
    wait(lambda: seen_as(gamma)["observed"] == f"{gamma.underlay[0]}:{PORT}", "what the beacon sees")
    wait(lambda: (gamma.status()["beacons"][0]["rtt"] or 0) > 0, "an answer of the beacon's")
    with Told(probe, alpha) as told:
        told.wait_for(gamma, Candidate(OBSERVED, (gamma.underlay[0], PORT)))
        told.wait_for(probe, Candidate(OBSERVED, (probe.underlay[0], PORT)))
        # It moves, and that is told. With IPv6, it would be heard by that while it has no other address.
        gamma.run("ip", "addr", "del", f"{gamma.underlay[1]}/64", "dev", "eth0")
        gamma.run("ip", "addr", "del", f"{gamma.underlay[0]}/24", "dev", "eth0")
        gamma.run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
        told.wait_for(gamma, Candidate(OBSERVED, ("192.0.2.77", PORT)))
    wait(lambda: seen_as(gamma)["observed"] == f"192.0.2.77:{PORT}", "the new address")
    gamma.stop()
    alpha.stop()
    kept = json.loads((alpha.directory / "state/whereabouts.json").read_text())
    assert {tuple(entry[1:3]) for entry in kept} >= {("observed", f"192.0.2.77:{PORT}")}
    # Another run of the beacon tells where gamma was, though that is not there any more.
    alpha.start()
    with Told(probe, alpha) as told:
        told.wait_for(gamma, Candidate(OBSERVED, ("192.0.2.77", PORT)))


def test_what_a_node_says_is_told_of_it_and_of_nobody_else(mesh):
    """By the stream that it comes over: nothing in the message could name another node."""
    alpha, gamma, probe = mesh.hosts
    claims = ((gamma.underlay[0], 1), ("198.51.100.9", 9))
    with Told(probe, alpha) as told:
        told.wait_for(gamma, Candidate(OBSERVED, (gamma.underlay[0], PORT)))
        told.connection.sendall(encode(Place(claims)))
        told.wait_for(probe, *(Candidate(LOCAL, claim) for claim in claims))
        assert all(candidate.endpoint not in claims for candidate in told.nodes[gamma.public_key].candidates)
