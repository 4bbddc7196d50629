# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The primitives of whitepaper section 5.4, over PyNaCl (libsodium) and hashlib.

Data packets do not come through here: their cipher is chosen for speed, in aead.py. Lengths of keys and nonces are for
the caller to get right, as libsodium reads that many bytes whatever it is given.
"""

from __future__ import annotations

import hashlib
import hmac

from .aead import Buffer
from .constants import KEY_LENGTH, MAC_LENGTH
from .errors import DropReason, PacketError

try:
    from nacl.bindings import (
        crypto_aead_chacha20poly1305_ietf_decrypt,
        crypto_aead_chacha20poly1305_ietf_encrypt,
        crypto_aead_xchacha20poly1305_ietf_decrypt,
        crypto_aead_xchacha20poly1305_ietf_encrypt,
        crypto_scalarmult,
        crypto_scalarmult_base,
    )
    from nacl.exceptions import CryptoError
except ImportError as error:
    NACL_IMPORT_ERROR: ImportError | None = error
else:
    NACL_IMPORT_ERROR = None

_ZERO_KEY = bytes(KEY_LENGTH)
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


def public_key_of(private_key: bytes) -> bytes:
    """The public key of a private key, 32 bytes each (X25519 with the base point)."""
    return bytes(crypto_scalarmult_base(private_key))


def dh(private_key: bytes, public_key: bytes) -> bytes:
    """X25519 (RFC 7748 section 5): the shared secret, 32 bytes.

    Raises PacketError(LOW_ORDER_POINT) when it is all zero: such a public key would take our own out of the result.
    """
    try:
        secret = bytes(crypto_scalarmult(private_key, public_key))
    except CryptoError:
        # libsodium refuses the points that lead to zero, and PyNaCl tells no more than that it failed.
        secret = _ZERO_KEY
    if hmac.compare_digest(secret, _ZERO_KEY):
        raise PacketError(DropReason.LOW_ORDER_POINT)
    return secret


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) with a nonce of 12 bytes: the ciphertext and its 16-byte tag."""
    return bytes(crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key))


def unseal(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes | None:
    """The plaintext of at least 16 bytes of ciphertext and tag, or None when they are not authentic."""
    try:
        return bytes(crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key))
    except CryptoError:
        return None


def xseal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 with a nonce of 24 random bytes."""
    return bytes(crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key))


def xunseal(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes | None:
    """The plaintext of at least 16 bytes of ciphertext and tag, or None when they are not authentic."""
    try:
        return bytes(crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key))
    except CryptoError:
        return None


def hash256(*parts: bytes) -> bytes:
    """BLAKE2s (RFC 7693) of the parts joined: 32 bytes."""
    return hashlib.blake2s(b"".join(parts)).digest()


def mac(key: bytes, data: Buffer) -> bytes:
    """Keyed BLAKE2s with 16 bytes of output."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_LENGTH).digest()


def kdf(key: bytes, material: bytes, outputs: int) -> list[bytes]:
    """HKDF over HMAC-BLAKE2s with empty info: KDF1, KDF2 or KDF3 of the whitepaper, 32 bytes an output."""
    secret = _hmac(key, material)
    results: list[bytes] = []
    last = b""
    for number in range(1, outputs + 1):
        last = _hmac(secret, last + bytes((number,)))
        results.append(last)
    return results


def _hmac(key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104), 32-byte key. A handshake takes 23 of them, and the library's takes three times as long."""
    block = key + _ZERO_KEY
    inner = hashlib.blake2s(block.translate(_INNER_PAD) + data).digest()
    return hashlib.blake2s(block.translate(_OUTER_PAD) + inner).digest()
