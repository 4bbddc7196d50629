"""What the agent remembers of its changes to the host."""

import asyncio
import logging

import pytest

from sennit.config import Config
from sennit.host.routes import Wanted
from sennit.host.tunnel import Tunnel
from sennit.processes import child

WANTED = Wanted(addresses=("100.64.0.1/32",))
NO_REFUSAL = {"code": "", "message": ""}


@pytest.fixture
def tunnel():
    return Tunnel(Config("demo", "x"))


class Answers(list):
    def __init__(self):
        self.may_raise = []
        """Of each call, whether the link may be set up."""


@pytest.fixture
def host(monkeypatch):
    """What the child process answers; an exception is raised."""
    answers = Answers()
    asked = answers.may_raise

    async def run(_function, _place, _wanted, may_raise, timeout):
        asked.append(may_raise)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        nothing = {"down": False, "changes": [], "on_link": [], "elsewhere": [], "failed": {}, "notices": []}
        return {**nothing, "exit_node_refusal": NO_REFUSAL, **answer}

    monkeypatch.setattr(child, "run", run)
    return answers


def reconcile(tunnel, wanted=WANTED):
    asyncio.run(tunnel.reconcile(wanted))


def test_states_of_a_route(tunnel, host):
    for answer, state in (
        ({}, "installed"),
        ({"on_link": ["192.168.2.0/24"]}, "on-link"),
        ({"elsewhere": ["192.168.2.0/24"]}, "elsewhere"),
        ({"failed": {"192.168.2.0/24": "no"}}, "failed"),
        ({"failed": {"192.168.9.0/24": "no"}}, "installed"),
        (child.ChildError("no pyroute2"), "failed"),
        ({}, "installed"),
    ):
        host.append(answer)
        reconcile(tunnel)
        assert tunnel.route_state("192.168.2.0/24") == state


def test_a_failure_is_logged_when_it_is_news(tunnel, host, caplog):
    caplog.set_level(logging.INFO)
    host += [child.ChildError("no pyroute2"), child.ChildError("no pyroute2"), {"changes": ["add rule IPv4"]}]
    for _ in range(3):
        reconcile(tunnel)
    assert [record.message for record in caplog.records] == [
        "sennit0: no pyroute2",
        "sennit0: add rule IPv4",
    ]
    assert tunnel.failed == {}


def test_what_others_have_is_logged_when_it_is_news(tunnel, host, caplog):
    loops = {"code": "exit-node-other-vpn", "message": "wg0 takes everything"}
    strict = {"code": "exit-node-rp-filter", "message": "make it loose"}
    host += [{"notices": ["wg0 is here"], "exit_node_refusal": refusal} for refusal in (loops, loops, strict)]
    for problem, loops_now in ((loops, True), (loops, True), (strict, False)):
        reconcile(tunnel)
        assert tunnel.notices == ("wg0 is here",)
        assert (tunnel.exit_node_refusal, tunnel.exit_node_loops) == (problem["message"], loops_now)
    assert [record.message for record in caplog.records] == [
        "wg0 is here",
        "the exit node cannot be used: wg0 takes everything",
        "the exit node cannot be used: make it loose",
    ]


def test_the_link_is_set_up_once_and_who_sets_it_down_is_not_fought(tunnel, host):
    """Without an address there is nothing to set it up for, and a look that failed may not have."""
    host += [{}, child.ChildError("no pyroute2"), {}, {"down": True}, {"down": True}, {}]
    for wanted, down in ((Wanted(), False), (WANTED, False), (WANTED, False), (WANTED, True), (WANTED, True)):
        reconcile(tunnel, wanted)
        assert tunnel.down == down
    assert host.may_raise == [True, True, True, False, False]
    assert "ip link set up" in tunnel.failed["sennit0"]
    assert tunnel.route_state("192.168.2.0/24") == "failed"
    reconcile(tunnel)
    assert (tunnel.down, tunnel.failed) == (False, {})
