"""Thousands of peers are configured while sessions go on: the event loop has its turn in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Callable

import pytest
from tests.unit.datapath.started import Started

from sennit.datapath.worker import RemovePeer, SetPeer
from sennit.datapath.workers import Worker
from sennit.wireguard.device import Device
from sennit.wireguard.events import (
    Endpoint,
    HandshakeNeeded,
    HandshakeReceived,
    InstallKeypair,
    PeerConfig,
    UseKeypair,
)
from sennit.wireguard.messages import message_type

FRIEND: Endpoint = ("192.0.2.1", 1)
INITIATION, RESPONSE = 1, 2


def many(count: int) -> dict[bytes, PeerConfig]:
    keys = (os.urandom(32) for _number in range(count))
    return {key: PeerConfig(key, (f"100.64.{n >> 8}.{n & 255}/32",)) for n, key in enumerate(keys)}


def begun_by(friend: Device, datapath: Started) -> HandshakeReceived:
    """Its handshake with the datapath, as the inbound worker tells of it."""
    friend.set_peer(PeerConfig(datapath._control.public_key, ("10.0.0.1/32",), ("192.0.2.9", 9)), 0.0, 0.0)
    packet = bytes.fromhex("450000140000000040110000") + bytes([10, 0, 0, 2, 10, 0, 0, 1])
    [(initiation, _endpoint)] = friend.send([packet], 0.0, 0.0).datagrams
    assert message_type(initiation) == INITIATION
    return HandshakeReceived(initiation, FRIEND)


def test_a_peer_is_answered_while_thousands_are_configured() -> None:
    datapath = Started()
    friend = Device(os.urandom(32))
    known = {friend.public_key: PeerConfig(friend.public_key, ("10.0.0.2/32",))}
    wanted = {**known, **many(3000)}
    configured_then: list[int] = []

    async def configure() -> None:
        await datapath.follow(known)
        datapath.on_send = lambda: configured_then.append(len(datapath.peers))
        datapath.inbound.send([begun_by(friend, datapath)])
        await datapath.follow(wanted)

    asyncio.run(datapath.live(configure()))
    assert [message_type(datagram) for datagram in datapath.sent] == [RESPONSE]
    assert configured_then[0] < len(wanted)
    assert datapath.peers == wanted
    datapath.done()


def test_what_is_wanted_last_is_what_comes_about() -> None:
    """Whoever configures while another does so has the last word, and the workers have heard the same."""
    datapath = Started()
    first, last = many(1000), many(500)
    last.update(list(first.items())[:100])
    heard: Mapping[str, set[bytes]] = {"outbound": set(), "inbound": set()}

    async def configure() -> None:
        slow = asyncio.ensure_future(datapath.follow(first))
        await asyncio.sleep(0)
        assert 0 < len(datapath.peers) < len(first)
        datapath.configure(last)
        await slow

    asyncio.run(datapath.live(configure()))
    assert datapath.peers == last
    for name, end in (("outbound", datapath.outbound), ("inbound", datapath.inbound)):
        for command in datapath.told(end):
            if isinstance(command, SetPeer):
                heard[name].add(command.public_key)
            elif isinstance(command, RemovePeer):
                heard[name].discard(command.public_key)
    assert heard["outbound"] == heard["inbound"] == last.keys()
    datapath.done()


def test_many_peers_are_few_messages() -> None:
    datapath = Started()
    wanted = many(2000)
    datapath.configure(wanted)
    messages = 0
    while datapath.inbound.receive() is not None:
        messages += 1
    assert messages <= len(wanted) // 100
    datapath.done()


def test_a_keypair_is_for_receiving_before_anything_is_sent_that_is_answered_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datapath = Started()
    friend = Device(os.urandom(32))
    told: list[tuple[str, type]] = []

    def tell(receiver: Worker, *commands: object) -> None:
        told.extend((receiver.name, type(command)) for command in commands)

    monkeypatch.setattr(datapath._workers, "tell", tell)

    async def shake_hands() -> None:
        await datapath.follow({friend.public_key: PeerConfig(friend.public_key, ("10.0.0.2/32",), FRIEND)})
        friend.set_peer(PeerConfig(datapath._control.public_key, ("10.0.0.1/32",)), 0.0, 0.0)
        datapath.outbound.send([HandshakeNeeded(friend.public_key)])
        await until(lambda: len(datapath.sent) == 1)
        [(response, _endpoint)] = friend.receive([datapath.sent[0]], ("192.0.2.9", 9), 0.0, 0.0).datagrams
        datapath.inbound.send([HandshakeReceived(response, FRIEND)])
        await until(lambda: ("outbound", UseKeypair) in told)

    asyncio.run(datapath.live(shake_hands()))
    assert told.index(("inbound", InstallKeypair)) < told.index(("outbound", UseKeypair))
    datapath.done()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)
