"""What an agent keeps of its sessions for the next run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.relay.routes import EXPIRE_AFTER, Route
from sennit.sessions import Sessions, live_sessions
from sennit.state import RouteStore, SessionStore, StateError
from sennit.wireguard.peer import PeerStatus

ONE, TWO = b"\1" * 32, b"\2" * 32
HERE, THERE = ("192.0.2.1", 51820), ("2001:db8::2", 4000)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sessions.json")


class Datapath:
    """With the sessions that the test says."""

    def __init__(self, *peers: bytes) -> None:
        self.peers = {key: PeerStatus(HERE, time.time(), 0, 0) for key in peers}
        self.resumed: object = None

    def status(self) -> Datapath:
        return self

    def resume(self, endpoints: object) -> None:
        self.resumed = endpoints


def test_what_is_kept_is_there_as_long_as_a_session_lasts(path: str) -> None:
    store = SessionStore(path)
    assert store.load(0.0) == {}
    store.keep({ONE: HERE, TWO: THERE}, 1000.0)
    assert store.load(1000.0) == store.load(1179.9) == {ONE: HERE, TWO: THERE}
    assert store.load(1180.0) == {}
    assert store.load(999.0) == {}, "the clock was set back"


@pytest.mark.parametrize("address", ["fe80::1%eth0", "169.254.1.1", "240.0.0.1", "4000::1", "127.0.0.1"])
def test_an_endpoint_of_the_link_alone_is_not_kept_and_costs_no_other(path: str, address: str) -> None:
    store = SessionStore(path)
    store.keep({ONE: (address, 51820), TWO: THERE}, 1000.0)
    assert store.load(1000.0) == {TWO: THERE}


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: f'{{"at": 1, "peers": {text}}}'.encode()))
)
def test_a_damaged_file_is_one_kind_of_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    try:
        assert SessionStore(str(path)).load(1.0) == {}
    except StateError as error:
        assert str(path) in str(error)


def test_the_next_run_takes_up_what_this_one_had(path: str) -> None:
    first = Sessions(path, Datapath(ONE))
    first.close()
    datapath = Datapath()
    Sessions(path, datapath).resume()
    assert datapath.resumed == {ONE: HERE}


def test_what_is_not_new_is_written_now_and_then(path: str) -> None:
    datapath = Datapath(ONE)
    sessions = Sessions(path, datapath)
    sessions.keep(100.0)
    Path(path).unlink()
    sessions.keep(159.0)
    assert not Path(path).exists()
    sessions.keep(160.0)
    assert Path(path).exists()
    datapath.peers = {}
    sessions.keep(161.0)
    assert SessionStore(path).load(time.time()) == {}


def test_only_peers_with_a_session_count() -> None:
    peers = {
        ONE: PeerStatus(HERE, 900.0, 0, 0),
        TWO: PeerStatus(HERE, 800.0, 0, 0),
        b"\3" * 32: PeerStatus(None, 900.0, 0, 0),
        b"\4" * 32: PeerStatus(HERE, None, 0, 0),
    }
    assert live_sessions(peers, 1000.0) == {ONE: HERE}


# --- the routes of a relay


@given(st.lists(st.builds(Route, *[st.sampled_from([ONE, TWO])] * 2, st.integers(0, 2**32 - 1))))
def test_routes_are_kept_as_long_as_a_session_may_use_them(
    tmp_path_factory: pytest.TempPathFactory, routes: list[Route]
) -> None:
    store = RouteStore(str(tmp_path_factory.getbasetemp() / "routes.json"))
    store.keep(routes, 1000.0)
    assert store.load(1000.0) == store.load(999.9 + EXPIRE_AFTER) == routes
    assert store.load(1000.0 + EXPIRE_AFTER) == store.load(999.0) == []


_KEY = '"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="'


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text("[]{}0123456789.,-e ", max_size=40).map(
            lambda text: f'{{"at": 1, "nodes": [{_KEY}], "routes": [{text}]}}'.encode()
        ),
        st.sampled_from([b'{"at": 1' + b"0" * 400 + b"}", b"[" * 100_000, b'{"at": 1}', b"[]", b"7"]),
    )
)
def test_damaged_routes_are_one_kind_of_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged-routes.json"
    path.write_bytes(content)
    for store in (RouteStore(str(path)), SessionStore(str(path))):
        try:
            store.load(2.0)
        except StateError as error:
            assert str(path) in str(error)
