"""Beacons and clients that hold a node's key and do what they must not: they waste a little, and change nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import Host, Mesh, steady_ping, wait
from tests.interop.hostile import (
    BEACON_PORT,
    Ear,
    HostileBeacon,
    connect,
    flood,
    floods_with_whereabouts,
    huge_frame,
    never_delivers,
    says_nothing,
    serving,
    tells,
)
from tests.interop.test_agent_beacon import wait_for_streams, wait_for_version

from sennit.beacon.messages import PREFACE, Have, Kept, Nodes, Packed, Ping, Place, Pong, Relay, Want, encode
from sennit.beacon.whereabouts import Candidate, Whereabouts
from sennit.netmap.model import KIND_NODE, Node
from sennit.netmap.signing import generate_signing_key, sign
from sennit.relay.offer import RelayOffer


def netmap(mesh: Mesh, version: int, beacons: tuple[str, ...], padding: int = 0) -> bytes:
    """With so many nodes more, which nobody has ever seen."""
    nodes = [
        host.node(routes=(f"10.{host.number}.{version}.0/24",),
                  **({"beacon": BEACON_PORT} if host.name in beacons else {}))
        for host in mesh.hosts
    ]  # fmt: skip
    absent = [
        Node(f"absent{number}", KIND_NODE, os.urandom(32), (f"100.65.{number // 250}.{number % 250 + 1}",))
        for number in range(padding)
    ]
    return mesh.netmap(version, *nodes, *absent)


def forged(mesh: Mesh, version: int) -> bytes:
    return sign(netmap(mesh, version, ("alpha", "mallory")).split(b"\n", 1)[1], generate_signing_key())


@contextlib.contextmanager
def hostile_beacon(directory: Path, behaviour: object) -> Iterator[Mesh]:
    """Version 5 everywhere: alpha is a beacon, mallory another, whose service is the behaviour made of the mesh."""
    with Mesh(directory, "alpha", "gamma", "mallory") as mesh:
        alpha, gamma, mallory = mesh.hosts
        beacon = HostileBeacon(mallory, behaviour(mesh))  # type: ignore[operator]
        try:
            for host in (mallory, alpha, gamma):
                host.start()
                host.apply(netmap(mesh, 5, ("alpha", "mallory")))
            wait_for_streams(gamma, "alpha")
            yield mesh
        finally:
            beacon.close()


def told_of_mallory(host: Host) -> dict[str, object]:
    return next(each for each in host.status()["beacons"] if each["name"] == "mallory")


@pytest.mark.parametrize(
    ("behaviour", "reason", "message"),
    [
        (lambda mesh: serving(forged(mesh, 9), 9), "bad-signature", "not signed by the key"),
        (lambda mesh: serving(netmap(mesh, 9, ("alpha",))[:-10], 9), "bad-signature", "changed since"),
        (lambda mesh: serving(b"no map", 9), "malformed", "not a signed netmap"),
        (lambda mesh: serving(netmap(mesh, 4, ("alpha",)), 9), "older", "version 4; version 5 is here"),
        (lambda mesh: huge_frame, "protocol", "not asked for"),
        (lambda mesh: flood, "protocol", "messages a second"),
        (lambda mesh: floods_with_whereabouts, "protocol", "messages a second"),
        (lambda mesh: tells(struct.pack("!BI", 7, 2**32 - 1)), "protocol", "type 7 with 4294967295 bytes"),
        (lambda mesh: tells(thousands_of_candidates(mesh)), "protocol", "an entry of 255 candidates"),
        (lambda mesh: tells(encode(Relay(RelayOffer(1, mesh.hosts[1].public_key)))), "protocol", "key of a node"),
        (lambda mesh: tells(encode(Place(()))), "protocol", "not for this end"),
    ],
    ids=["forged", "cut", "garbage", "old", "huge frame", "flood", "flood of whereabouts", "huge list",
         "too many candidates", "a node's key for the relay", "speaks as a node"],
)  # fmt: skip
def test_what_a_hostile_beacon_serves_is_refused_and_told_with_its_name(tmp_path, behaviour, reason, message):
    with hostile_beacon(tmp_path, behaviour) as mesh:
        alpha, gamma, _mallory = mesh.hosts
        before = memory(gamma)
        for host in (alpha, gamma):
            wait(lambda host=host: bool(told_of_mallory(host)["refused"]), f"a refusal\n{host.log}")
            refused = told_of_mallory(host)["refused"]
            assert refused["reason"] == reason and message in refused["message"]
            shown = host.cli("status").stdout
            assert "REFUSED of mallory" in shown and f"({reason})" in shown
            assert (host.directory / "state/netmap").read_bytes() == netmap(mesh, 5, ("alpha", "mallory"))
        # The honest one is believed as before.
        alpha.apply(netmap(mesh, 6, ("alpha", "mallory")))
        wait_for_version(gamma, 6)
        assert gamma.status()["netmap"]["origin"] == "beacon alpha"
        assert memory(gamma) < before + 40


def thousands_of_candidates(mesh: Mesh) -> bytes:
    """Of alpha, as many as the message has room for, and one byte for their number."""
    candidates = bytes([3]) + ipaddress.ip_address("2001:db8::1").packed + bytes([0, 1])
    entry = mesh.hosts[0].public_key + bytes([1, 255]) + candidates * 3000
    return struct.pack("!BI", 7, len(entry)) + entry


def test_a_beacon_that_tells_where_nobody_is_costs_no_packet(tmp_path):
    """Every node is at wrong places, and attached to a relay that nobody has."""

    def lies(mesh: Mesh) -> object:
        places = ("192.0.2.200", "192.0.2.3", "2001:db8::dead", "203.0.113.9", "100.64.0.1", "100.64.0.2")
        candidates = tuple(Candidate(1 + number % 3, (place, 51820)) for number, place in enumerate(places))
        entries = tuple((host.public_key, Whereabouts(True, candidates)) for host in mesh.hosts)
        return tells(encode(Relay(RelayOffer(9, os.urandom(32)))), encode(Nodes(entries)))

    with hostile_beacon(tmp_path, lies) as mesh:
        alpha, gamma, _mallory = mesh.hosts
        for host in (alpha, gamma):
            wait(lambda host=host: told_of_mallory(host)["seen_as"]["observed"] == "192.0.2.200:51820", "the lie")
        assert gamma.cli("ping", "alpha", "-c", "1", "-W", "60").returncode == 0
        with steady_ping(gamma, alpha.addresses[0]) as lost:
            alpha.apply(netmap(mesh, 6, ("alpha", "mallory")))
            wait_for_version(gamma, 6)
            # The same once more, as both look around again.
            for host in (alpha, gamma):
                host.run("ip", "addr", "add", f"198.51.100.{host.number}/32", "dev", "eth0")
            wait(lambda: (gamma.peer("alpha")["endpoint"] or "").startswith(alpha.underlay), "the right place")
        assert lost == []
        assert told_of_mallory(gamma)["refused"] is None


def test_a_beacon_that_promises_the_newest_map_of_all_keeps_nobody_waiting(tmp_path):
    with hostile_beacon(tmp_path, lambda _mesh: never_delivers) as mesh:
        alpha, gamma, _mallory = mesh.hosts
        wait(lambda: told_of_mallory(gamma)["version"] == 2**50, "the promise")
        alpha.apply(netmap(mesh, 6, ("alpha", "mallory")))
        wait_for_version(gamma, 6)
        # While it is still waited for.
        assert told_of_mallory(gamma)["since"]


def test_a_beacon_that_says_nothing_is_taken_for_dead(tmp_path):
    with hostile_beacon(tmp_path, lambda _mesh: says_nothing) as mesh:
        _alpha, gamma, mallory = mesh.hosts
        gamma.log.wait_for("beacon mallory: no answer within 10 s")
        # Its own agent says why it is no beacon any more.
        assert any("Address already in use" in problem for problem in mallory.status()["problems"])


# --- hostile clients of an honest beacon


@pytest.fixture
def mesh(tmp_path):
    """A large map, beacon alpha, its client gamma; mallory has a tunnel, and an agent that knows of no beacon."""
    with Mesh(tmp_path, "alpha", "gamma", "mallory") as mesh:
        alpha, gamma, mallory = mesh.hosts
        for host in (alpha, gamma):
            host.start()
            host.apply(netmap(mesh, 5, ("alpha",), padding=2000))
        mallory.start()
        mallory.apply(netmap(mesh, 5, ()))
        wait_for_streams(gamma, "alpha")
        yield mesh


def ended(connection: socket.socket) -> bool:
    """Whether the other end ends the connection, after whatever it has to say."""
    connection.settimeout(30)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def memory(host: Host) -> int:
    """Of the host's agent, in MiB."""
    assert host.agent is not None
    text = Path(f"/proc/{host.agent.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) // 1024


@pytest.mark.parametrize(
    "said",
    [
        lambda have: PREFACE + encode(Want(have.sha256)) * 100_000,
        lambda have: PREFACE + encode(Ping(bytes(8))) * 100_000,
        lambda have: PREFACE + encode(Have(9, bytes(32))) * 100_000,
        lambda have: PREFACE + struct.pack("!BI", 3, 2**32 - 1),
        lambda have: PREFACE + encode(Packed(b"not asked for")),
        lambda have: b"GET / HTTP/1.1\r\n\r\n",
        lambda have: PREFACE + encode(Place((("192.0.2.200", 1),))) * 100_000,
        lambda have: PREFACE + struct.pack("!BI", 6, 18 * 3000),
        # It would speak for another node.
        lambda have: PREFACE + encode(Nodes(((bytes(32), Whereabouts(True, ())),))),
        lambda have: PREFACE + encode(Relay(RelayOffer(1, bytes(32)))),
    ],
    ids=["wants", "pings", "offers", "huge frame", "unasked", "HTTP", "places", "thousands of addresses",
         "speaks for another", "relay"],
)  # fmt: skip
def test_a_client_that_does_not_keep_to_the_protocol_is_sent_away(mesh, said):
    alpha, gamma, mallory = mesh.hosts
    before = memory(alpha)
    with connect(mallory, alpha.addresses[0]) as connection:
        have = Ear(connection).wait_for(Have)
        with contextlib.suppress(ConnectionError):
            connection.sendall(said(have))
        assert ended(connection)
    wait(lambda: "mallory" in alpha.status()["beacon"]["refused"], "a refusal")
    assert alpha.status()["beacon"]["refused"]["mallory"]["reason"] == "protocol"
    assert "REFUSED of mallory" in alpha.cli("status").stdout
    alpha.apply(netmap(mesh, 6, ("alpha",)))
    wait_for_version(gamma, 6)
    assert memory(alpha) < before + 40


def test_a_client_that_brings_a_forged_map_is_not_believed_and_not_asked_again(mesh):
    alpha, gamma, mallory = mesh.hosts
    kept = Kept.of(forged(mesh, 9), 9)
    with connect(mallory, alpha.addresses[0]) as connection:
        ear = Ear(connection)
        connection.sendall(PREFACE + encode(Have(kept.version, kept.sha256)))
        assert ear.wait_for(Want) == Want(kept.sha256)
        connection.sendall(encode(Packed(kept.packed)))
        wait(lambda: "mallory" in alpha.status()["beacon"]["refused"], "a refusal")
        connection.sendall(encode(Have(kept.version + 1, bytes(32))) + encode(Ping(bytes(8))))
        # It answers, and does not want it.
        assert isinstance(ear.wait_for(Pong, Want), Pong)
    assert alpha.status()["beacon"]["refused"]["mallory"]["reason"] == "bad-signature"
    assert alpha.status()["netmap"]["version"] == gamma.status()["netmap"]["version"] == 5


def test_a_client_that_takes_nothing_costs_no_memory_and_no_time(mesh):
    alpha, gamma, mallory = mesh.hosts
    before = memory(alpha)
    with connect(mallory, alpha.addresses[0]) as connection:
        connection.sendall(PREFACE)
        for version in range(6, 12):
            signed = netmap(mesh, version, ("alpha",), padding=2000)
            alpha.apply(signed)
            connection.sendall(encode(Want(Kept.of(signed, version).sha256)))
            wait_for_version(gamma, version)
        assert memory(alpha) < before + 40


def test_half_open_connections_are_one_a_node(mesh):
    alpha, gamma, mallory = mesh.hosts
    assert alpha.agent is not None
    files = len(os.listdir(f"/proc/{alpha.agent.pid}/fd"))
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(connect(mallory, alpha.addresses[number % 2]))
        wait(lambda: len(os.listdir(f"/proc/{alpha.agent.pid}/fd")) <= files + 2, "the others are closed")
        assert alpha.status()["beacon"]["clients"] == ["gamma", "mallory"]
        alpha.apply(netmap(mesh, 6, ("alpha",)))
        wait_for_version(gamma, 6)
