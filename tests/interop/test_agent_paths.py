"""How nodes find each other through NAT, by a relay where they must, and on a better path as soon as there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sennit_lab.nat import ADDRESS_DEPENDENT, ENDPOINT_INDEPENDENT, SYMMETRIC
from tests.interop.agents import PATIENCE, PORT, Host, Mesh, wait
from tests.interop.hostile import BEACON_PORT
from tests.interop.sites import Site
from tests.interop.streams import Stream, streams
from tests.interop.test_agent_beacon import wait_for_streams


def apply(mesh: Mesh, version: int = 1, **endpoints: str | None) -> None:
    """Alpha and beta, if they are there, are beacons; the others have the endpoints given here, or none."""
    beacons = ("alpha", "beta")
    nodes = [
        host.node(beacon=BEACON_PORT) if host.name in beacons else host.node(endpoint=endpoints.get(host.name))
        for host in mesh.hosts
    ]
    signed = mesh.netmap(version, *nodes)
    for host in mesh.hosts:
        host.apply(signed)


def start(mesh: Mesh, **endpoints: str | None) -> None:
    for host in mesh.hosts:
        host.start()
    apply(mesh, **endpoints)
    names = {host.name for host in mesh.hosts} & {"alpha", "beta"}
    for host in mesh.hosts:
        wait_for_streams(host, *(names - {host.name}))
        for name in names - {host.name}:
            wait(lambda host=host, name=name: beacon(host, name)["relay"], f"{host.name} at the relay of {name}")


def beacon(host: Host, name: str) -> dict:
    return next(each for each in host.status()["beacons"] if each["name"] == name)


def path(host: Host, other: Host) -> str:
    """ "lan", "direct", ... or "relay alpha"."""
    found = host.peer(other.name)["path"]
    return f"relay {found['relay']}" if found["relay"] else found["kind"] if found else ""


def wait_for_path(host: Host, other: Host, *kinds: str, timeout: float = PATIENCE) -> None:
    for one, peer in ((host, other), (other, host)):
        wait(lambda one=one, peer=peer: path(one, peer) in kinds, f"{kinds} from {one.name} to {peer.name}: "
             f"{path(one, peer)}, {one.peer(peer.name)['endpoint']}\n{one.log}", timeout)  # fmt: skip


def answers(host: Host, other: Host, seconds: float = 30) -> bool:
    command = ["ping", "-n", "-q", "-i", "0.2", "-c", "1", "-w", f"{seconds:g}", other.addresses[0]]
    # While there was no session, packets waited: then all of them are answered.
    return ", 0 received" not in host.run(*command, check=False)


def stream_between(host: Host, other: Host):
    return streams(host.namespace, host.addresses[0], other.namespace, other.addresses[0])


def block(site: Site, other: Site) -> None:
    """Nothing passes between the two routers' outsides."""
    site.run("nft", "add table ip blocked; add chain ip blocked out { type filter hook postrouting priority 0; }; "
                    f"add rule ip blocked out ip daddr {other.outside} drop")  # fmt: skip


def unblock(site: Site) -> None:
    site.run("nft", "delete table ip blocked")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """The beacon alpha; gamma and delta, which the tests place."""
    with Mesh(tmp_path, "alpha", "gamma", "delta") as mesh:
        yield mesh


@pytest.mark.parametrize(
    ("near", "far"), [(ADDRESS_DEPENDENT, ADDRESS_DEPENDENT), (ADDRESS_DEPENDENT, SYMMETRIC)]
)  # fmt: skip
def test_two_nats_are_opened_from_both_sides(mesh: Mesh, near: str, far: str) -> None:
    _alpha, gamma, delta = mesh.hosts
    sites = Site(mesh, 1, near, gamma), Site(mesh, 2, far, delta)
    start(mesh)
    assert answers(gamma, delta)
    with stream_between(gamma, delta) as both:
        wait_for_path(gamma, delta, "direct")
        for stream in both:
            stream.goes_on()
    assert gamma.peer("delta")["endpoint"].startswith(f"{sites[1].outside}:")
    assert delta.peer("gamma")["endpoint"].startswith(f"{sites[0].outside}:")
    # So they are reached a long time afterwards, whoever begins.
    assert answers(delta, gamma)


