"""How workers report: the first event at once, a busy half in intervals, urgent ones without delay, none lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sennit.datapath import worker
from sennit.datapath.channel import Channel
from sennit.datapath.worker import REPORT_INTERVAL, Reporter
from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import Dropped, Event


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Half:
    """Something that drops packets."""

    def __init__(self) -> None:
        self.urgent = False
        self.due = float("inf")
        self.count = 0

    def take_events(self) -> list[Event]:
        count, self.count, self.urgent, self.due = self.count, 0, False, float("inf")
        return [Dropped(DropReason.WRONG_LENGTH, count)] if count else []


class Bench:
    """A reporter between a half and the other end of its channel."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.half = Half()
        self.end, self._channel = Channel.pair()
        self.reporter = Reporter(self.half, self._channel)

    def work(self, count: int = 1, *, urgent: bool = False) -> float | None:
        self.half.count += count
        self.half.urgent |= urgent
        self.reporter.worked()
        return self.reporter.report()

    def received(self) -> int | None:
        """How many drops the control process was told of since the last call; None for no message at all."""
        total = None
        while (message := self.end.receive()) is not None:
            total = (total or 0) + sum(event.count for event in message)
        return total

    def fill(self) -> None:
        while self._channel.send(["x" * 100_000]):
            pass

    def drain(self) -> None:
        while self.end.receive() is not None:
            pass


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench()
    monkeypatch.setattr(worker, "time", bench.clock)
    yield bench
    bench.end.close()


def test_the_first_at_once_and_then_in_intervals(bench: Bench) -> None:
    assert bench.work() == pytest.approx(REPORT_INTERVAL * 1000)
    assert bench.received() == 1
    bench.clock.now += 0.05
    assert bench.work(2) == pytest.approx((REPORT_INTERVAL - 0.05) * 1000)
    assert bench.work(3) is not None
    assert bench.received() is None
    bench.clock.now += REPORT_INTERVAL
    assert bench.reporter.report() is not None
    assert bench.received() == 5


def test_without_work_it_sleeps(bench: Bench) -> None:
    assert bench.reporter.report() is None
    bench.work()
    bench.clock.now += REPORT_INTERVAL
    assert bench.reporter.report() is None
    assert bench.received() == 1
    assert bench.reporter.report() is None


def test_what_is_due_waits_until_then(bench: Bench) -> None:
    bench.work()
    bench.received()
    bench.half.due = bench.clock.now + 0.01
    assert bench.work(2) == pytest.approx(10)
    assert bench.received() is None
    bench.clock.now += 0.01
    assert bench.reporter.report() == pytest.approx(REPORT_INTERVAL * 1000)
    assert bench.received() == 2


def test_what_is_due_waits_for_room_in_the_channel(bench: Bench) -> None:
    bench.work()
    bench.fill()
    bench.half.due = bench.clock.now
    bench.work(2)
    bench.half.due = bench.clock.now
    assert bench.work(3) == pytest.approx(REPORT_INTERVAL * 1000)
    bench.drain()
    bench.clock.now += REPORT_INTERVAL
    bench.reporter.report()
    assert bench.received() == 2
    bench.reporter.report()
    assert bench.received() == 3


def test_urgent_events_do_not_wait(bench: Bench) -> None:
    bench.work()
    bench.work(2, urgent=True)
    assert bench.received() == 3


def test_what_did_not_fit_is_sent_later(bench: Bench) -> None:
    bench.fill()
    bench.work(1)
    bench.work(2, urgent=True)
    bench.drain()
    for _ in range(2):
        bench.clock.now += REPORT_INTERVAL
        bench.reporter.report()
    assert bench.received() == 3
    assert bench.reporter.report() is not None
    bench.clock.now += REPORT_INTERVAL
    assert bench.reporter.report() is None


def test_a_worker_notices_that_the_control_process_is_gone(bench: Bench) -> None:
    bench.end.close()
    with pytest.raises(OSError):
        bench.work()


def test_a_channel_keeps_messages_whole_and_in_order() -> None:
    one, other = Channel.pair()
    messages = [[n, "x" * n * 1000] for n in range(50)]
    for message in messages:
        assert one.send(message)
    assert [other.receive() for _ in messages] == messages
    assert other.receive() is None
    one.close()
    with pytest.raises(EOFError):
        other.receive()
    other.close()


def test_a_peer_with_very_many_prefixes_fits() -> None:
    one, other = Channel.pair()
    command = worker.SetPeer(b"p" * 32, tuple(f"10.{n >> 8}.{n & 255}.0/24" for n in range(50_000)))
    sent = one.send([command])
    if one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 2 << 20:  # only root may have so large a buffer
        assert sent
        assert other.receive() == [command]
    one.close()
    other.close()


def test_a_socket_is_handed_over() -> None:
    """Behind the other values; it is one of the receiver's own, to the same."""
    one, other = Channel.pair()
    ours, theirs = socket.socketpair()
    assert one.send(["before", ours, "after"])
    ours.close()
    before, after, received = other.receive() or []
    assert (before, after) == ("before", "after")
    theirs.send(b"through it")
    assert received.recv(100) == b"through it"
    assert other.receive() is None
    for each in (theirs, received, one, other):
        each.close()


def test_a_report_that_is_asked_for_comes_at_once_and_behind_what_was_counted(bench: Bench) -> None:
    bench.work()
    assert bench.received() == 1
    bench.half.count = 2
    for number in (7, 8):
        bench.reporter.demand(worker.Report(number))
    bench.reporter.report()
    assert bench.end.receive() == [Dropped(DropReason.WRONG_LENGTH, 2), worker.Report(7), worker.Report(8)]
    assert bench.end.receive() is None
    # Also when there is nothing to tell.
    bench.reporter.demand(worker.Report(9))
    bench.reporter.report()
    assert bench.end.receive() == [worker.Report(9)]


def test_a_report_that_does_not_fit_is_sent_later(bench: Bench) -> None:
    bench.fill()
    bench.work(3)
    bench.reporter.demand(worker.Report(1))
    bench.reporter.report()
    bench.drain()
    for _ in range(2):
        bench.clock.now += REPORT_INTERVAL
        bench.reporter.report()
    messages = []
    while (message := bench.end.receive()) is not None:
        messages += message
    assert messages == [Dropped(DropReason.WRONG_LENGTH, 3), worker.Report(1)]
