"""Messages between processes: whole, in order, and known of without asking the kernel."""

from __future__ import annotations

import os

import pytest

from sennit.datapath.channel import Channel


def test_messages_arrive_whole_and_in_order() -> None:
    ours, theirs = Channel.pair()
    messages = [[1, "one"], [b"x" * 300_000], []]
    assert not theirs.waits()
    assert all(ours.send(message) for message in messages)
    assert theirs.waits()
    assert not ours.waits()
    assert [theirs.receive() for _ in messages] == messages
    assert not theirs.waits()
    assert theirs.receive() is None


def test_a_message_of_another_process_is_seen() -> None:
    ours, theirs = Channel.pair()
    child = os.fork()
    if not child:
        os._exit(0 if theirs.send(["from the child"]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ours.waits()
    assert ours.receive() == ["from the child"]


def test_what_did_not_fit_is_not_waited_for() -> None:
    ours, theirs = Channel.pair()
    sent = 0
    while ours.send([bytes(100_000)]):
        sent += 1
    for _ in range(sent):
        assert theirs.waits()
        assert theirs.receive() == [bytes(100_000)]
    assert not theirs.waits()
    assert theirs.receive() is None


def test_the_end_of_the_other_side() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    assert not ours.waits()
    with pytest.raises(EOFError):
        ours.receive()
    with pytest.raises(OSError):
        ours.send([])