def test_what_no_nat_lets_through_goes_by_the_relay(mesh: Mesh) -> None:
    alpha, gamma, delta = mesh.hosts
    Site(mesh, 1, SYMMETRIC, gamma)
    Site(mesh, 2, SYMMETRIC, delta)
    start(mesh)
    assert answers(gamma, delta)
    before = alpha.status()["beacon"]["relay"]["forwarded_bytes"]
    with stream_between(gamma, delta) as both:
        for _more in range(4):
            for stream in both:
                stream.goes_on()
    assert path(gamma, delta) == path(delta, gamma) == "relay alpha"
    wait(lambda: alpha.status()["beacon"]["relay"]["forwarded_bytes"] - before >= 8 << 18, "what the relay counts")
    # With the beacon itself they speak directly.
    assert path(gamma, alpha) in ("direct", "lan")


@pytest.mark.parametrize("kept", [True, False], ids=["as it was", "without what it knew"])
def test_a_stream_goes_on_by_the_relay_of_an_agent_that_was_killed(mesh: Mesh, kept: bool) -> None:
    """Where a host has crashed, nothing is left of what its relay knew."""
    alpha, gamma, delta = mesh.hosts
    Site(mesh, 1, SYMMETRIC, gamma)
    Site(mesh, 2, SYMMETRIC, delta)
    start(mesh)
    with stream_between(gamma, delta) as both:
        for stream in both:
            stream.goes_on()
        attached, routes = (alpha.directory / "run" / name for name in ("relay.json", "relay-routes.json"))
        wait(lambda: attached.exists() and attached.read_text().count("192.0.2.") >= 2, "both nodes on file")
        wait(lambda: routes.exists() and len(json.loads(routes.read_text())["routes"]) >= 2, "both routes on file")
        alpha.stop(9)
        if not kept:
            attached.unlink()
            routes.unlink()
        alpha.start()
        for stream in both:
            stream.goes_on()
    assert path(gamma, delta) == path(delta, gamma) == "relay alpha"


def test_a_stream_goes_on_when_a_direct_path_appears(mesh: Mesh) -> None:
    _alpha, gamma, delta = mesh.hosts
    sites = Site(mesh, 1, ADDRESS_DEPENDENT, gamma), Site(mesh, 2, ADDRESS_DEPENDENT, delta)
    for site, other in (sites, reversed(sites)):
        block(site, other)
    start(mesh)
    assert answers(gamma, delta)
    with stream_between(gamma, delta) as both:
        for stream in both:
            stream.goes_on()
        assert path(gamma, delta) == path(delta, gamma) == "relay alpha"
        for site in sites:
            unblock(site)
        wait_for_path(gamma, delta, "direct")
        for stream in both:
            stream.goes_on()
        # And when it is gone again, so is nothing else.
        for site, other in (sites, reversed(sites)):
            block(site, other)
        wait_for_path(gamma, delta, "relay alpha")
        for stream in both:
            stream.goes_on()


def test_two_in_one_lan_speak_within_it(mesh: Mesh) -> None:
    _alpha, gamma, delta = mesh.hosts
    site = Site(mesh, 1, ADDRESS_DEPENDENT, gamma, delta)
    start(mesh)
    assert answers(gamma, delta)
    with stream_between(gamma, delta) as both:
        wait_for_path(gamma, delta, "lan")
        for stream in both:
            stream.goes_on()
    assert gamma.peer("delta")["endpoint"] == f"{site.address_of(delta)}:{PORT}"
    assert delta.peer("gamma")["endpoint"] == f"{site.address_of(gamma)}:{PORT}"


