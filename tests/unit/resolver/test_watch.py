"""Which changes of files are worth another look."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from sennit.host.resolver.watch import FileWatch


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


def changed(watch: FileWatch) -> bool:
    """What the kernel tells of is there as soon as the change is made."""
    return bool(select.select([watch.descriptor], [], [], 0)[0]) and watch.changed()


def test_a_file_is_watched_however_it_changes(watch: FileWatch, tmp_path: Path) -> None:
    path, fresh = tmp_path / "resolv.conf", tmp_path / "fresh"
    watch.watch([str(path)])
    assert not changed(watch)
    path.write_text("new")
    assert changed(watch)
    path.write_text("written over")
    assert changed(watch)
    fresh.write_text("replaced")
    assert not changed(watch)
    fresh.rename(path)
    assert changed(watch)
    path.unlink()
    assert changed(watch)
    path.symlink_to("fresh")
    assert changed(watch)
    path.read_bytes() if path.exists() else None
    assert not changed(watch)


def test_every_file_of_a_directory(watch: FileWatch, tmp_path: Path) -> None:
    watch.watch([str(tmp_path / "*")])
    (tmp_path / "eth0.dhclient").write_text("nameserver 192.0.2.1\n")
    assert changed(watch)


def test_what_is_not_watched_any_more(watch: FileWatch, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    watch.watch([str(tmp_path / "one"), str(tmp_path / "other" / "two"), str(tmp_path / "none" / "three")])
    watch.watch([str(tmp_path / "other" / "two")])
    watch.changed()
    (tmp_path / "one").write_text("")
    assert not changed(watch)
    (tmp_path / "other" / "two").write_text("")
    assert changed(watch)


def test_a_directory_that_goes_is_a_change(watch: FileWatch, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    watch.watch([str(tmp_path / "run" / "resolv.conf")])
    (tmp_path / "run").rmdir()
    assert changed(watch)
