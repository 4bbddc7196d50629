# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing a file so that it is whole at every moment: the old content or the new, also after a crash."""

from __future__ import annotations

import contextlib
import os
import secrets


def replace(path: str, content: bytes, mode: int = 0o600, lasting: bool = True) -> None:
    """Put ``content`` at ``path``, whatever was there; on return it is on the disk. If it need not be ``lasting``, no
    disk is waited for, and a crash of the machine may cost the content.

    Raises OSError; then the old content stands.
    """
    temporary = _write_beside(path, content, mode, lasting)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    if lasting:
        _sync_directory(path)


def replace_by_link(path: str, target: str) -> None:
    """As replace(), but what is put at ``path`` is a symbolic link."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, _temporary_prefix(name) + secrets.token_hex(8))
    os.symlink(target, temporary)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    _sync_directory(path)


def create(path: str, content: bytes, mode: int = 0o600) -> None:
    """As replace(), but raises FileExistsError when something is at ``path`` already, and leaves that alone."""
    temporary = _write_beside(path, content, mode)
    try:
        # A link, unlike a rename, never puts itself in another file's place.
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    _sync_directory(path)


def remove_leftovers(directory: str, name: str) -> None:
    """Remove what a crash between writing and renaming left of ``name``."""
    prefix = _temporary_prefix(name)
    for entry in os.listdir(directory):
        if entry.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, entry))


def _temporary_prefix(name: str) -> str:
    return f".{name}.new-"


def _write_beside(path: str, content: bytes, mode: int, lasting: bool = True) -> str:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, _temporary_prefix(name) + secrets.token_hex(8))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            if lasting:
                os.fsync(descriptor)
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
