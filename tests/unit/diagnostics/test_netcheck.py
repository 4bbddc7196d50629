"""What `sennit netcheck` makes of what the agent says and the network answers."""

import copy
import json
import time

import pytest

from sennit.cli import command
from sennit.cli import netcheck as cli_netcheck
from sennit.cli.netcheck_display import netcheck_overview
from sennit.diagnostics import netcheck, path_mtu

from ..echoes import Echoes
from ..statuses import STATUS

BEACON = {"since": 900.0, "version": 7, "refused": None, "problem": None, "relay": True}


class Network:
    """Addresses that answer, each with a time and the MTU of its path."""

    def __init__(self, monkeypatch, **answers):
        self.answers = {}
        self.source = {4: "192.168.1.5", 6: None}
        self.echoes = Echoes(self._rtt)
        monkeypatch.setattr(netcheck, "wake", lambda *_arguments: None)
        monkeypatch.setattr(netcheck, "measure", lambda status, _now: status)
        monkeypatch.setattr(netcheck, "Pinger", self._pinger)
        monkeypatch.setattr(path_mtu, "route_to", self._route_to)
        monkeypatch.setattr(path_mtu, "measure", self._measure)
        monkeypatch.setattr(netcheck, "_interface_mtu", lambda _name: 1420)

    def _route_to(self, address, mark):
        assert mark == 21472
        source = self.source[6 if ":" in address else 4]
        if source is None:
            raise OSError(101, "Network is unreachable")
        return source, 1500

    def _pinger(self, addresses, mark):
        assert mark == 21472
        return self.echoes(addresses)

    def _rtt(self, address):
        return self.answers[address][0] if address in self.answers else None

    def _measure(self, rtts, highest, mark, _seconds):
        assert mark == 21472
        assert set(highest.values()) <= {1500}
        return {address: self.answers[address][1] for address in rtts}


@pytest.fixture
def network(monkeypatch):
    return Network(monkeypatch)


def status_of(*beacons):
    """Of (name, endpoint, what the netmap says, seen_as)."""
    status = copy.deepcopy(STATUS)
    status.update(fwmark=21472, peers=[], beacons=[])
    for name, endpoint, configured, observed, by_relay in beacons:
        status["beacons"].append({**BEACON, "name": name, "seen_as": {"observed": observed, "by_relay": by_relay}})
        status["peers"].append(
            {**STATUS["peers"][0], "name": name, "endpoint": endpoint, "configured_endpoint": configured, "rtt": 0.012}
        )
    return status


TWO = (
    ("harbor", "198.51.100.1:51820", "198.51.100.1:51820", "203.0.113.9:4711", "203.0.113.9:4711"),
    ("mole", "198.51.100.2:51820", "[2001:db8::2]:51820", "203.0.113.9:4711", None),
)


def test_two_beacons(network):
    network.answers = {"198.51.100.1": (0.011, 1500), "198.51.100.2": (0.022, 1400)}
    network.source[6] = "2001:db8:7::5"
    result = netcheck.netcheck(lambda: status_of(*TWO))
    assert result["nat"]["ipv4"]["kind"] == "endpoint-independent"
    assert result["nat"]["ipv6"]["kind"] == "unknown"
    assert result["own_addresses"] == ["192.168.1.5", "2001:db8:7::5"]
    assert result["relays"] == ["harbor", "mole"]
    assert result["ipv6"] == {"address": "2001:db8:7::5", "works": False, "reason": "no answer from 2001:db8::2"}
    harbor, mole = result["beacons"]
    assert [path["mtu"] for path in harbor["underlay"]] == [1500]
    assert [(path["address"], path["rtt"]) for path in mole["underlay"]] == [
        ("198.51.100.2", 0.022),
        ("2001:db8::2", None),
    ]
    (problem,) = result["problems"]
    assert problem.startswith(
        "the path to mole (198.51.100.2) carries 1400 bytes, which is room for 1340 of the mesh's own"
    )


