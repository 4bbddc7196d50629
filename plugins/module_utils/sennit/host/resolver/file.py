# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where nobody owns it: /etc/resolv.conf itself. What was there is kept, and whatever is written there later, too.

The file is replaced by renaming, so that no program ever reads half of it; where it is a mount of its own, as in
containers, it can only be overwritten.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Optional

from ... import files
from .base import Found, Place, ResolverError, Wanted, others
from .record import ABSENT, FILE, SYMLINK, Original, Record, RecordStore, capture
from .resolv_conf import MAX_BYTES, ResolvConf, is_ours, parse, read, render

NAME = "file"

_CANNOT_RENAME = (errno.EBUSY, errno.EROFS, errno.EACCES, errno.EPERM)


class File:
    """The file and the record of what was there."""

    name = NAME

    def __init__(self, place: Place, store: RecordStore) -> None:
        self._path = place.path
        self._store = store

    def found(self, stub: Sequence[str]) -> Found:
        before = self._before()
        return Found(others(before.nameservers, stub), before.search)

    def apply(self, wanted: Wanted) -> list[str]:
        now = capture(self._path, MAX_BYTES)
        kept = self._kept()
        if not (_ours(now) or (kept and now.kind == ABSENT)):
            # What was there before us, or what somebody has written since: a DHCP client with news, say.
            self._store.save(Record(NAME, now))
        elif kept is None:
            # Nobody knows any more what was there; so nothing will be.
            self._store.save(Record(NAME, Original()))
        content = render(wanted, self._before())
        if now.kind == FILE and now.content == content:
            return []
        self._write(Original(FILE, content), now)
        return [f"{self._path} leads to the mesh's resolver"]

    def undo(self) -> list[str]:
        now = capture(self._path, MAX_BYTES)
        original = self._original()
        if original == now:
            return []
        self._write(original, now)
        return [f"{self._path} is as it was"]

    def watched(self) -> list[str]:
        original = self._original()
        if original.kind != SYMLINK:
            return [self._path]
        return [self._path, os.path.realpath(self._target(original))]

    def _original(self) -> Original:
        """What is there without us. A file that somebody removed was ours, so it says nothing."""
        now = capture(self._path, MAX_BYTES)
        if _ours(now):
            return self._kept() or Original()
        return (self._kept() or now) if now.kind == ABSENT else now

    def _kept(self) -> Optional[Original]:
        record = self._store.load()
        return record.original if record is not None and record.owner == NAME else None

    def _before(self) -> ResolvConf:
        original = self._original()
        return parse(read(self._target(original)) if original.kind == SYMLINK else original.content)

    def _target(self, original: Original) -> str:
        return os.path.join(os.path.dirname(self._path), os.fsdecode(original.content))

    def _write(self, wanted: Original, now: Original) -> None:
        directory, name = os.path.split(self._path)
        files.remove_leftovers(directory, name)
        try:
            if wanted.kind == ABSENT:
                os.unlink(self._path)
            elif wanted.kind == SYMLINK:
                files.replace_by_link(self._path, os.fsdecode(wanted.content))
            else:
                files.replace(self._path, wanted.content, wanted.mode)
                if (wanted.uid, wanted.gid) != (0, 0):
                    os.chown(self._path, wanted.uid, wanted.gid)
        except OSError as error:
            if error.errno not in _CANNOT_RENAME or now.kind != FILE or wanted.kind == SYMLINK:
                raise ResolverError(f"{self._path} cannot be replaced: {error.strerror}") from error
            self._overwrite(wanted.content)

    def _overwrite(self, content: bytes) -> None:
        try:
            with open(self._path, "r+b") as file:
                file.write(content)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResolverError(f"{self._path} cannot be written: {error.strerror}") from error


def _ours(now: Original) -> bool:
    return now.kind == FILE and is_ours(now.content)
