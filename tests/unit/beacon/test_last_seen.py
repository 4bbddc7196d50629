"""Where a beacon has last seen the nodes, over a restart and on a disk that takes nothing."""

import errno
import os

import pytest

from sennit.beacon.last_seen import LastSeen
from sennit.beacon.registry import Registry
from sennit.state import StateError, WhereaboutsStore

A, B = (bytes([number]) * 32 for number in (1, 2))


def registry():
    registry = Registry()
    registry.use((A, B))
    return registry


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "whereabouts.json")


def test_another_run_knows_what_this_one_knew(path):
    before, after = registry(), registry()
    LastSeen(path, before).load()
    before.observe({A: ("192.0.2.1", 5)}, {B: ("2001:db8::1", 6)}, 1000)
    before.declare(A, (("192.0.2.2", 5), ("2001:db8::2", 5)), 1000)
    first = LastSeen(path, before)
    first.keep()
    # LastSeen.load() would find them older than seven days.
    after.restore(WhereaboutsStore(path).load(), 2000)
    assert set(after.sightings()) == set(before.sightings())
    assert first.problem is None


@pytest.mark.parametrize(
    "content", ["[1]", "no JSON", '[["AAAA", "observed", "192.0.2.1:5", 1]]', "[" * 100_000,
                '[["' + "A" * 43 + '=", "elsewhere", "192.0.2.1:5", 1]]', '[["' + "A" * 43 + '=", "local", "x", 1]]']
)  # fmt: skip
def test_a_file_that_is_no_good_is_one_error_and_costs_what_was_known(path, content, caplog):
    with open(path, "w") as file:
        file.write(content)
    with pytest.raises(StateError, match=r"whereabouts\.json"):
        WhereaboutsStore(path).load()
    known = registry()
    LastSeen(path, known).load()
    assert "where nodes were is not known any more" in caplog.text
    assert known.whereabouts() == {}


def test_it_is_written_when_something_has_changed_or_is_old(path, monkeypatch):
    known = registry()
    last_seen = LastSeen(path, known)
    written = []
    monkeypatch.setattr("sennit.files.replace", lambda path, content, **_options: written.append(content))
    known.observe({A: ("192.0.2.1", 5)}, {}, 1000)
    last_seen.keep(0)
    known.observe({A: ("192.0.2.1", 5)}, {}, 1060)
    last_seen.keep(60)
    assert len(written) == 1
    known.observe({A: ("192.0.2.1", 6)}, {}, 1120)
    last_seen.keep(120)
    last_seen.keep(180)
    assert len(written) == 2
    last_seen.keep(120 + 3600)
    last_seen.keep()
    assert len(written) == 4


def test_a_full_disk_is_told_until_it_takes_it(path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    known = registry()
    last_seen = LastSeen(path, known)
    monkeypatch.setattr("sennit.files.replace", full)
    known.observe({A: ("192.0.2.1", 5)}, {}, 1000)
    for minute in range(3):
        last_seen.keep(60 * minute)
        assert "in memory only" in last_seen.problem and "No space left" in last_seen.problem
    assert len(known.whereabouts()) == 1
    monkeypatch.undo()
    last_seen.keep(180)
    assert last_seen.problem is None
    assert len(WhereaboutsStore(path).load()) == 1


def test_nothing_of_it_stays_with_who_is_no_beacon_any_more(path, caplog):
    known = registry()
    last_seen = LastSeen(path, known)
    known.observe({A: ("192.0.2.1", 5)}, {}, 1000)
    last_seen.keep()
    for _again in range(2):
        last_seen.forget()
        assert not os.path.exists(path)
    os.mkdir(path)
    last_seen.forget()
    assert "still on file" in caplog.text
