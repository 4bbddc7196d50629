"""What the agent remembers of its changes to the host."""

import asyncio
import logging

import pytest

from sennit import child
from sennit.config import Config
from sennit.host.routes import Wanted
from sennit.host.tunnel import Tunnel, wanted_by
from sennit.netmap.model import KIND_NODE, Netmap, Network, Node
from sennit.netmap.view import derive

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48"))
ALPHA = Node("alpha", KIND_NODE, bytes([1] * 32), ("100.64.0.1", "fd5e::1"), routes=("192.168.1.0/24",))
BETA = Node("beta", KIND_NODE, bytes([2] * 32), ("100.64.0.2",), routes=("192.168.2.0/24",))
VIEW = derive(Netmap(NETWORK, 1, (ALPHA, BETA)), ALPHA.public_key)


@pytest.fixture
def tunnel():
    return Tunnel(Config("demo", "x"))


@pytest.fixture
def host(monkeypatch):
    """What the child process answers; an exception is raised."""
    answers = []

    async def run(_function, _place, _wanted, timeout):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"changes": [], "on_link": [], "failed": {}, **answer}

    monkeypatch.setattr(child, "run", run)
    return answers


def reconcile(tunnel):
    asyncio.run(tunnel.reconcile(VIEW))


def test_a_view_wants_its_addresses_and_the_way_to_its_peers():
    assert wanted_by(VIEW) == Wanted(("100.64.0.1/32", "fd5e::1/128"), ("100.64.0.2/32",), ("192.168.2.0/24",))
    assert wanted_by(None) == Wanted()


def test_states_of_a_route(tunnel, host):
    for answer, state in (
        ({}, "installed"),
        ({"on_link": ["192.168.2.0/24"]}, "on-link"),
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
        "sennit0: sennit0: no pyroute2",
        "sennit0: add rule IPv4",
    ]
    assert tunnel.failed == {}
