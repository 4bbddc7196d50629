# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ChaCha20-Poly1305 by PyNaCl (libsodium), in the shape of `cryptography`'s class."""

from __future__ import annotations

from typing import Union

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt as _decrypt,
)
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_encrypt as _encrypt,
)
from nacl.exceptions import CryptoError as AuthenticationError

__all__ = ["AuthenticationError", "NaclAead"]


class NaclAead:
    """See aead.Aead."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: Union[bytes, bytearray, memoryview], associated_data: None) -> bytes:
        sealed: bytes = _encrypt(bytes(data), None, nonce, self._key)
        return sealed

    def decrypt(self, nonce: bytes, data: Union[bytes, bytearray, memoryview], associated_data: None) -> bytes:
        opened: bytes = _decrypt(bytes(data), None, nonce, self._key)
        return opened
