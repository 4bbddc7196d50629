"""What the terminal shows of names."""

from __future__ import annotations

import copy
from typing import Any

from sennit.cli.dns_display import dns_answer, dns_overview

STATUS: dict[str, Any] = {
    "accepted": True,
    "answering": ["100.100.100.100", "fd5e::24:6464"],
    "resolver": {
        "owner": "systemd-resolved",
        "set": True,
        "mode": "split",
        "path": "/etc/resolv.conf",
        "nameservers": ["192.0.2.53"],
        "search": [],
    },
    "domain": "demo.internal",
    "search": ["demo.internal", "company.test"],
    "override": False,
    "rules": [
        {
            "suffix": "company.test",
            "nameservers": [
                {"address": "192.168.1.53", "state": "ok", "rtt": 0.0123, "queries": 7, "failures": 0,
                 "last_error": None},
                {"address": "192.168.1.54", "state": "silent", "rtt": None, "queries": 2, "failures": 2,
                 "last_error": "no answer"},
            ],
        },
        {"suffix": "", "nameservers": []},
    ],
    "queries": {"forwarded": 7, "map": 12},
    "problems": ["a loop"],
}  # fmt: skip

ANSWER: dict[str, Any] = {
    "name": "www.company.test",
    "type": "A",
    "rule": "company.test",
    "server": "192.168.1.54",
    "seconds": 0.1049,
    "tcp": True,
    "rcode": "NOERROR",
    "answers": ["www.company.test. 60 IN A 192.168.1.80"],
    "tried": [{"server": "192.168.1.53", "result": "SERVFAIL", "seconds": 0.004}],
    "problem": None,
}


def lines(text: str) -> list[str]:
    """The lines of a table, with one space between columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_rules_and_how_their_nameservers_answer() -> None:
    shown = lines(dns_overview(STATUS))
    assert "answering 100.100.100.100 fd5e::24:6464" in shown
    assert "resolver of systemd-resolved (/etc/resolv.conf)" in shown
    assert "PROBLEM a loop" in shown
    assert "demo.internal (mesh) this host - - - - -" in shown
    assert "company.test 192.168.1.53 ok 12.3 ms 7 0 -" in shown
    assert "company.test 192.168.1.54 silent - 2 2 no answer" in shown
    assert "all others none - - - - -" in shown
    assert shown.index("map 12") < shown.index("forwarded 7")


def test_names_that_are_not_used() -> None:
    nothing = {**copy.deepcopy(STATUS), "accepted": False, "rules": [], "queries": {}, "problems": []}
    nothing["resolver"]["mode"] = None
    shown = lines(dns_overview(nothing))
    assert "accept_dns is off" in shown[0]
    assert "resolver of systemd-resolved (/etc/resolv.conf)" in shown
    unset = copy.deepcopy(STATUS)
    unset["resolver"].update({"owner": None, "set": False, "mode": None})
    assert "asked for nothing: this host's programs do not ask the mesh" in lines(dns_overview(unset))


def test_by_which_rule_and_by_whom() -> None:
    shown = lines(dns_answer(ANSWER))
    assert shown[:4] == [
        "name www.company.test A", "rule company.test", "answered by 192.168.1.54 by TCP", "time 104.9 ms",
    ]  # fmt: skip
    assert "tried 192.168.1.53: SERVFAIL, 4.0 ms" in shown
    assert shown[-1] == "www.company.test. 60 IN A 192.168.1.80"


def test_an_answer_from_the_map_and_none() -> None:
    mesh = {**ANSWER, "rule": "mesh", "server": None, "tried": [], "rcode": "NXDOMAIN", "answers": []}
    shown = lines(dns_answer(mesh))
    assert "answered by this host, from the netmap" in shown
    assert shown[-1] == "result NXDOMAIN, no records"
    failed = {**ANSWER, "rule": "default", "server": None, "answers": [], "problem": "no nameserver gave an answer"}
    assert "answered by nobody" in lines(dns_answer(failed))
    assert lines(dns_answer(failed))[-1] == "PROBLEM no nameserver gave an answer"
