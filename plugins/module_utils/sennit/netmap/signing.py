# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signature around a netmap: Ed25519 (RFC 8032) through PyNaCl.

A signed map is one line, then the exact bytes that were signed::

    sennit-netmap-v1 <base64 of the 64 byte signature>\\n
    <payload>

The signature covers ``sennit-netmap-v1\\n`` and the payload, so that it cannot stand for anything else signed with the
same key. Nothing is parsed, let alone written again, before the signature is verified.
"""

from __future__ import annotations

import base64
import binascii

from .model import BAD_SIGNATURE, MALFORMED, MAX_NETMAP_BYTES, TOO_LARGE, NetmapError, decode_key, encode_key

try:
    from nacl.exceptions import BadSignatureError
    from nacl.signing import SigningKey, VerifyKey

    HAS_NACL = True
except ImportError:
    HAS_NACL = False

_TAG = b"sennit-netmap-v1"
_SIGNATURE_BYTES = 64
_HEADER_BYTES = len(_TAG) + 1 + 4 * ((_SIGNATURE_BYTES + 2) // 3) + 1

# The longest signed map: what a reader may have to hold before it can tell good from bad.
MAX_SIGNED_BYTES = _HEADER_BYTES + MAX_NETMAP_BYTES


def generate_signing_key() -> str:
    """A new signing key: the base64 of its 32 byte seed. A secret."""
    return encode_key(bytes(SigningKey.generate()))


def verify_key_of(seed: str) -> str:
    """The public half of a signing key, in base64: what nodes pin. Raises ValueError when `seed` is no key."""
    return encode_key(bytes(SigningKey(decode_key(seed)).verify_key))


def sign(payload: bytes, seed: str) -> bytes:
    """The signed map. Raises ValueError when `seed` is no key."""
    signature = SigningKey(decode_key(seed)).sign(_TAG + b"\n" + payload).signature
    return _TAG + b" " + base64.b64encode(signature) + b"\n" + payload


def verify(signed: bytes, verify_key: str) -> bytes:
    """The payload, if the signature is this key's. Raises NetmapError: too-large, malformed or bad-signature."""
    if len(signed) > MAX_SIGNED_BYTES:
        raise NetmapError(TOO_LARGE, f"{len(signed)} bytes; the limit is {MAX_SIGNED_BYTES}")
    header, payload = signed[:_HEADER_BYTES], signed[_HEADER_BYTES:]
    if not header.startswith(_TAG + b" ") or not header.endswith(b"\n"):
        raise NetmapError(MALFORMED, "not a signed netmap, or one cut short")
    try:
        signature = base64.b64decode(header[len(_TAG) + 1 : -1], validate=True)
        key = VerifyKey(decode_key(verify_key))
    except (binascii.Error, ValueError) as error:
        raise NetmapError(MALFORMED, f"the signature or the key to verify it {error}") from None
    if len(signature) != _SIGNATURE_BYTES:
        raise NetmapError(MALFORMED, f"the signature is {len(signature)} bytes long, not {_SIGNATURE_BYTES}")
    try:
        key.verify(_TAG + b"\n" + payload, signature)
    except BadSignatureError:
        raise NetmapError(BAD_SIGNATURE, "not signed by the key that is pinned here, or changed since") from None
    return payload
