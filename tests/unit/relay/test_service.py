"""The order in which the relay's process takes commands and datagrams."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from sennit.datapath.channel import Channel
from sennit.relay.messages import Serve, Settings
from sennit.relay.service import Service


class Cut:
    """The underlay, by which a datagram comes when the agent has just cut its sender off."""

    def __init__(self, agent: Channel) -> None:
        self._agent = agent
        self._came = False

    def receive(self, _room: memoryview) -> Optional[tuple[int, int, tuple[str, int]]]:
        if self._came:
            return None
        self._came = True
        self._agent.send([Serve(frozenset())])
        return 32, 32, ("192.0.2.1", 1)


class Order:
    """A forwarder that only remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def use(self, *_arguments: Any) -> None:
        self.calls.append("use")

    def receive(self, *_arguments: Any) -> list[Any]:
        self.calls.append("receive")
        return []


def test_a_command_that_was_sent_before_a_datagram_is_carried_out_before_it_is_forwarded(tmp_path: Path) -> None:
    agent, channel = Channel.pair()
    service = Service(channel, Settings(b"\7" * 32, 0, 0, 1e6, str(tmp_path / "routes")))
    order = Order()
    service._forwarder = order  # type: ignore[assignment]
    service._udp = Cut(agent)  # type: ignore[assignment]
    service._pump()
    assert order.calls == ["use", "receive"]
    agent.close()
    channel.close()
