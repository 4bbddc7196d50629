"""Two nodes by the relay of a beacon, and on a wire of their own: what the way over the relay costs."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks import iperf, latency, records
from benchmarks.subjects import Subject
from tests.interop.relayed import Member, relayed
from tests.interop.wireguard import NATIVE

# Bit/s: what the nodes may do is measured, not what the relay lets each of them.
_RATE = 10**12
_DIRECT = {"one": "192.0.2.1", "two": "192.0.2.2"}


def measure(rounds: int) -> list[records.Record]:
    """In turns: Gb/s of one TCP stream, and the median round trip in milliseconds."""
    found = records.Rounds()
    with (
        tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory,
        relayed(Path(directory), relay_rate=_RATE) as beacon,
    ):
        one, two = beacon.join(NATIVE, 4), beacon.join(NATIVE, 4)
        beacon.connect(one, two)
        _join(one, two)
        for _round in range(rounds):
            for way in ("relayed", "direct"):
                _send_by(way, one, two)
                subject = _subject(f"sennit-native, {way}", one, two)
                times = latency.round_trips(subject, 1.5)
                found.add("relayed-latency-p50", subject.name, statistics.median(times), "ms")
                with iperf.server(subject):
                    received = iperf.client(subject, 1.5)["sum_received"]
                found.add("relayed-tcp", subject.name, received["bits_per_second"] / 1e9, "Gb/s")
    return found.records()


def _join(one: Member, two: Member) -> None:
    """By a wire that leads past the beacon."""
    one.net.ip("link", "add", "direct", "type", "veth", "peer", "name", "direct", "netns", two.namespace)
    for member, address in ((one, _DIRECT["one"]), (two, _DIRECT["two"])):
        member.net.ip("link", "set", "direct", "up")
        member.net.address("direct", f"{address}/24")


def _send_by(way: str, one: Member, two: Member) -> None:
    """Have both ends send to the relay, or directly, and a session come up there."""
    for near, far, address in ((one, two, _DIRECT["two"]), (two, one, _DIRECT["one"])):
        endpoint = near.relay if way == "relayed" else f"{address}:{far.interface.port}"
        # Without a session: the relay forwards only what it has seen the beginning of.
        near.interface.set("peer", far.interface.public_key, "remove")
        near.interface.know(far.interface, ",".join(far.inner), "endpoint", endpoint)
    one.ping(two)


def _subject(name: str, one: Member, two: Member) -> Subject:
    return cast(Subject, SimpleNamespace(name=name, near=one, far=two, address=two.inner[0]))
