"""Which path an answer took, as `sennit ping` tells it."""

import argparse
import copy
import errno
import json
import os

import pytest

from sennit.api import ApiError
from sennit.cli import ping as cli_ping
from sennit.cli.error import CliError

from ..echoes import Echoes
from ..statuses import STATUS

OPTIONS = argparse.Namespace(node="beta", family=4, count=2, timeout=1.0, json=False)
RELAYED = {"path": {"kind": "relay", "relay": "harbor"}, "endpoint": "198.51.100.1:21473"}
DIRECT = {"path": {"kind": "direct", "relay": None}, "endpoint": "192.0.2.2:51820"}


@pytest.fixture(autouse=True)
def _echo(monkeypatch):
    monkeypatch.setattr(cli_ping, "Pinger", Echoes(lambda _address: 0.0125))
    monkeypatch.setattr(cli_ping.time, "sleep", lambda _seconds: None)


class Agent:
    """Says this of the peer, one after the other."""

    def __init__(self, *ways):
        self._ways = list(ways)

    def __call__(self, method, **params):
        if method == "status":
            return copy.deepcopy(STATUS)
        assert (method, params) == ("peer.status", {"name": "beta"})
        way = self._ways.pop(0)
        if isinstance(way, Exception):
            raise way
        return way


def test_the_path_of_each_answer(capsys):
    assert cli_ping.ping(OPTIONS, Agent(RELAYED, RELAYED, RELAYED, DIRECT, DIRECT)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "beta 100.64.0.2 (1): 12.50 ms, relayed by harbor, 198.51.100.1:21473",
        "beta 100.64.0.2 (2): 12.50 ms, direct, 192.0.2.2:51820, asked relayed by harbor, 198.51.100.1:21473",
        "beta: 2 of 2 answered, by 192.0.2.2:51820",
    ]


def test_the_path_of_each_answer_for_programs(capsys):
    options = argparse.Namespace(**{**vars(OPTIONS), "json": True, "count": 1})
    assert cli_ping.ping(options, Agent(RELAYED, DIRECT, DIRECT)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["path"] == DIRECT["path"]
    assert result["endpoint"] == DIRECT["endpoint"]
    assert result["addresses"][0]["replies"] == [
        {"sequence": 1, "rtt_ms": 12.5, "asked_by": RELAYED, "answered_by": DIRECT}
    ]
    assert result["addresses"][0]["rtt_ms"] == [12.5]


def test_a_path_that_is_not_known_and_a_peer_that_is_gone(capsys):
    gone = ApiError("bad-request", "no peer")
    assert cli_ping.ping(OPTIONS, Agent({**DIRECT, "path": None}, gone, gone, gone, gone)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "beta 100.64.0.2 (1): 12.50 ms, 192.0.2.2:51820",
        "beta 100.64.0.2 (2): 12.50 ms",
        "beta: 2 of 2 answered",
    ]


def test_a_node_that_asks_itself_has_no_path(capsys):
    options = argparse.Namespace(**{**vars(OPTIONS), "node": "alpha", "count": 1})
    assert cli_ping.ping(options, Agent()) == 0
    assert capsys.readouterr().out.splitlines() == [
        "alpha 100.64.0.1 (1): 12.50 ms",
        "alpha: 1 of 1 answered",
    ]


@pytest.mark.parametrize(
    ("number", "exit_status", "message"),
    [(errno.EPERM, 4, "it takes root"), (errno.EAFNOSUPPORT, 5, "cannot send ICMP: Address family not supported")],
)
def test_a_host_that_cannot_send_echoes(monkeypatch, number, exit_status, message):
    def refuse(_addresses):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cli_ping, "Pinger", refuse)
    with pytest.raises(CliError, match=message) as refused:
        cli_ping.ping(OPTIONS, Agent())
    assert refused.value.exit_status == exit_status
