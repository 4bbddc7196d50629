from __future__ import annotations

import pytest
from tests.unit.wireguard.network import Host, Network

from sennit.datapath.core import DatapathCore


@pytest.fixture
def network(core: DatapathCore) -> Network:
    return Network(core=core)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    """Two hosts that know each other and have not spoken yet."""
    return network.pair()


@pytest.fixture
def session(network: Network, pair: tuple[Host, Host]) -> tuple[Host, Host]:
    """Two hosts with a session that the first one initiated, one packet received on each side, and a fresh log."""
    one, two = pair
    one.send(two)
    network.deliver()
    two.send(one)
    network.deliver()
    assert one.payloads() == two.payloads() == [b"hello"]
    network.forget()
    one.news.clear()
    two.news.clear()
    return one, two
