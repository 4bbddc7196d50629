"""Who is asked for a round-trip time."""

import copy

import pytest

from sennit.diagnostics import rtt

from ..echoes import Echoes
from ..statuses import STATUS


@pytest.fixture
def echoes(monkeypatch):
    """Of whom one answers."""
    echoes = Echoes({"100.64.0.2": 0.0123456789}.get)
    monkeypatch.setattr(rtt, "Pinger", echoes)
    return echoes


def status_of(**handshakes):
    peers = [
        {**STATUS["peers"][1], "name": name, "addresses": [f"100.64.0.{number}", "fd5e::1"], "latest_handshake": at}
        for number, (name, at) in enumerate(handshakes.items(), start=2)
    ]
    return {**copy.deepcopy(STATUS), "peers": peers}


def test_only_sessions_that_live_are_measured(echoes):
    measured = rtt.measure(status_of(live=900.0, silent=900.0, old=800.0, never=None), 1000.0)
    assert echoes.asked == [["100.64.0.2", "100.64.0.3"]]
    assert [peer["rtt"] for peer in measured["peers"]] == [0.012346, None, None, None]
    assert {**measured, "peers": None} == {**STATUS, "peers": None}


def test_with_nobody_to_ask_no_socket_is_opened(echoes):
    measured = rtt.measure(status_of(never=None), 1000.0)
    assert echoes.asked == []
    assert measured["peers"][0]["rtt"] is None


def test_all_nodes_are_woken_but_no_static_peer(echoes):
    status = status_of(live=900.0, phone=None, old=800.0)
    for peer in status["peers"]:
        peer["kind"] = "static" if peer["name"] == "phone" else "node"
    rtt.wake(status, 1000.0)
    assert echoes.asked == [["100.64.0.4"]]
