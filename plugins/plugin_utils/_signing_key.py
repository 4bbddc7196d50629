# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network's signing key on the control node: given as a variable, or kept in a file that is made on first use.

It is the one secret of the system. It is never in a result, a message or an argument.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass, field

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.signing import (
    generate_signing_key,
    verify_key_of,
)


class SigningKeyError(Exception):
    """A signing key that cannot be used. `variable` and `value` (a path, never a key) are what to look at."""

    def __init__(self, variable: str, value: str | None, reason: str) -> None:
        super().__init__(reason)
        self.variable = variable
        self.value = value
        self.reason = reason


@dataclass(frozen=True)
class SigningKey:
    """seed: base64, secret. variable, path: where it is from; path is None for one that a variable gave.

    stored: False for one just made, which `store` has yet to write.
    """

    seed: str = field(repr=False)
    variable: str
    path: str | None
    stored: bool

    @property
    def verify_key(self) -> str:
        return verify_key_of(self.seed)

    def store(self) -> SigningKey:
        """Write a key just made to its file: mode 0600, complete or not at all, never over another.

        Returns the key that is in the file then: another run's, if that one was quicker. Raises SigningKeyError.
        """
        if self.stored or self.path is None:
            return self
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            # mkstemp opens with O_EXCL and mode 0600; link fails where a file is already.
            descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".signing-key-")
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(self.seed + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, self.path)
            finally:
                os.unlink(temporary)
        except OSError as error:
            raise SigningKeyError(self.variable, self.path, f"cannot be written: {error.strerror}") from error
        return from_file(self.variable, self.path)

    def exposed(self) -> bool:
        """Whether others on the control node may read the file."""
        if self.path is None or not self.stored:
            return False
        return bool(stat.S_IMODE(os.stat(self.path).st_mode) & 0o077)


def from_text(variable: str, text: str) -> SigningKey:
    """The key that a variable holds. Raises SigningKeyError."""
    try:
        verify_key_of(text)
    except ValueError as error:
        raise SigningKeyError(variable, None, f"is no signing key (it {error})") from None
    return SigningKey(seed=text, variable=variable, path=None, stored=True)


def from_file(variable: str, path: str) -> SigningKey:
    """The key in a file, or a new one that is still to be stored there. Raises SigningKeyError."""
    try:
        with open(path, encoding="ascii") as file:
            seed = file.read(1024).strip()
        verify_key_of(seed)
    except FileNotFoundError:
        return SigningKey(seed=generate_signing_key(), variable=variable, path=path, stored=False)
    except OSError as error:
        raise SigningKeyError(variable, path, f"cannot be read: {error.strerror}") from error
    except ValueError:
        # Without the parser's own words: a file that is something else may be something secret.
        raise SigningKeyError(variable, path, "holds no signing key (base64 of 32 bytes)") from None
    return SigningKey(seed=seed, variable=variable, path=path, stored=True)
