"""The halves may live in two processes, so a request for a handshake can come when there is a session already."""

from __future__ import annotations

from sennit.wireguard.constants import REJECT_AFTER_TIME, TYPE_INITIATION
from sennit.wireguard.control import Control
from sennit.wireguard.events import (
    HandshakeNeeded,
    HandshakeReceived,
    KeepaliveReceived,
    PeerConfig,
    SendDatagram,
    UseKeypair,
)

HERE = ("192.0.2.1", 51820)
THERE = ("192.0.2.2", 51820)


def datagrams(control: Control) -> list[bytes]:
    return [command.datagram for command in control.take_commands() if isinstance(command, SendDatagram)]


def test_a_request_that_is_late_starts_no_second_handshake() -> None:
    initiator, responder = Control(bytes([1]) * 32), Control(bytes([2]) * 32)
    initiator.set_peer(PeerConfig(responder.public_key, endpoint=THERE))
    responder.set_peer(PeerConfig(initiator.public_key, endpoint=HERE))
    initiator.receive(HandshakeNeeded(responder.public_key), 0.0, 1000.0)
    (initiation,) = datagrams(initiator)
    responder.receive(HandshakeReceived(initiation, HERE), 0.0, 1000.0)
    responder.handle_handshakes(0.0, 1000.0)
    (response,) = datagrams(responder)
    initiator.receive(HandshakeReceived(response, THERE), 0.0, 1000.0)
    initiator.handle_handshakes(0.0, 1000.0)
    used = [command.keypair for command in initiator.take_commands() if isinstance(command, UseKeypair)]

    responder.receive(KeepaliveReceived(initiator.public_key, used[0].remote_index, HERE, 0.1), 0.1, 1000.1)
    responder.receive(HandshakeNeeded(initiator.public_key), 0.1, 1000.1)
    responder.advance(10.0, 1010.0)
    assert datagrams(responder) == []

    responder.receive(HandshakeNeeded(initiator.public_key), REJECT_AFTER_TIME, 1000.0 + REJECT_AFTER_TIME)
    (second,) = datagrams(responder)
    assert second[0] == TYPE_INITIATION
