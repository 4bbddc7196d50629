"""A device is down, and up again: no session outlives that, and nothing is sent meanwhile."""

from __future__ import annotations

import pytest
from tests.unit.wireguard.network import Host, Network, is_keepalive

from sennit.wireguard.constants import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from sennit.wireguard.errors import DropReason


def down(host: Host) -> None:
    host.device.control.down()
    host.advance()


def up(host: Host) -> None:
    host.device.control.up()
    host.advance()


def test_nothing_is_answered_and_nothing_sent(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    before = one.status(two)
    down(one)
    network.forget()
    two.send(one)
    two.probe(one, one.endpoint)
    one.send(two, count=2)
    one.probe(two, two.endpoint)
    network.elapse(300)
    assert network.sent(TYPE_TRANSPORT, one) == network.sent(TYPE_INITIATION, one) == []
    assert network.sent(TYPE_RESPONSE) == []
    assert one.payloads() == two.payloads() == []
    assert one.status(two) == before
    assert one.device.next_deadline() is None
    assert one.device.drops[DropReason.INTERFACE_DOWN] == 2 + len(network.sent(TYPE_INITIATION, two))


@pytest.mark.parametrize("initiator", [0, 1])
def test_a_new_session_comes_at_once(network: Network, session: tuple[Host, Host], initiator: int) -> None:
    """The last initiation may be a moment ago; the peer's keys may be as old as they like."""
    one, _two = session
    network.elapse(1)
    down(one)
    up(one)
    network.forget()
    session[initiator].send(session[1 - initiator], b"again")
    network.elapse(20)
    if initiator == 1:
        # Two sends on the old session, which leads nowhere any more, and finds that out by itself.
        assert one.device.drops[DropReason.UNKNOWN_INDEX] == 1
        session[1].send(one, b"again")
        network.deliver()
    assert session[1 - initiator].payloads() == [b"again"]
    assert len(network.sent(TYPE_INITIATION)) == len(network.sent(TYPE_RESPONSE)) == 1


def test_a_persistent_keepalive_begins_it(network: Network) -> None:
    one, two = network.pair(keepalive=25)
    network.elapse(60)
    down(one)
    network.forget()
    network.elapse(10)
    assert network.sent(TYPE_TRANSPORT, one) == []
    # One that is configured meanwhile waits as well.
    one.knows(two, keepalive=5)
    network.elapse(10)
    assert network.sent(TYPE_INITIATION, one) == []
    network.forget()
    up(one)
    network.elapse(6)
    assert [is_keepalive(datagram) for datagram in network.log] == [False, False, True, True]


def test_a_peer_that_is_added_or_removed_meanwhile(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    network.elapse(1)
    down(one)
    one.device.remove_peer(two.public_key)
    one.knows(two)
    up(one)
    one.send(two, b"new")
    network.deliver()
    assert two.payloads() == [b"new"]
