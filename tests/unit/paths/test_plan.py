"""Which endpoints of a peer are tried and when, in a world in which some of them work."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from sennit.paths.candidates import Local
from sennit.paths.plan import ACTIVE_FOR, Action, Move, Plan, Probe, Ways
from sennit.wireguard.constants import REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME
from sennit.wireguard.events import Endpoint
from sennit.wireguard.peer import PeerStatus

EPOCH = 1_770_000_000.0
LOCAL = Local(("192.168.1.2", "2001:db8::2"), (ip_network("192.168.1.0/24"), ip_network("2001:db8::/64")))
LAN, IPV6, IPV4 = ("192.168.1.7", 51820), ("2001:db8:7::7", 51820), ("203.0.113.7", 4711)
ELSEWHERE = ("198.51.100.9", 51820)
RELAYS = (("192.0.2.1", 21473), ("192.0.2.2", 21473))
OTHER_RELAY = ("192.0.2.3", 21473)
EVERY_RELAY = frozenset((*RELAYS, OTHER_RELAY))


def ways(*direct: Endpoint, relays: tuple[Endpoint, ...] = RELAYS, stated: Endpoint | None = None) -> Ways:
    return Ways(direct, relays, stated, LOCAL, EVERY_RELAY)


class World:
    """One peer, in userspace as far as handshakes go, whom packets reach at the endpoints that ``work``."""

    def __init__(self, known: Ways, *work: Endpoint, endpoint: Endpoint | None = None) -> None:
        self.plan = Plan()
        self.ways = known
        self.work = set(work)
        self.now = 1000.0
        self.peer = PeerStatus(endpoint, None, 0, 0)
        self.wanted = False
        self.silent_for = 0
        self.actions: list[tuple[float, Action]] = []

    @property
    def wall(self) -> float:
        return EPOCH + self.now

    def has_session(self) -> bool:
        return self.peer.latest_handshake is not None and self.wall - self.peer.latest_handshake < REJECT_AFTER_TIME

    def pass_by(self, seconds: int) -> list[Action]:
        """What was done meanwhile."""
        before = len(self.actions)
        for _second in range(seconds):
            self.now += 1
            if self.wanted:
                self._send()
            for action in self.plan.look(self.now, self.wall, self.peer, self.ways):
                self.actions.append((self.now, action))
                self._do(action)
        return [action for _at, action in self.actions[before:]]

    def shake_hands(self) -> None:
        self.peer = replace(self.peer, latest_handshake=self.wall, unanswered=0, rx_bytes=self.peer.rx_bytes + 92)
        self.silent_for = 0

    def _send(self) -> None:
        reached = self.peer.endpoint in self.work
        if self.has_session():
            self.peer = replace(self.peer, tx_bytes=self.peer.tx_bytes + 128)
            if reached:
                self.peer = replace(self.peer, rx_bytes=self.peer.rx_bytes + 128)
                self.silent_for = 0
                if self.wall - (self.peer.latest_handshake or 0) >= 120:
                    self.shake_hands()
                return
        # Without a session at once, in one after 15 s, every 5 s, for 90 s.
        since = self.silent_for - (15 if self.has_session() else 0)
        if since >= 0 and since % 5 == 0 and since < REKEY_ATTEMPT_TIME and self.peer.endpoint:
            self.peer = replace(self.peer, tx_bytes=self.peer.tx_bytes + 148, unanswered=self.peer.unanswered + 1)
            if reached:
                self.shake_hands()
        self.silent_for += 1

    def _do(self, action: Action) -> None:
        if isinstance(action, Move):
            self.peer = replace(self.peer, endpoint=action.endpoint)
            return
        self.peer = replace(self.peer, tx_bytes=self.peer.tx_bytes + 148 * len(action.endpoints))
        for endpoint in action.endpoints:
            if endpoint in self.work:
                self.peer = replace(self.peer, endpoint=endpoint)
                self.shake_hands()
                return


def connected(known: Ways, *work: Endpoint, endpoint: Endpoint) -> World:
    """With a session that is in use."""
    world = World(known, *work, endpoint=endpoint)
    world.shake_hands()
    world.wanted = True
    return world


# --- nobody wants the peer


def test_a_peer_that_nobody_wants_is_sent_to_by_a_relay_and_left_alone() -> None:
    world = World(ways(LAN, IPV4))
    assert world.pass_by(600) == [Move(RELAYS[0])]


def test_a_stated_endpoint_is_the_first_to_be_tried() -> None:
    world = World(ways(IPV4, stated=IPV4), endpoint=IPV4)
    assert world.pass_by(600) == []


def test_the_next_relay_when_the_first_is_gone_and_back() -> None:
    world = World(ways(), endpoint=RELAYS[0])
    world.ways = ways(relays=RELAYS[1:])
    assert world.pass_by(5) == [Move(RELAYS[1])]
    world.ways = ways()
    assert world.pass_by(5) == [Move(RELAYS[0])]


def test_a_relay_that_leads_nowhere_any_more() -> None:
    world = World(ways(IPV4, relays=(), stated=IPV4), endpoint=OTHER_RELAY)
    assert world.pass_by(5) == [Move(IPV4)]
    world = World(ways(IPV4, relays=()), endpoint=None)
    assert world.pass_by(5) == [Move(IPV4)]
    world = World(ways(relays=()), endpoint=None)
    assert world.pass_by(5) == []


# --- a session


def test_from_a_relay_to_what_is_better_the_best_first() -> None:
    world = connected(ways(LAN, IPV6, IPV4), RELAYS[0], IPV4, endpoint=RELAYS[0])
    assert world.pass_by(2)[0] == Probe((LAN, IPV6, IPV4))
    assert world.peer.endpoint == IPV4
    assert world.pass_by(1) == [Probe((LAN, IPV6))]
    world.work.add(IPV6)
    world.pass_by(30)
    assert world.peer.endpoint == IPV6


def test_rounds_at_0_1_2_4_8_seconds_and_then_every_minute() -> None:
    world = connected(ways(IPV4), RELAYS[0], endpoint=RELAYS[0])
    world.pass_by(400)
    at = [when for when, action in world.actions]
    assert {action for _when, action in world.actions} == {Probe((IPV4,))}
    assert [when - at[0] for when in at][:8] == [0, 1, 2, 4, 8, 16, 32, 64]
    assert {after - before for before, after in zip(at[7:], at[8:])} == {60}


def test_a_direct_path_is_not_left_alone_for_long_and_then_it_is() -> None:
    world = connected(ways(LAN, IPV4), IPV4, endpoint=IPV4)
    assert len(world.pass_by(600)) == 6
    # Until there is something new to try.
    world.ways = ways(LAN, IPV6, IPV4)
    assert world.pass_by(600)[0] == Probe((LAN, IPV6))


def test_a_session_that_is_not_in_use_is_left_as_it_is() -> None:
    world = connected(ways(IPV4), RELAYS[0], endpoint=RELAYS[0])
    world.pass_by(10)
    world.wanted = False
    world.pass_by(int(ACTIVE_FOR) + 1)
    assert world.pass_by(60) == []
    world.wanted = True
    assert Probe((IPV4,)) in world.pass_by(3)


def test_handshakes_and_keepalives_are_no_use() -> None:
    world = connected(ways(IPV4), RELAYS[0], endpoint=RELAYS[0])
    world.wanted = False
    world.pass_by(int(ACTIVE_FOR) + 2)
    world.actions.clear()
    for _keepalive in range(10):
        world.peer = replace(world.peer, rx_bytes=world.peer.rx_bytes + 148 + 32, tx_bytes=world.peer.tx_bytes + 92)
        world.shake_hands()
        assert world.pass_by(25) == []


def test_the_best_path_asks_for_nothing() -> None:
    world = connected(ways(LAN, IPV6, IPV4), LAN, endpoint=LAN)
    assert world.pass_by(600) == []


# --- trouble


def test_a_stated_endpoint_that_is_blocked_costs_two_seconds() -> None:
    world = World(ways(IPV4, stated=IPV4), RELAYS[0], endpoint=IPV4)
    world.wanted = True
    done = world.pass_by(2)
    assert done == [Move(RELAYS[0]), Probe((IPV4, *RELAYS))]
    assert world.has_session() and world.peer.endpoint == RELAYS[0]
    world.work.add(IPV4)
    world.pass_by(3)
    assert world.peer.endpoint == IPV4


def test_a_peer_that_is_nowhere_is_given_up_and_looked_for_at_a_relay_next_time() -> None:
    world = World(ways(LAN, IPV4, stated=IPV4), endpoint=IPV4)
    world.wanted = True
    done = world.pass_by(100)
    assert {action.endpoint for action in done if isinstance(action, Move)} == {*RELAYS, LAN, IPV4}
    assert 5 <= sum(isinstance(action, Probe) for action in done) <= 12
    world.pass_by(20)
    assert world.pass_by(600) == []
    assert world.peer.endpoint == RELAYS[0]


def test_without_relays_a_peer_that_is_given_up_is_where_the_netmap_says() -> None:
    world = World(ways(IPV6, IPV4, relays=(), stated=IPV4), endpoint=IPV4)
    world.wanted = True
    world.pass_by(130)
    assert world.peer.endpoint == IPV4
    assert world.pass_by(600) == []


def test_with_one_place_to_be_there_is_nothing_to_do() -> None:
    """WireGuard itself asks there, and asks again."""
    world = World(ways(IPV4, relays=(), stated=IPV4), endpoint=IPV4)
    world.wanted = True
    assert world.pass_by(300) == []


def test_this_host_has_another_address() -> None:
    world = connected(ways(IPV4), IPV4, RELAYS[0], endpoint=IPV4)
    assert world.pass_by(10) == []
    world.plan.doubt()
    assert world.pass_by(1) == [Probe((IPV4, *RELAYS))]
    assert world.pass_by(60) == []
    # While the new address leads nowhere it is tried again, and a relay has its turn.
    world.work.clear()
    world.plan.doubt()
    done = world.pass_by(8)
    assert done[:2] == [Probe((IPV4, *RELAYS))] * 2
    assert Move(RELAYS[0]) in done
    world.work.add(IPV4)
    world.pass_by(60)
    assert world.peer.endpoint == IPV4


def test_the_peer_has_another_address() -> None:
    world = connected(ways(IPV4), IPV4, endpoint=IPV4)
    world.pass_by(3)
    world.work = {ELSEWHERE}
    world.ways = ways(ELSEWHERE)
    assert world.pass_by(1) == [Probe((IPV4, ELSEWHERE, *RELAYS))]
    assert world.peer.endpoint == ELSEWHERE


def test_a_nat_that_forgot_the_path_while_nothing_went_by_it() -> None:
    """WireGuard waits for 15 s before it begins anew."""
    world = connected(ways(IPV4), IPV4, endpoint=IPV4)
    world.pass_by(10)
    world.wanted = False
    assert world.pass_by(25) == []
    world.work = {ELSEWHERE, *RELAYS}
    world.wanted = True
    assert world.pass_by(3) == [Probe((IPV4, *RELAYS))]
    assert world.peer.endpoint == RELAYS[0]


def test_who_speaks_all_the_time_is_not_doubted_for_a_second_without_an_answer() -> None:
    world = connected(ways(IPV4), IPV4, endpoint=IPV4)
    world.pass_by(10)
    world.work.clear()
    assert world.pass_by(12) == []


def test_a_doubt_about_nobody() -> None:
    world = World(ways(IPV4, stated=IPV4), endpoint=IPV4)
    world.plan.doubt()
    assert world.pass_by(600) == []


# --- whatever happens

places = st.lists(st.sampled_from([LAN, IPV6, IPV4, ELSEWHERE]), unique=True).map(
    lambda found: tuple(sorted(found, key=lambda endpoint: ways().rank(endpoint)))
)
relays = st.sampled_from([(), RELAYS, RELAYS[:1], RELAYS[1:]])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ways"), places, relays),
        st.tuples(st.just("work"), st.sets(st.sampled_from([LAN, IPV6, IPV4, ELSEWHERE, *RELAYS]))),
        st.tuples(st.just("want"), st.booleans()),
        st.tuples(st.just("doubt")),
        st.tuples(st.just("wait"), st.integers(1, 200)),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(steps)
def test_whatever_happened_the_best_path_that_works_is_found_and_little_is_sent(happens: list[tuple]) -> None:
    world = World(ways(IPV4), endpoint=None)
    for what, *values in happens:
        if what == "ways":
            world.ways = ways(*values[0], relays=values[1])
        elif what == "work":
            world.work = values[0]
        elif what == "want":
            world.wanted = values[0]
        elif what == "doubt":
            world.plan.doubt()
        else:
            world.pass_by(values[0])
    for _at, action in world.actions:
        endpoints = (action.endpoint,) if isinstance(action, Move) else action.endpoints
        assert endpoints and len(endpoints) <= 9
    world.wanted = True
    # Wants it anew, should WireGuard have given up.
    world.silent_for = 0
    found = [endpoint for endpoint in (*world.ways.direct, *world.ways.relays) if endpoint in world.work]
    world.pass_by(240)
    if found:
        assert world.peer.endpoint in world.work
        assert world.ways.rank(world.peer.endpoint) <= world.ways.rank(found[0])
    # What the plan asks for is bounded by the rounds alone.
    assert len(world.pass_by(600)) <= 30
