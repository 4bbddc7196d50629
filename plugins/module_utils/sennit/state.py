# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The netmap that the agent runs on, as kept over restarts: the signed file, byte for byte."""

from __future__ import annotations

import os
from typing import Optional

from . import files
from .netmap.model import TOO_LARGE, NetmapError


class StateError(Exception):
    """The state cannot be read or written; the message names the file."""


class NetmapStore:
    """One signed netmap in one file; ``limit`` is the most bytes it may have."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit

    def load(self) -> Optional[bytes]:
        """The signed netmap, or None when there is none yet.

        One that is too long is refused by its size, unread. Raises NetmapError too-large, StateError.
        """
        try:
            with open(self._path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self._limit:
                    raise NetmapError(TOO_LARGE, f"{size} bytes; the limit is {self._limit}")
                return file.read(self._limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error

    def save(self, signed: bytes) -> None:
        """Replace the netmap; a crash leaves the old one or the new one. Raises StateError."""
        try:
            files.replace(self._path, signed)
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error

    def remove_leftovers(self) -> None:
        """Remove what a crash in the middle of save() left. Raises StateError."""
        directory, name = os.path.split(self._path)
        try:
            files.remove_leftovers(directory, name)
        except OSError as error:
            raise StateError(f"{directory}: {error.strerror}") from error
