# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ChaCha20-Poly1305 (RFC 8439) for transport data, by the fastest library this host has.

What costs in Python is the call, so the choice is made once, at import. Measured for a packet of 1,420 bytes on one
machine: 1.2 us for `cryptography` where its AEAD is compiled, 3.7 us for PyNaCl, 7 us for an older
`cryptography`, whose AEAD is Python around a dozen calls of OpenSSL. As PyNaCl is needed for the handshake anyway, the
last is never worth taking.
"""

from __future__ import annotations

from typing import Callable, Optional, Protocol, Union

_COMPILED_SINCE = 42

try:
    from cryptography import __version__ as _version

    # Asked first, as loading what is not used then would cost each agent several MB.
    _cryptography = int(_version.split(".")[0]) >= _COMPILED_SINCE
    if _cryptography:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
except ImportError:
    _cryptography = False

try:
    from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt, crypto_aead_chacha20poly1305_ietf_encrypt
    from nacl.exceptions import CryptoError
except ImportError:
    _nacl = False
else:
    _nacl = True

Buffer = Union[bytes, bytearray, memoryview]
_TAG_LENGTH = 16


class Aead(Protocol):
    """One key of 32 bytes. The nonce has 12 bytes; the tag follows the ciphertext. WireGuard associates no data."""

    def encrypt(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes]) -> bytes: ...

    def encrypt_into(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes], buf: memoryview) -> int:
        """Fill the buffer, which has room for the data and the tag. Return its length."""

    def decrypt(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes]) -> bytes:
        """Raise AuthenticationError when the tag does not fit, or when there is no room for one."""


class _Copying:
    """Encrypts into a buffer by a copy."""

    __slots__ = ()

    encrypt: Callable[[bytes, Buffer, Optional[bytes]], bytes]

    def encrypt_into(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes], buf: memoryview) -> int:
        buf[:] = self.encrypt(nonce, data, associated_data)
        return len(buf)


class NaclAead(_Copying):
    """PyNaCl in the shape of `cryptography`'s class."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes]) -> bytes:
        sealed: bytes = crypto_aead_chacha20poly1305_ietf_encrypt(bytes(data), associated_data, nonce, self._key)
        return sealed

    def decrypt(self, nonce: bytes, data: Buffer, associated_data: Optional[bytes]) -> bytes:
        if len(data) < _TAG_LENGTH:  # not all versions of PyNaCl look
            raise CryptoError
        opened: bytes = crypto_aead_chacha20poly1305_ietf_decrypt(bytes(data), associated_data, nonce, self._key)
        return opened


class OlderAead(_Copying):
    """`cryptography` as it was before it encrypted into buffers."""

    __slots__ = ("decrypt", "encrypt")

    def __init__(self, key: bytes) -> None:
        cipher = ChaCha20Poly1305(key)
        self.encrypt, self.decrypt = cipher.encrypt, cipher.decrypt


new_aead: Callable[[bytes], Aead]
AuthenticationError: type[Exception]

if _cryptography and hasattr(ChaCha20Poly1305, "encrypt_into"):
    new_aead, AuthenticationError = ChaCha20Poly1305, InvalidTag
elif _cryptography:
    new_aead, AuthenticationError = OlderAead, InvalidTag
elif _nacl:
    new_aead, AuthenticationError = NaclAead, CryptoError
else:  # the agent does not start, as crypto.py lacks PyNaCl too
    new_aead, AuthenticationError = NaclAead, NotImplementedError