def test_a_stated_endpoint_that_is_blocked_is_not_waited_for(mesh: Mesh) -> None:
    alpha, gamma, delta = mesh.hosts
    gamma.run("nft", "add table ip test; add chain ip test input { type filter hook input priority 0; }; "
                     f"add rule ip test input ip saddr != {alpha.underlay[0]} udp dport {PORT} drop; "
                     "add chain ip test output { type filter hook output priority 0; }; "
                     f"add rule ip test output ip daddr {delta.underlay[0]} drop")  # fmt: skip
    for host in (gamma, delta):
        host.run("ip", "-6", "addr", "flush", "dev", "eth0")
    start(mesh, gamma=f"{gamma.underlay[0]}:{PORT}", delta=f"{delta.underlay[0]}:{PORT}")
    assert answers(delta, gamma)
    assert path(delta, gamma) == "relay alpha"
    gamma.run("nft", "delete table ip test")
    with stream_between(gamma, delta) as both:
        wait_for_path(gamma, delta, "lan")
        for stream in both:
            stream.goes_on()


def move(host: Host, number: int) -> None:
    """Give the host other addresses on the switch, as another lease does."""
    host.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
    host.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "eth0")


@pytest.mark.parametrize("beacons", ["beacons", "no beacons"])
def test_a_node_that_roams_is_back_in_seconds(mesh: Mesh, beacons: str) -> None:
    """It is the others who send: what it says itself would be enough for WireGuard."""
    alpha, gamma, delta = mesh.hosts
    start(mesh)
    with Stream(delta.namespace, gamma.namespace, gamma.addresses[0]) as stream:
        wait_for_path(gamma, delta, "lan")
        stream.goes_on()
        if beacons == "no beacons":
            alpha.stop(9)
        for number in (50, 51):
            move(gamma, number)
            wait(lambda number=number: (delta.peer("gamma")["endpoint"] or "").startswith(f"192.0.2.{number}:"),
                 f"gamma at {number}\n{delta.log}\n{gamma.log}")  # fmt: skip
            stream.goes_on()


def test_from_a_lan_into_another_and_onto_the_internet(mesh: Mesh) -> None:
    _alpha, gamma, delta = mesh.hosts
    sites = Site(mesh, 1, ADDRESS_DEPENDENT, gamma), Site(mesh, 2, ENDPOINT_INDEPENDENT, delta)
    start(mesh)
    with stream_between(gamma, delta) as both:
        wait_for_path(gamma, delta, "direct")
        for stream in both:
            stream.goes_on()
        sites[1].take_in(gamma)
        wait_for_path(gamma, delta, "lan")
        for stream in both:
            stream.goes_on()
        sites[0].take_in(gamma)
        wait_for_path(gamma, delta, "direct", "relay alpha")
        for stream in both:
            stream.goes_on()
        wait_for_path(gamma, delta, "direct")


def test_what_is_direct_goes_on_without_any_beacon(mesh: Mesh) -> None:
    alpha, gamma, delta = mesh.hosts
    Site(mesh, 1, ADDRESS_DEPENDENT, gamma)
    Site(mesh, 2, ADDRESS_DEPENDENT, delta)
    start(mesh)
    with stream_between(gamma, delta) as both:
        wait_for_path(gamma, delta, "direct")
        alpha.stop(9)
        for _more in range(4):
            for stream in both:
                stream.goes_on()
        gamma.log.wait_for("beacon alpha: no connection")
        for stream in both:
            stream.goes_on()
    assert path(gamma, delta) == "direct"


def test_the_other_relay_when_one_is_gone(tmp_path: Path) -> None:
    with Mesh(tmp_path, "alpha", "beta", "gamma", "delta") as mesh:
        alpha, beta, gamma, delta = mesh.hosts
        Site(mesh, 1, SYMMETRIC, gamma)
        Site(mesh, 2, SYMMETRIC, delta)
        start(mesh)
        assert answers(gamma, delta)
        with stream_between(gamma, delta) as both:
            for stream in both:
                stream.goes_on()
            assert path(gamma, delta) == path(delta, gamma)
            first = path(gamma, delta)
            assert first in ("relay alpha", "relay beta")
            (alpha if first == "relay alpha" else beta).stop(9)
            wait_for_path(gamma, delta, *({"relay alpha", "relay beta"} - {first}))
            for stream in both:
                stream.goes_on()
