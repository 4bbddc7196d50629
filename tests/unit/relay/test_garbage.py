"""Bytes from anywhere: nothing raises, nothing grows, and what is forwarded is a message of WireGuard with a route."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.relay.relaying import RELAY, drops, relayed

from sennit.relay import routes
from sennit.wireguard.cookie import CookieJar

STRANGER = ("203.0.113.66", 666)
LENGTHS = {1: (148,), 2: (92,), 3: (64,)}


@st.composite
def batches(draw: st.DrawFn) -> tuple[bytes, int, bool]:
    """Bytes as the kernel may give them: how many a datagram, and whether they come of a node."""
    size = draw(st.one_of(st.sampled_from([32, 64, 92, 148]), st.integers(1, 200)))
    parts = []
    for _number in range(draw(st.integers(0, 8))):
        head = draw(st.sampled_from([b"", b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0"]))
        index = draw(st.one_of(st.just(b"INDX"), st.binary(min_size=4, max_size=4)))
        parts.append((head + index * 2 + draw(st.binary(max_size=size))).ljust(size, b"\0")[:size])
    data = b"".join(parts)
    return data[: len(data) - draw(st.integers(0, min(len(data), size)))], size, draw(st.booleans())


@settings(max_examples=300)
@given(st.lists(batches(), max_size=6), st.binary(max_size=300))
def test_any_bytes(batches: list[tuple[bytes, int, bool]], tail: bytes) -> None:
    network, relay, (one, two) = relayed()
    # There is a route, for one index.
    relay.forwarder.routes.claim(two.public_key, one.public_key, int.from_bytes(b"INDX", "little"), network.now)
    came = 0
    for data, size, attached in [*batches, (tail, max(len(tail), 1), True), (tail, max(len(tail), 1), False)]:
        network.forget()
        source = one.endpoint if attached else STRANGER
        relay.take_joined(data, size, source)
        datagrams = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        came += len(datagrams)
        sent = [each for each in network.log if each.source == RELAY]
        assert attached or not sent
        for each in sent:
            assert each.destination == two.endpoint
            assert each.data in datagrams
            kind = int.from_bytes(each.data[:4], "little")
            assert len(each.data) in LENGTHS[kind] if kind != 4 else len(each.data) >= 32
            assert each.data[8:12] == b"INDX" if kind == 2 else each.data[4:8] == b"INDX"
    assert relay.forwarder.forwarded_packets + sum(relay.forwarder.drops.values()) == came
    one.send(two, b"served all the same")
    network.deliver()
    assert two.payloads() == [b"served all the same"]


def test_a_flood_of_a_node_leaves_a_bounded_trace(monkeypatch) -> None:
    """Initiations to another node, each under another index, as fast as they are let through."""
    monkeypatch.setattr(routes, "MOST_OF_A_NODE", 500)
    network, relay, (one, two, three) = relayed(3)
    three.send(two, b"before")
    network.deliver()
    jar = CookieJar(two.public_key)
    for number in range(20_000):
        network.now += 0.01
        message = jar.add_macs(b"\1\0\0\0" + number.to_bytes(4, "little") + bytes(108), network.now)
        relay.take(message, one.endpoint)
        network.take_in_flight()
        network.forget()
    assert len(relay.forwarder.routes) == 500 + 2
    assert drops(relay)["too-many-initiations"] > 15_000
    three.send(two, b"after")
    network.deliver()
    assert two.payloads() == [b"before", b"after"]