def test_it_is_readable(network):
    network.answers = {"198.51.100.1": (0.011, 1500), "198.51.100.2": (0.022, None)}
    text = netcheck_overview(netcheck.netcheck(lambda: status_of(*TWO)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "NAT (IPv4) one outside port for all destinations: others reach it directly",
        "one outside port for harbor and mole",
        "seen as 203.0.113.9:4711",
        "IPv6 no: no address with a way to the internet",
        "relays harbor, mole",
        "harbor connected 12.00 ms LAN 198.51.100.1 11.00 ms 1500 203.0.113.9:4711 (WireGuard)",
        "203.0.113.9:4711 (relay)",
        "mole connected 12.00 ms LAN 198.51.100.2 22.00 ms not known; the kernel reckons with 1500"
        " 203.0.113.9:4711 (WireGuard)",
        "2001:db8::2 Network is unreachable -",
    ):
        assert line in lines


def test_without_beacons(network):
    result = netcheck.netcheck(status_of)
    assert result["problems"] == ["the network has no beacon: nobody can say how this host looks from outside"]
    assert result["nat"]["ipv4"]["kind"] == "unknown"
    assert "PROBLEM" in netcheck_overview(result)
    alone = {**status_of(), "beacon": {"port": 21472}}
    assert "no other beacon" in netcheck.netcheck(lambda: alone)["problems"][0]
    early = {**status_of(), "node": None}
    assert "no netmap yet" in netcheck.netcheck(lambda: early)["problems"][0]


def test_a_relayed_beacon_is_looked_for_where_the_netmap_says(network):
    status = status_of(TWO[0])
    status["peers"][0].update(path={"kind": "relay", "relay": "mole"}, endpoint="198.51.100.2:21473")
    netcheck.netcheck(lambda: status)
    assert network.echoes.asked == [["198.51.100.1"]]


def test_a_beacon_that_nobody_can_find(network):
    status = status_of(("harbor", None, None, None, None), ("mole", "[fe80::1]:51820", None, None, None))
    status["peers"][0]["rtt"] = None
    status["beacons"][0].update(since=None, problem="no answer within 10 s")
    result = netcheck.netcheck(lambda: status)
    assert [beacon["underlay"] for beacon in result["beacons"]] == [[], []]
    assert result["problems"] == ["beacon harbor does not answer through the mesh: no answer within 10 s"]
    assert " - " in netcheck_overview(result)


def test_names_are_looked_up_and_a_slow_one_holds_up_nobody(network, monkeypatch):
    def getaddrinfo(name, _port, **_options):
        if name == "slow.example":
            time.sleep(3600)
        if name == "none.example":
            raise OSError("no such name")
        return [(2, 2, 17, "", ("198.51.100.7", 0)), (10, 2, 17, "", ("2001:db8::7", 0, 0, 0))]

    monkeypatch.setattr(netcheck.socket, "getaddrinfo", getaddrinfo)
    network.source[6] = "2001:db8:7::5"
    network.answers = {"2001:db8::7": (0.005, 1500)}
    names = ("here", "none", "slow")
    status = status_of(*((name, None, f"{name}.example:51820", None, None) for name in names))
    result = netcheck.netcheck(lambda: status)
    assert [[path["address"] for path in beacon["underlay"]] for beacon in result["beacons"]] == [
        ["198.51.100.7", "2001:db8::7"],
        [],
        [],
    ]
    assert result["ipv6"]["works"] is True


def test_before_the_beacons_say_how_a_node_looks(network):
    status = status_of(*TWO)
    for beacon in status["beacons"]:
        beacon["seen_as"] = {"observed": None, "by_relay": None}
    assert (
        netcheck.netcheck(lambda: status)["nat"]["ipv4"]["reason"] == "no beacon says how this node looks from outside"
    )


def test_the_command(network, monkeypatch, capsys):
    network.answers = {"198.51.100.1": (0.011, 1500), "198.51.100.2": (0.022, 1500)}
    monkeypatch.setattr(cli_netcheck, "call", lambda _socket, _method: status_of(*TWO))
    assert command.main(["netcheck", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nat"]["ipv4"]["outside"] == [["203.0.113.9", 4711]]
    assert command.main(["netcheck"]) == 0
    assert "endpoint" not in capsys.readouterr().err
    lost = status_of(*TWO)
    lost["peers"][0]["rtt"] = None
    monkeypatch.setattr(cli_netcheck, "call", lambda _socket, _method: lost)
    assert command.main(["netcheck"]) == 1
