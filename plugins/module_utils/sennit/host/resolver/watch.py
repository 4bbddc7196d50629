# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notices that a file was written, replaced or removed (inotify(7)), by watching the directory it is in."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_IN_CLOSE_WRITE = 0x8
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x1000000
_MASK = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR

_EVENT = struct.Struct("=iIII")  # watch descriptor, mask, cookie, length of the name that follows


class FileWatch:
    """A descriptor to wait on; changed() then says whether what came matters. Raises OSError if there is no inotify."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._names: dict[int, set[str]] = {}

    def close(self) -> None:
        os.close(self.descriptor)

    def watch(self, paths: Iterable[str]) -> None:
        """Have these and no others; "*" as a name is every file of its directory. What is not there is left out."""
        names: dict[str, set[str]] = {}
        for path in paths:
            directory, name = os.path.split(path)
            names.setdefault(os.path.realpath(directory), set()).add(name)
        wanted: dict[int, set[str]] = {}
        for directory, leaves in names.items():
            # Of a directory that is watched already, this is the same descriptor.
            descriptor = self._libc.inotify_add_watch(self.descriptor, os.fsencode(directory), _MASK)
            if descriptor >= 0:
                wanted.setdefault(descriptor, set()).update(leaves)
        for descriptor in self._names.keys() - wanted.keys():
            self._libc.inotify_rm_watch(self.descriptor, descriptor)
        self._names = wanted

    def changed(self) -> bool:
        """Read all that is there. True when something came that is watched for, or a watch has ended."""
        changed = False
        while True:
            try:
                data = os.read(self.descriptor, 65536)
            except BlockingIOError:
                return changed
            offset = 0
            while offset + _EVENT.size <= len(data):
                descriptor, mask, _cookie, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
                offset += length
                names = self._names.get(descriptor, set())
                if mask & _IN_IGNORED:
                    # The directory has gone, or we asked for it.
                    changed |= self._names.pop(descriptor, None) is not None
                else:
                    changed |= bool(mask & _IN_Q_OVERFLOW or name in names or (names and "*" in names))
