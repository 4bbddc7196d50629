# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's private key: made on the node, kept in one file, never shown.

The file holds what `wg genkey` prints: base64 of 32 bytes and a newline, mode 0600.
"""

from __future__ import annotations

import base64
import os
import stat

from . import files
from .wireguard.constants import KEY_LENGTH
from .wireguard.crypto import public_key_of


class PrivateKeyError(Exception):
    """The private key's file cannot be used; the message names the file, never its content."""


def ensure_private_key(path: str) -> bytes:
    """The public key, 32 bytes, of the private key at ``path``, which is made when there is none.

    The directory must exist. Two that call it at once get the same key. Raises PrivateKeyError.
    """
    try:
        if not os.path.lexists(path):
            files.create(path, base64.b64encode(_generate()) + b"\n")
    except FileExistsError:
        # Somebody else was faster: their key is the key.
        pass
    except OSError as error:
        raise PrivateKeyError(f"{path}: {error.strerror}") from error
    return public_key_of(read_private_key(path))


def read_private_key(path: str) -> bytes:
    """The private key, 32 bytes. Raises PrivateKeyError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            content = file.read(1024)
    except OSError as error:
        raise PrivateKeyError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PrivateKeyError(
            f"{path}: must be a file of user {os.geteuid()} with mode 0600,"
            f" is one of user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}"
        )
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_LENGTH:
        raise PrivateKeyError(f"{path}: not a WireGuard private key (base64 of {KEY_LENGTH} bytes)")
    return key


def _generate() -> bytes:
    """A random scalar, clamped as RFC 7748 section 5 has it and `wg genkey` prints it."""
    key = bytearray(os.urandom(KEY_LENGTH))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)
