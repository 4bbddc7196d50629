"""The primitives against vectors that others published."""

from __future__ import annotations

import hashlib
import re

import pytest
from cryptography.hazmat.primitives.hashes import BLAKE2s
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography_vectors import open_vector_file
from hypothesis import given
from hypothesis import strategies as st

from sennit.wireguard import crypto
from sennit.wireguard.errors import DropReason, PacketError


def unhex(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", text))


def records(filename: str) -> list[dict[str, str]]:
    """The records of a vector file: `NAME = value` lines; a name that comes again begins the next record."""
    result: list[dict[str, str]] = [{}]
    with open_vector_file(filename, "r") as file:
        for line in file:
            name, equals, value = line.partition("=")
            if not equals or line.startswith("#"):
                continue
            if name.strip().lower() in result[-1]:
                result.append({})
            result[-1][name.strip().lower()] = value.strip()
    return result


# --- X25519


@pytest.mark.parametrize(
    ("scalar", "u", "result"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_rfc7748_section_5_2(scalar: str, u: str, result: str) -> None:
    assert crypto.dh(unhex(scalar), unhex(u)) == unhex(result)


def test_x25519_rfc7748_section_5_2_iterated() -> None:
    k = u = unhex("09" + "00" * 31)
    for round_number in range(1, 1001):
        k, u = crypto.dh(k, u), k
        if round_number == 1:
            assert k == unhex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    assert k == unhex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")


def test_x25519_rfc7748_section_6_1() -> None:
    alice = unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice_public, bob_public = crypto.public_key_of(alice), crypto.public_key_of(bob)
    assert alice_public == unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob_public == unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert crypto.dh(alice, bob_public) == crypto.dh(bob, alice_public) == shared


def test_x25519_cryptography_vectors() -> None:
    vectors = records("asymmetric/X25519/rfc7748.txt")
    assert vectors
    for vector in vectors:
        assert crypto.dh(unhex(vector["input_scalar"]), unhex(vector["input_u"])) == unhex(vector["output_u"])


# RFC 7748 section 6.1 asks to refuse an all-zero result; these are the points of small order and their twins beyond
# 2^255 - 19, which decode to the same points.
LOW_ORDER_POINTS = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("point", LOW_ORDER_POINTS)
def test_points_of_low_order_are_refused(point: str) -> None:
    with pytest.raises(PacketError) as caught:
        crypto.dh(bytes(range(32)), unhex(point))
    assert caught.value.reason is DropReason.LOW_ORDER_POINT


# --- ChaCha20-Poly1305

SUNSCREEN = b"Ladies and Gentlemen of the class of '99: "
SUNSCREEN += b"If I could offer you only one tip for the future, sunscreen would be it."


def test_chacha20_poly1305_rfc8439_section_2_8_2() -> None:
    key, nonce = bytes(range(0x80, 0xA0)), unhex("070000004041424344454647")
    associated = unhex("50515253c0c1c2c3c4c5c6c7")
    sealed = unhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
        "1ae10b594f09e26a7e902ecbd0600691"
    )
    assert crypto.seal(key, nonce, SUNSCREEN, associated) == sealed
    assert crypto.unseal(key, nonce, sealed, associated) == SUNSCREEN
    for position in range(len(sealed)):
        forged = bytearray(sealed)
        forged[position] ^= 1
        assert crypto.unseal(key, nonce, bytes(forged), associated) is None


def test_chacha20_poly1305_cryptography_vectors() -> None:
    """Those of OpenSSL include RFC 8439 appendix A.5, and forgeries of it."""
    vectors = records("ciphers/ChaCha20Poly1305/openssl.txt")
    assert len(vectors) == 5
    for vector in vectors:
        key, nonce, associated = unhex(vector["key"]), unhex(vector["iv"]), unhex(vector["aad"])
        plaintext, sealed = unhex(vector["plaintext"]), unhex(vector["ciphertext"] + vector["tag"])
        if "result" in vector:
            assert crypto.unseal(key, nonce, sealed, associated) is None
        else:
            assert crypto.seal(key, nonce, plaintext, associated) == sealed
            assert crypto.unseal(key, nonce, sealed, associated) == plaintext


def test_chacha20_poly1305_boringssl_vectors() -> None:
    vectors = records("ciphers/ChaCha20Poly1305/boringssl.txt")
    assert len(vectors) > 60
    for vector in vectors:
        plaintext, associated = (
            vector[name].strip('"').encode() if vector[name].startswith('"') else unhex(vector[name])
            for name in ("in", "ad")
        )
        key, nonce, sealed = unhex(vector["key"]), unhex(vector["nonce"]), unhex(vector["ct"] + vector["tag"])
        assert crypto.seal(key, nonce, plaintext, associated) == sealed
        assert crypto.unseal(key, nonce, sealed, associated) == plaintext


def test_xchacha20_poly1305_draft_irtf_cfrg_xchacha_03_appendix_a_3_1() -> None:
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    associated = unhex("50515253c0c1c2c3c4c5c6c7")
    sealed = unhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )
    assert crypto.xseal(key, nonce, SUNSCREEN, associated) == sealed
    assert crypto.xunseal(key, nonce, sealed, associated) == SUNSCREEN
    assert crypto.xunseal(key, nonce, sealed[:-1] + b"\0", associated) is None


# --- BLAKE2s


def test_blake2s_rfc7693_appendix_b() -> None:
    expected = unhex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
    assert crypto.hash256(b"abc") == crypto.hash256(b"a", b"", b"bc") == expected


def test_blake2s_rfc7693_appendix_e() -> None:
    """The self-test over many lengths of output and input, with and without key; ours where it offers that length."""

    def sequence(length: int, seed: int) -> bytes:
        a, b, out = 0xDEAD4BAD * seed & 0xFFFFFFFF, 1, bytearray()
        for _ in range(length):
            a, b = b, (a + b) & 0xFFFFFFFF
            out.append(b >> 24)
        return bytes(out)

    grand = hashlib.blake2s()
    for size in (16, 20, 28, 32):
        for length in (0, 3, 64, 65, 255, 1024):
            data, key = sequence(length, length), sequence(size, size)
            grand.update(crypto.hash256(data) if size == 32 else hashlib.blake2s(data, digest_size=size).digest())
            keyed = hashlib.blake2s(data, key=key, digest_size=size).digest()
            grand.update(crypto.mac(key, data) if size == 16 else keyed)
    assert grand.digest() == unhex("6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe")


def test_blake2s_cryptography_vectors() -> None:
    vectors = records("hashes/blake2/blake2s.txt")
    assert vectors
    for vector in vectors:
        message = unhex(vector["msg"])[: int(vector["len"]) // 8]
        assert crypto.hash256(message) == unhex(vector["md"])


# --- HKDF


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(1, 3))
def test_hkdf_like_the_libraries(key: bytes, material: bytes, outputs: int) -> None:
    """RFC 5869 with empty info, by `cryptography`'s HMAC."""

    def keyed(with_key: bytes, data: bytes) -> bytes:
        library = HMAC(with_key, BLAKE2s(32))
        library.update(data)
        return library.finalize()

    secret, expected = keyed(key, material), [b""]
    for number in range(1, outputs + 1):
        expected.append(keyed(secret, expected[-1] + bytes([number])))
    assert crypto.kdf(key, material, outputs) == expected[1:]
