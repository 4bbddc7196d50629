# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one parser of maps, the signature and the gate: whatever comes in, a typed value or a NetmapError."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.netmap.inventories import SEED, VERIFY_KEY, key, raw_key

from sennit.netmap import model
from sennit.netmap.admit import admit
from sennit.netmap.model import Netmap, NetmapError, Network, Node
from sennit.netmap.signing import MAX_SIGNED_BYTES, generate_signing_key, sign, verify, verify_key_of

NETMAP = Netmap(
    network=Network("demo", "demo.internal", ("100.64.0.0/10", "fd12:3456:789a::/48")),
    version=7,
    nodes=(
        Node(
            name="alpha",
            kind="node",
            public_key=raw_key("alpha"),
            addresses=("100.64.0.1", "fd12:3456:789a::1"),
            endpoint="192.0.2.1:51820",
            routes=("192.168.10.0/24",),
            persistent_keepalive=25,
            unapproved_routes=("10.0.0.0/8",),
            exit_node="offered",
            beacon=21472,
        ),
        Node("phone", "static", raw_key("phone"), ("100.64.0.2", "fd12:3456:789a::2"), "[2001:db8::1]:1"),
    ),
    allocations={"alpha": ("100.64.0.1", "fd12:3456:789a::1"), "gone": ("100.64.0.9",)},
)
PAYLOAD = NETMAP.to_bytes()
SIGNED = sign(PAYLOAD, SEED)


def reason_of(function, *arguments) -> str:
    with pytest.raises(NetmapError) as caught:
        function(*arguments)
    assert str(caught.value)
    return caught.value.reason


def changed(path: tuple, value) -> bytes:
    """The payload with the value at this path of keys replaced; of a value DELETED, taken out."""
    document = json.loads(PAYLOAD)
    target = document
    for step in path[:-1]:
        target = target[step]
    if value is DELETED:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return json.dumps(document).encode()


DELETED = object()

# --- the parser


def test_a_map_survives_the_way_there_and_back():
    assert Netmap.parse(PAYLOAD) == NETMAP
    assert Netmap.parse(PAYLOAD).to_bytes() == PAYLOAD


def test_what_a_newer_control_node_adds_is_ignored():
    document = json.loads(PAYLOAD)
    document["later"] = document["nodes"][0]["later"] = {"anything": [1.5]} and [1]
    assert Netmap.parse(json.dumps(document).encode()) == NETMAP


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "1"),
        (("format",), True),
        (("version",), 0),
        (("version",), 2**53),
        (("version",), DELETED),
        (("network",), []),
        (("network", "name"), "De mo"),
        (("network", "domain"), "UPPER.internal"),
        (("network", "domain"), "x" * 300),
        (("network", "pools", 0), "100.64.0.1/10"),
        (("network", "pools", 0), "100.65.0.0/16"),
        (("nodes",), {}),
        (("nodes", 0), 3),
        (("nodes", 0, "name"), "-alpha"),
        (("nodes", 0, "name"), "al\npha"),
        (("nodes", 0, "name"), "a..b"),
        (("nodes", 0, "name"), "192.0.2.1"),
        (("nodes", 0, "name"), "PHONE"),
        (("nodes", 0, "name"), "x" * 64),
        (("nodes", 0, "kind"), "router"),
        (("nodes", 0, "public_key"), key("phone")),
        (("nodes", 0, "public_key"), base64.b64encode(bytes(32)).decode()),
        (("nodes", 0, "public_key"), base64.b64encode(bytes(range(31))).decode()),
        (("nodes", 0, "public_key"), key("alpha")[:-2] + "B="),
        (("nodes", 0, "public_key"), "\u00e4"),
        (("nodes", 0, "addresses"), None),
        (("nodes", 0, "addresses", 0), "100.64.0.2"),
        (("nodes", 0, "addresses", 0), "10.0.0.1"),
        (("nodes", 0, "addresses", 0), ""),
        (("nodes", 0, "addresses", 0), "100.64.0.01"),
        (("nodes", 0, "addresses", 1), "FD12:3456:789A::1"),
        (("nodes", 0, "addresses", 1), "fd12:3456:789a::1%eth0"),
        (("nodes", 0, "endpoint"), "192.0.2.1"),
        (("nodes", 0, "endpoint"), "192.0.2.1:0"),
        (("nodes", 0, "endpoint"), 7),
        (("nodes", 0, "routes", 0), "192.168.10.1/24"),
        (("nodes", 0, "routes", 0), 7),
        (("nodes", 0, "routes", 0), ""),
        (("network", "pools", 0), ""),
        (("nodes", 0, "persistent_keepalive"), 65536),
        (("nodes", 0, "persistent_keepalive"), -1),
        (("nodes", 0, "unapproved_routes"), None),
        (("nodes", 0, "unapproved_routes", 0), "10.0.0.1/8"),
        (("nodes", 0, "unapproved_routes", 0), "192.168.10.0/24"),
        (("nodes", 0, "exit_node"), "yes"),
        (("nodes", 0, "exit_node"), ["approved"]),
        (("nodes", 1, "exit_node"), "approved"),
        (("nodes", 0, "beacon"), True),
        (("nodes", 0, "beacon"), 0),
        (("nodes", 0, "beacon"), "21472"),
        (("nodes", 0, "endpoint"), None),
        (("nodes", 1, "beacon"), 21472),
        (("allocations",), []),
        (("allocations", "gone"), "100.64.0.9"),
        (("allocations", "gone"), ["nowhere"]),
        (("allocations", "gone"), [""]),
        (("allocations", "-"), []),
    ],
)
def test_each_field_is_checked(path, value):
    assert reason_of(Netmap.parse, changed(path, value)) == model.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b'{"format":1e400}',
        b'{"format":' + b"9" * 5000 + b"}",
        b'{"format":1,"format":1}',
        PAYLOAD + b"{}",
    ],
)
def test_what_is_not_such_json_is_malformed(payload):
    assert reason_of(Netmap.parse, payload) == model.MALFORMED


