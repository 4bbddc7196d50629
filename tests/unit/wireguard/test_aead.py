"""The cipher of transport data against published vectors, whichever library does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import CryptoError

from sennit.wireguard import aead
from sennit.wireguard.aead import Aead, NaclAead, OlderAead

LIBRARIES = [
    pytest.param(ChaCha20Poly1305, InvalidTag, id="cryptography"),
    pytest.param(OlderAead, InvalidTag, id="older cryptography"),
    pytest.param(NaclAead, CryptoError, id="nacl"),
]


def vectors() -> Iterator[dict[str, bytes]]:
    """boringssl.txt: one value a line, in hexadecimal or quoted, and a blank line between records."""
    with cryptography_vectors.open_vector_file("ciphers/ChaCha20Poly1305/boringssl.txt", "r") as lines:
        record: dict[str, bytes] = {}
        for line in [*lines, ""]:
            name, separator, value = line.strip().partition("= ")
            if separator and "=" not in name and " " not in name:
                record[name] = value[1:-1].encode() if value.startswith('"') else bytes.fromhex(value)
            elif not line.strip() and record:
                yield record
                record = {}


@pytest.mark.parametrize(("library", "error"), LIBRARIES)
def test_published_vectors(library: Callable[[bytes], Aead], error: type[Exception]) -> None:
    checked = 0
    for vector in vectors():
        cipher = library(vector["KEY"])
        sealed = vector["CT"] + vector["TAG"]
        assert cipher.encrypt(vector["NONCE"], vector["IN"], vector["AD"]) == sealed
        buffer = bytearray(b"x" * (len(sealed) + 2))
        cipher.encrypt_into(vector["NONCE"], vector["IN"], vector["AD"], memoryview(buffer)[1:-1])
        assert buffer == b"x" + sealed + b"x"
        assert cipher.decrypt(vector["NONCE"], sealed, vector["AD"]) == vector["IN"]
        checked += 1
    assert checked > 10


@pytest.mark.parametrize(("library", "error"), LIBRARIES)
@given(data=st.binary(max_size=100), position=st.integers(0), flip=st.integers(1, 255))
def test_any_change_is_noticed(
    library: Callable[[bytes], Aead], error: type[Exception], data: bytes, position: int, flip: int
) -> None:
    cipher, nonce = library(bytes(32)), bytes(12)
    changed = bytearray(cipher.encrypt(nonce, data, None))
    changed[position % len(changed)] ^= flip
    with pytest.raises(error):
        cipher.decrypt(nonce, bytes(changed), None)


@pytest.mark.parametrize(("library", "error"), LIBRARIES)
@pytest.mark.parametrize("length", range(16))
def test_no_room_for_a_tag(library: Callable[[bytes], Aead], error: type[Exception], length: int) -> None:
    with pytest.raises(error):
        library(bytes(32)).decrypt(bytes(12), bytes(length), None)


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=12, max_size=12), data=st.binary())
def test_the_libraries_agree(key: bytes, nonce: bytes, data: bytes) -> None:
    sealed = ChaCha20Poly1305(key).encrypt(nonce, data, None)
    assert NaclAead(key).encrypt(nonce, memoryview(data), None) == sealed
    assert NaclAead(key).decrypt(nonce, memoryview(sealed), None) == data


def test_the_chosen_one_takes_views() -> None:
    cipher = aead.new_aead(bytes(32))
    sealed = cipher.encrypt(bytes(12), memoryview(b"view"), None)
    assert cipher.decrypt(bytes(12), memoryview(bytearray(sealed)), None) == b"view"
    with pytest.raises(aead.AuthenticationError):
        cipher.decrypt(bytes(12), memoryview(sealed)[1:], None)
