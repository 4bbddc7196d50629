"""The overview in the terminal."""

import copy

import pytest

from sennit.cli.display import age, milliseconds, overview, path_words, size

from ..statuses import STATUS


@pytest.fixture
def status():
    return copy.deepcopy(STATUS)


def test_overview(status):
    assert [line.rstrip() for line in overview(status, 1000.0).splitlines()] == [
        "network     demo",
        "node        alpha",
        "addresses   100.64.0.1  fd5e::1",
        "public key  KEY=",
        "interface   sennit0, userspace (native), UDP port 51820",
        "netmap      version 7, from beacon harbor",
        "",
        "peer   address     path  endpoint         handshake  RTT      received  sent     routes",
        "beta   100.64.0.2  LAN   192.0.2.2:51820  12 s ago   1.23 ms  1000 B    3.0 MiB  192.168.10.0/24",
        "       fd5e::2                                                                   192.168.20.0/24 (on-link)",
        "phone  100.64.0.3  -     -                never      -        0 B       0 B      -",
    ]


def test_a_refusal_and_problems_are_in_plain_sight(status):
    status["netmap"]["refused"] = {"reason": "older", "message": "version 6; version 7 is here", "at": 940.0}
    status["problems"] = ["fd5e::1/128: Permission denied"]
    lines = overview(status, 1000.0).splitlines()
    assert "            REFUSED 1 min ago (older): version 6; version 7 is here" in lines
    assert "PROBLEM     fd5e::1/128: Permission denied" in lines


def test_drops_most_frequent_first(status):
    status["drops"] = {"invalid-mac1": 2, "replayed-counter": 30}
    assert [line.split() for line in overview(status, 1000.0).splitlines()[-3:]] == [
        ["dropped", "packets"],
        ["replayed-counter", "30"],
        ["invalid-mac1", "2"],
    ]


def test_before_there_is_a_netmap(status):
    status.update(node=None, addresses=[], peers=[], routes=[])
    status["netmap"]["version"] = None
    text = overview(status, 1000.0)
    assert "none yet; waiting for one" in text
    assert "peer" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s ago"), (0, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (90000, "1 d ago")],
)
def test_age(seconds, text):
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_size(count, text):
    assert size(count) == text


def test_what_the_host_decided_is_shown(status):
    assert not any(word in overview(status, 1000.0) for word in ("exit node", "preferences", "TRIAL", "unapproved"))
    status["preferences"] = {"accept_routes": False, "exit_node": "beta", "exit_node_allow_lan_access": True}
    status["exit_node"] = {"name": "beta", "state": "down"}
    status["unapproved_routes"] = ["10.0.0.0/8"]
    status["peers"][0].update(exit_node=True, unapproved_routes=["10.1.0.0/16"])
    status["trial"] = {"id": "42", "what": "netmap", "state": "running", "remaining": 9.6}
    text = overview(status, 1000.0)
    for words in (
        "beta (down)",
        "accept_routes off, exit_node_allow_lan_access on",
        "10.0.0.0/8",
        "10.1.0.0/16 (unapproved)",
        "the netmap, for 10 s more (42)",
    ):
        assert words in text
    status["trial"] = {"id": "42", "what": "netmap", "state": "expired", "message": "version 2: not confirmed"}
    assert "version 2: not confirmed" in overview(status, 1000.0)


def test_beacons_and_what_was_refused_of_them(status):
    refused = {"count": 3, "reason": "bad-signature", "message": "not signed by the key", "at": 940.0}
    status["beacons"] = [
        {
            "name": "harbor",
            "since": 880.0,
            "version": 7,
            "refused": None,
            "problem": None,
            "rtt": 0.0123,
            "seen_as": {"observed": "192.0.2.9:4711", "by_relay": None},
            "relay": False,
        },
        {
            "name": "mole",
            "since": None,
            "version": None,
            "refused": refused,
            "problem": "no answer within 10 s",
            "rtt": None,
            "seen_as": {"observed": None, "by_relay": None},
            "relay": False,
        },
    ]
    status["beacon"] = {
        "port": 21472,
        "clients": ["beta"],
        "refused": {"beta": {**refused, "count": 1}},
        "problem": None,
        "relay": {"port": 21473, "attached": 2, "forwarded_bytes": 4096, "drops": {"relay-rate-exceeded": 7}},
    }
    status["netmap_url"] = {"url": "https://bucket.example/netmap", "looked_at": 940.0, "problem": "HTTP status 403"}
    text = overview(status, now=1000.0)
    for line in (
        "beacon      harbor, connected 2 min ago, has version 7, answers in 12.30 ms, sees this node at 192.0.2.9:4711",
        "beacon      mole, not connected: no answer within 10 s",
        "            REFUSED of mole 1 min ago (bad-signature): not signed by the key, 3 times by now",
        "beacon      this node, TCP port 21472; 1 node is connected",
        "            REFUSED of beta 1 min ago (bad-signature): not signed by the key",
        "relay       this node, UDP port 21473; 2 nodes are attached, 4.0 KiB forwarded, 7 packets dropped",
        "netmap URL  https://bucket.example/netmap, looked at 1 min ago; HTTP status 403",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (None, "-"),
        ({"kind": "lan", "relay": None}, "LAN"),
        ({"kind": "ipv6", "relay": None}, "IPv6"),
        ({"kind": "direct", "relay": None}, "direct"),
        ({"kind": "relay", "relay": "harbor"}, "relayed by harbor"),
        ({"kind": "relay", "relay": None}, "relayed"),
    ],
)
def test_path_words(path, words):
    assert path_words(path) == words


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.000321, "0.32 ms"), (0.0123, "12.30 ms"), (0.2345, "234 ms"), (0.9, "900 ms")]
)
def test_milliseconds(seconds, text):
    assert milliseconds(seconds) == text
