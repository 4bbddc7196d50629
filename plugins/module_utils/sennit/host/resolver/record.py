# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be undone, kept on the disk before it is done: so no crash, no kill and no reboot makes it forgotten."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import stat
from typing import Optional

from ... import files
from .base import ResolverError

_MAX_BYTES = 1 << 20

FILE = "file"
SYMLINK = "symlink"
ABSENT = "absent"


@dataclasses.dataclass(frozen=True)
class Original:
    """What was at a path. kind: FILE, SYMLINK or ABSENT; content: of the file, or where the link leads."""

    kind: str = ABSENT
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclasses.dataclass(frozen=True)
class Record:
    """owner: the name of the way that was taken; original: what it replaced, of the way that does."""

    owner: str
    original: Optional[Original] = None


class RecordStore:
    """The file that holds one record or none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> Optional[Record]:
        """Raises ResolverError."""
        try:
            with open(self._path, "rb") as file:
                return _decoded(file.read(_MAX_BYTES))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResolverError(f"{self._path}: {error.strerror}") from error
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
            raise ResolverError(f"{self._path}: not what the agent wrote: {error}") from error

    def save(self, record: Record) -> None:
        """Raises ResolverError."""
        values = dataclasses.asdict(record)
        if record.original is not None:
            values["original"]["content"] = record.original.content.decode("utf-8", "surrogateescape")
        try:
            files.replace(self._path, json.dumps(values, indent=2, sort_keys=True).encode() + b"\n")
        except OSError as error:
            raise ResolverError(f"{self._path}: {error.strerror}") from error

    def remove(self) -> None:
        """Raises ResolverError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise ResolverError(f"{self._path}: {error.strerror}") from error


def capture(path: str, limit: int) -> Original:
    """What is at a path now. Raises OSError, also for a file of more bytes than the limit."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return Original()
    owner = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return Original(SYMLINK, os.fsencode(os.readlink(path)), *owner)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a symbolic link", path)
    if status.st_size > limit:
        raise OSError(errno.EFBIG, "too large for what it is", path)
    with open(path, "rb") as file:
        return Original(FILE, file.read(limit), *owner)


def _decoded(text: bytes) -> Record:
    values = json.loads(text)
    owner, original = str(values["owner"]), values["original"]
    if original is None:
        return Record(owner)
    kind, content = str(original["kind"]), str(original["content"]).encode("utf-8", "surrogateescape")
    if kind not in (FILE, SYMLINK, ABSENT):
        raise ValueError(f"{kind[:20]!r} is no kind of file")
    numbers = [int(original[name]) for name in ("mode", "uid", "gid")]
    return Record(owner, Original(kind, content, *numbers))
