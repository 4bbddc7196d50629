"""The relay of a beacon, by what is on the wire: WireGuard interfaces that reach each other through it only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.relayed import Relayed, relayed
from tests.interop.wireguard import GO, NATIVE, SENNIT


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relayed]:
    with relayed(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "pair", [(SENNIT, SENNIT), (SENNIT, GO), (GO, NATIVE)], ids=["sennit", "sennit-go", "go-native"]
)
def test_two_nodes_talk_through_the_relay(relay: Relayed, pair: tuple[str, str]) -> None:
    one, two = (relay.join(implementation) for implementation in pair)
    relay.publish()
    relay.attach(one, two)
    relay.wait_attached(2)
    relay.introduce(one, two)
    one.namespace.ping(two.inner[0])
