"""How many initiations were not answered, told from counters alone."""

from __future__ import annotations

from sennit.datapath.silence import Silence
from sennit.datapath.wireguard_netlink import LivePeer

KEY = b"\1" * 32
EPOCH = 1_770_000_000.0
INITIATION = 148


class Watched:
    """A peer of the kernel's whose counters the test moves, and who is looked at every 5 s."""

    def __init__(self) -> None:
        self.peer = LivePeer(KEY)
        self.silence = Silence()
        self.now = 0.0

    def pass_by(self, seconds: float = 5.0, sent: int = 0, received: int = 0) -> int:
        self.now += seconds
        self.peer.tx_bytes += sent
        self.peer.rx_bytes += received
        self.completed = self.silence.look(self.peer, 1000 + self.now, EPOCH + self.now)
        return self.silence.unanswered

    def complete(self) -> None:
        self.peer.latest_handshake = EPOCH + self.now
        assert self.pass_by(0, sent=INITIATION + 32, received=92) == 0
        assert self.completed


def test_a_peer_that_was_never_there() -> None:
    watched = Watched()
    assert watched.pass_by() == 0
    assert [watched.pass_by(sent=INITIATION) for _look in range(4)] == [1, 2, 3, 4]
    assert watched.pass_by(60, sent=12 * INITIATION) == 16
    assert watched.pass_by() == 16
    watched.complete()
    assert not watched.completed or watched.pass_by() == 0
    assert not watched.completed


def test_a_session_in_use() -> None:
    watched = Watched()
    watched.complete()
    for _look in range(20):
        assert watched.pass_by(sent=100_000, received=3_000) == 0


def test_a_session_at_rest() -> None:
    watched = Watched()
    watched.complete()
    assert [watched.pass_by() for _look in range(20)] == [0] * 20


def test_a_peer_that_is_gone_in_the_midst_of_a_session() -> None:
    watched = Watched()
    watched.complete()
    looks = [watched.pass_by(sent=1_000) for _look in range(7)]
    # Fifteen seconds of patience, and then an initiation every five.
    assert looks == [0, 0, 0, 1, 2, 3, 4]
    assert watched.pass_by(received=32) == 0


def test_data_of_a_session_that_is_over_is_not_taken_for_initiations() -> None:
    watched = Watched()
    watched.complete()
    assert watched.pass_by(300, sent=1_000_000) == 0
    assert watched.pass_by(sent=INITIATION) == 1


def test_an_interface_that_an_agent_left() -> None:
    watched = Watched()
    watched.peer = LivePeer(KEY, latest_handshake=EPOCH - 3600, rx_bytes=5_000_000, tx_bytes=7_000_000)
    assert watched.pass_by() == 0
    assert watched.pass_by(sent=INITIATION) == 1


def test_counters_that_begin_anew() -> None:
    watched = Watched()
    watched.complete()
    watched.peer = LivePeer(KEY)
    assert watched.pass_by() == 0
    assert watched.pass_by(sent=INITIATION) == 1


def test_empty_packets_ask_for_no_answer() -> None:
    """Neither the kernel's own, for a persistent keepalive, nor those that a probe sends."""
    watched = Watched()
    watched.complete()
    for look in range(20):
        for _packet in range(3):
            watched.silence.probed()
        assert watched.pass_by(sent=3 * 32 + 32 * (look % 2)) == 0
    assert [watched.pass_by(sent=1_000) for _look in range(4)] == [0, 0, 0, 1]
