"""A device becomes somebody else: sessions end, the first handshake with the new key need not wait."""

from __future__ import annotations

import pytest
from tests.unit.wireguard.network import Host, Network

from sennit.wireguard.constants import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from sennit.wireguard.crypto import public_key_of
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import PeerConfig

KEY = bytes(range(32))
NO_KEY = bytes(32)


def become(host: Host, private_key: bytes) -> None:
    host.device.control.set_private_key(private_key)
    host.advance()


def test_the_sessions_end(network: Network, session: tuple[Host, Host]) -> None:
    """Neither does the device open what comes on them, nor does it send on them."""
    one, two = session
    become(one, KEY)
    assert one.public_key == public_key_of(KEY)
    two.send(one)
    network.deliver()
    assert one.payloads() == []
    assert one.device.drops[DropReason.UNKNOWN_INDEX] == 1
    one.send(two)
    network.deliver()
    assert network.sent(TYPE_TRANSPORT, one) == []
    assert two.device.drops[DropReason.UNKNOWN_PEER] == 1


@pytest.mark.parametrize("initiator", [0, 1])
def test_a_session_with_the_new_key_comes_at_once(network: Network, session: tuple[Host, Host], initiator: int) -> None:
    one, two = session
    two.device.remove_peer(one.public_key)
    become(one, KEY)
    two.knows(one)
    session[initiator].send(session[1 - initiator], b"again")
    network.deliver()
    assert session[1 - initiator].payloads() == [b"again"]
    assert len(network.sent(TYPE_INITIATION)) == len(network.sent(TYPE_RESPONSE)) == 1


def test_a_handshake_under_way_is_forgotten(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.send(two)
    (initiation,) = network.take_in_flight()
    become(one, KEY)
    two.take(initiation.data, initiation.source)
    network.deliver()
    assert two.payloads() == []
    assert one.status(two).latest_handshake is None


def test_a_peer_with_the_new_key_is_removed(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    one.device.control.set_peer(PeerConfig(public_key_of(KEY)))
    become(one, KEY)
    assert set(one.device.status()) == {two.public_key}


def test_a_device_without_a_key_says_nothing(network: Network, pair: tuple[Host, Host]) -> None:
    """Its public key could be computed by anybody."""
    one, two = pair
    become(one, NO_KEY)
    one.send(two, count=3)
    network.elapse(30)
    assert network.sent(TYPE_INITIATION) == []
    assert one.device.drops[DropReason.NO_PRIVATE_KEY] == 3
    one.device.drops.clear()
    two.knows(one)
    two.send(one)
    network.elapse(30)
    assert len(network.sent(TYPE_INITIATION, two)) > 1
    assert network.sent(TYPE_RESPONSE) == []
    assert one.device.drops[DropReason.NO_PRIVATE_KEY] == len(network.sent(TYPE_INITIATION, two))


def test_it_gets_its_key(network: Network, pair: tuple[Host, Host]) -> None:
    one, two = pair
    become(one, NO_KEY)
    become(one, KEY)
    two.knows(one)
    one.send(two, b"now")
    network.deliver()
    assert two.payloads() == [b"now"]


def test_a_malformed_key_changes_nothing(network: Network, session: tuple[Host, Host]) -> None:
    one, two = session
    for key in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            one.device.control.set_private_key(key)
    one.send(two)
    network.deliver()
    assert two.payloads() == [b"hello"]
