"""The stored netmap is the old or the new one at every moment."""

import os

import pytest

from sennit import files
from sennit.netmap.model import NetmapError
from sennit.state import NetmapStore, StateError


@pytest.fixture
def store(tmp_path):
    return NetmapStore(str(tmp_path / "netmap"), 1000)


def test_nothing_then_what_was_saved(store):
    assert store.load() is None
    store.save(b"first")
    store.save(b"second")
    assert store.load() == b"second"


def test_is_readable_by_its_owner_only(store, tmp_path):
    store.save(b"map")
    assert os.stat(tmp_path / "netmap").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("last_call", ["fchmod", "fsync", "rename"])
def test_a_crash_before_the_rename_leaves_the_old_one(store, tmp_path, last_call):
    store.save(b"old")
    pid = os.fork()
    if pid == 0:
        setattr(os, last_call, lambda *_arguments: os._exit(9))
        try:
            store.save(b"new")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert len(os.listdir(tmp_path)) == 2
    assert store.load() == b"old"
    store.remove_leftovers()
    assert os.listdir(tmp_path) == ["netmap"]
    assert store.load() == b"old"


def test_leftovers_of_other_files_stay(store, tmp_path):
    (tmp_path / ".other.new-12").touch()
    (tmp_path / ".netmap").touch()
    store.remove_leftovers()
    assert sorted(os.listdir(tmp_path)) == [".netmap", ".other.new-12"]


def test_a_full_disk_leaves_the_old_one_and_nothing_else(store, tmp_path, monkeypatch):
    store.save(b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StateError, match="netmap: No space left on device"):
        store.save(b"new")
    assert store.load() == b"old"
    assert os.listdir(tmp_path) == ["netmap"]


def test_too_large_is_refused_by_its_size(store, tmp_path):
    with open(tmp_path / "netmap", "wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(NetmapError, match="104857600 bytes; the limit is 1000") as caught:
        store.load()
    assert caught.value.reason == "too-large"


def test_a_directory_in_its_place_is_an_error_not_a_crash(store, tmp_path):
    (tmp_path / "netmap").mkdir()
    with pytest.raises(StateError, match="Is a directory"):
        store.load()
    with pytest.raises(StateError, match="Is a directory"):
        store.save(b"new")