def test_a_newer_format_is_not_guessed_at():
    assert reason_of(Netmap.parse, changed(("format",), 2)) == model.UNKNOWN_FORMAT


def test_a_map_of_a_hundred_megabytes_is_not_even_looked_at():
    huge = bytes(100 * 1024 * 1024)
    assert reason_of(Netmap.parse, huge) == model.TOO_LARGE
    assert reason_of(verify, huge, VERIFY_KEY) == model.TOO_LARGE
    assert reason_of(verify, bytes(MAX_SIGNED_BYTES + 1), VERIFY_KEY) == model.TOO_LARGE


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(PAYLOAD.decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=300) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=500)
def test_any_bytes_parse_or_raise_a_netmap_error(payload):
    try:
        Netmap.parse(payload)
    except NetmapError as error:
        assert error.reason in (model.MALFORMED, model.UNKNOWN_FORMAT)


@given(st.data())
@settings(max_examples=500)
def test_any_value_in_any_field_parses_or_raises_a_netmap_error(data):
    document = json.loads(PAYLOAD)
    target = document
    while True:
        step = data.draw(st.sampled_from(list(target) if isinstance(target, dict) else list(range(len(target)))))
        inner = target[step]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            target[step] = data.draw(JSON_VALUES)
            break
        target = inner
    try:
        netmap = Netmap.parse(json.dumps(document).encode())
    except NetmapError as error:
        assert error.reason in (model.MALFORMED, model.UNKNOWN_FORMAT)
    else:
        assert Netmap.parse(netmap.to_bytes()) == netmap


# --- the signature


def test_what_is_signed_verifies_to_the_same_bytes():
    assert verify(SIGNED, VERIFY_KEY) == PAYLOAD


def test_keys_made_are_new_each_time_and_keys_of_the_right_form():
    one, other = generate_signing_key(), generate_signing_key()
    assert one != other
    assert len(base64.b64decode(one)) == 32 and len(base64.b64decode(verify_key_of(one))) == 32


def test_the_signature_is_ed25519_by_another_implementation():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    header, _newline, payload = SIGNED.partition(b"\n")
    signature = base64.b64decode(header.split(b" ")[1])
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(VERIFY_KEY))
    public.verify(signature, b"sennit-netmap-v1\n" + payload)


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_changed_byte_anywhere_is_refused(position, difference):
    tampered = bytearray(SIGNED)
    tampered[position] ^= difference
    assert reason_of(verify, bytes(tampered), VERIFY_KEY) in (model.BAD_SIGNATURE, model.MALFORMED)


def test_a_map_cut_short_at_any_length_is_refused():
    for length in range(len(SIGNED)):
        assert reason_of(verify, SIGNED[:length], VERIFY_KEY) in (model.BAD_SIGNATURE, model.MALFORMED)


@given(st.binary(max_size=300))
def test_any_bytes_at_all_raise_a_netmap_error(signed):
    assert reason_of(verify, signed, VERIFY_KEY) in (model.BAD_SIGNATURE, model.MALFORMED)


def test_another_key_is_refused():
    assert reason_of(verify, sign(PAYLOAD, generate_signing_key()), VERIFY_KEY) == model.BAD_SIGNATURE


def test_a_signature_of_the_payload_alone_is_none_of_ours():
    from nacl.signing import SigningKey

    bare = SigningKey(base64.b64decode(SEED)).sign(PAYLOAD).signature
    signed = b"sennit-netmap-v1 " + base64.b64encode(bare) + b"\n" + PAYLOAD
    assert reason_of(verify, signed, VERIFY_KEY) == model.BAD_SIGNATURE


@pytest.mark.parametrize("seed", ["", "no key", base64.b64encode(bytes(32)).decode(), base64.b64encode(b"x").decode()])
def test_what_is_no_signing_key_is_a_value_error(seed):
    with pytest.raises(ValueError, match="is "):
        sign(PAYLOAD, seed)


# --- the gate


def signed_version(version: int, **differences) -> bytes:
    return sign(dataclasses.replace(NETMAP, version=version, **differences).to_bytes(), SEED)


def test_a_newer_map_and_the_current_one_again_are_admitted():
    assert admit(SIGNED, VERIFY_KEY, "demo") == NETMAP
    assert admit(SIGNED, VERIFY_KEY, "demo", NETMAP) == NETMAP
    assert admit(signed_version(8), VERIFY_KEY, "demo", NETMAP).version == 8


def test_an_older_map_is_refused():
    assert reason_of(admit, signed_version(6), VERIFY_KEY, "demo", NETMAP) == model.OLDER


def test_another_map_of_the_same_version_is_refused():
    other = signed_version(7, allocations={})
    assert reason_of(admit, other, VERIFY_KEY, "demo", NETMAP) == model.OLDER


def test_a_map_of_another_network_is_refused():
    assert reason_of(admit, SIGNED, VERIFY_KEY, "prod") == model.OTHER_NETWORK


def test_a_map_of_another_key_is_refused_before_it_is_parsed():
    assert reason_of(admit, sign(b"not even JSON", generate_signing_key()), VERIFY_KEY, "demo") == model.BAD_SIGNATURE
    assert reason_of(admit, sign(b"not even JSON", SEED), VERIFY_KEY, "demo") == model.MALFORMED
