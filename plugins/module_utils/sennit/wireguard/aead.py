# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ChaCha20-Poly1305 (RFC 8439) for transport data, by the fastest library this host has.

What costs in Python is the call, so the choice is made once, at import. Measured for a packet of 1,420 bytes on one
machine: 1.2 us for `cryptography` where its AEAD is compiled (from 42 on), 3.7 us for PyNaCl, 7 us for an older
`cryptography`, whose AEAD is Python around a dozen calls of OpenSSL. PyNaCl is needed for the handshake anyway, so the
last is never worth taking.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Protocol, Union

Buffer = Union[bytes, bytearray, memoryview]


class Aead(Protocol):
    """One key. The nonce has 12 bytes; the 16-byte tag follows the ciphertext; there is never associated data."""

    def encrypt(self, nonce: bytes, data: Buffer, associated_data: None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: Buffer, associated_data: None) -> bytes:
        """Raise AuthenticationError when the tag does not fit, or when there is no room for one."""


def _compiled_cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415
    except ImportError:
        return None
    return None if isinstance(ChaCha20Poly1305.encrypt, FunctionType) else ChaCha20Poly1305


new_aead: Any  # Callable[[bytes], Aead]: a key of 32 bytes
AuthenticationError: type[Exception]
LIBRARY: str

_ChaCha20Poly1305 = _compiled_cryptography()
if _ChaCha20Poly1305 is not None:
    from cryptography.exceptions import InvalidTag

    new_aead, AuthenticationError, LIBRARY = _ChaCha20Poly1305, InvalidTag, "cryptography"
else:
    from .aead_nacl import AuthenticationError as _NaclError
    from .aead_nacl import NaclAead

    new_aead, AuthenticationError, LIBRARY = NaclAead, _NaclError, "nacl"
