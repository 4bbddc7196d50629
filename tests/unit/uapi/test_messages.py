"""The cross-platform API's messages: the specification's example, every key, and whatever else may come."""

from __future__ import annotations

import errno
import ipaddress
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.uapi.configuration import changed
from sennit.uapi.messages import (
    MAX_LINE,
    Get,
    PeerChange,
    Request,
    RequestReader,
    Set,
    UapiError,
    description,
    status,
)
from sennit.wireguard.events import PeerConfig
from sennit.wireguard.peer import PeerStatus

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
ZERO = bytes(32)

# In the manner of the example in the specification.
EXAMPLE = f"""set=1
private_key={A.hex()}
fwmark=0
listen_port=12912
replace_peers=true
public_key={B.hex()}
replace_allowed_ips=true
preshared_key={C.hex()}
endpoint=[abcd:23::33%eth2]:51820
allowed_ip=192.168.4.4/32
public_key={C.hex().upper()}
endpoint=182.122.22.19:3233
persistent_keepalive_interval=111
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
allowed_ip=192.168.4.10/24
allowed_ip=-fd00::7/64
protocol_version=1
public_key={A.hex()}
remove=true
update_only=true

""".encode()


def read(data: bytes) -> list[Request | UapiError]:
    return list(RequestReader().feed(data))


def error(*lines: str) -> UapiError:
    """What a set of these lines is answered with; the request behind it is read all the same."""
    first, second = read("\n".join(["set=1", *lines, "", "get=1", "", ""]).encode())
    assert isinstance(first, UapiError)
    assert second == Get()
    return first


def test_every_key() -> None:
    (request,) = read(EXAMPLE)
    assert request == Set(
        private_key=A,
        listen_port=12912,
        fwmark=0,
        replace_peers=True,
        peers=[
            PeerChange(
                B,
                replace_allowed_ips=True,
                preshared_key=C,
                endpoint=("abcd:23::33%eth2", 51820),
                allowed_ips=[("192.168.4.4/32", True)],
            ),
            PeerChange(
                C,
                endpoint=("182.122.22.19", 3233),
                persistent_keepalive=111,
                replace_allowed_ips=True,
                allowed_ips=[("192.168.4.6/32", True), ("192.168.4.0/24", True), ("fd00::/64", False)],
            ),
            PeerChange(A, remove=True, update_only=True),
        ],
    )


def test_nothing_is_a_request_too() -> None:
    assert read(b"set=1\n\n") == [Set()]
    assert read(b"get=1\n\nget=1\n\n") == [Get(), Get()]
    assert read(b"") == []
    assert read(b"get=1\n") == []


def test_allowed_ips_from_before_a_replacement_do_not_count() -> None:
    (request,) = read(f"set=1\npublic_key={A.hex()}\nallowed_ip=10.0.0.1/32\nreplace_allowed_ips=true\n\n".encode())
    assert isinstance(request, Set)
    assert request.peers == [PeerChange(A, replace_allowed_ips=True)]


def test_a_mapped_endpoint_is_an_ipv4_one() -> None:
    (request,) = read(f"set=1\npublic_key={A.hex()}\nendpoint=[::ffff:192.0.2.1]:5\n\n".encode())
    assert isinstance(request, Set)
    assert request.peers[0].endpoint == ("192.0.2.1", 5)


DEVICE = [
    "private_key=", "private_key=00", f"private_key={'0' * 63}g", f"private_key={'0' * 63} ", f"private_key={'0' * 65}",
    "listen_port=", "listen_port=65536", "listen_port=-1", "listen_port=+1", "listen_port=1_0", "listen_port= 1",
    "listen_port=1.0", "listen_port=00000000001", "fwmark=4294967296", "fwmark=0x1", "fwmark=\xb2",
    "replace_peers=false", "replace_peers=1", "replace_peers=", "endpoint=192.0.2.1:1", "nonsense=1", "=", "=1",
    "get=1", "set=1", "errno=0", "public_key=", f"public_key={'zz' * 32}",
]  # fmt: skip
PEER = [
    "listen_port=1", f"private_key={ZERO.hex()}", "remove=false", "update_only=no", "preshared_key=1",
    "endpoint=", "endpoint=:1", "endpoint=192.0.2.1", "endpoint=192.0.2.1:", "endpoint=192.0.2.1:65536",
    "endpoint=[192.0.2.1]:1", "endpoint=2001:db8::1:1", "endpoint=[2001:db8::1]", "endpoint=[2001:db8::1:1",
    "endpoint=host.example:1", "endpoint=192.0.2.01:1", "persistent_keepalive_interval=65536",
    "persistent_keepalive_interval=off", "replace_allowed_ips=0", "allowed_ip=", "allowed_ip=10.0.0.1",
    "allowed_ip=10.0.0.1/33", "allowed_ip=10.0.0.1/255.0.0.0", "allowed_ip=10.0.0.1/-1", "allowed_ip=10.0.0.1/ 8",
    "allowed_ip=::/129", "allowed_ip=fe80::1%eth0/64", "allowed_ip=--10.0.0.0/8", "allowed_ip=+10.0.0.0/8",
    "protocol_version=2", "protocol_version=", "rx_bytes=1", "last_handshake_time_sec=1", "nonsense=",
]  # fmt: skip


@pytest.mark.parametrize("line", DEVICE)
def test_what_an_interface_cannot_have(line: str) -> None:
    assert error(line, "fwmark=1").code == errno.EINVAL


@pytest.mark.parametrize("line", PEER)
def test_what_a_peer_cannot_have(line: str) -> None:
    assert error(f"public_key={A.hex()}", line, "allowed_ip=10.0.0.0/8").code == errno.EINVAL


def test_the_first_mistake_is_told() -> None:
    assert "fwmark" in str(error("fwmark=x", "listen_port=x"))


def test_what_is_not_key_and_value() -> None:
    assert error("replace_peers").code == errno.EPROTO
    assert read(b"get=1\nfwmark=1\n\n")[0].code == errno.EINVAL  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data", [b"\n", b"get=2\n", b"GET=1\n\n", b"set=1\r\n\r\n", b"hello\nset=1\n\n", b"\0" * 9 + b"\n"]
)
def test_what_is_no_request_ends_the_conversation(data: bytes) -> None:
    with pytest.raises(UapiError) as raised:
        read(data)
    assert raised.value.code == errno.EPROTO


def test_a_line_without_an_end() -> None:
    reader = RequestReader()
    with pytest.raises(UapiError) as raised:
        for _ in range(MAX_LINE):
            assert list(reader.feed(b"set=1 and so on")) == []
    assert raised.value.code == errno.EMSGSIZE


def test_a_request_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sennit.uapi.messages.MAX_REQUEST_BYTES", 100_000)
    reader = RequestReader()
    with pytest.raises(UapiError) as raised:
        for _ in range(200):
            assert list(reader.feed(b"set=1\n" + b"fwmark=1\n" * 100)) == []
    assert raised.value.code == errno.EMSGSIZE
    # It is a bound of one request, not of a conversation.
    reader = RequestReader()
    assert [list(reader.feed(b"set=1\n" + b"fwmark=1\n" * 1000 + b"\n")) for _ in range(20)] == [[Set(fwmark=1)]] * 20


# --- properties


def feed_all(pieces: Sequence[bytes]) -> tuple[list[Request | str], int | None]:
    """What comes of it, and the code of the error that ends it. Nothing but UapiError may be raised."""
    reader = RequestReader()
    found: list[Request | str] = []
    try:
        for piece in pieces:
            for request in reader.feed(piece):
                found.append(str(request) if isinstance(request, UapiError) else request)
    except UapiError as error:
        return found, error.code
    return found, None


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes(pieces: list[bytes]) -> None:
    feed_all(pieces)


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_request_with_bytes_changed(chance: random.Random, changes: int) -> None:
    data = bytearray(EXAMPLE)
    for _ in range(changes):
        at = chance.randrange(len(data))
        what = chance.randrange(3)
        if what == 0:
            data[at] = chance.randrange(256)
        elif what == 1:
            del data[at : at + chance.randrange(20)]
        else:
            data[at:at] = chance.choice([b"\n", b"=", b"\0", b"set=1\n", b"9" * 30, b"-", b"\xff"])
    found, _code = feed_all([bytes(data)])
    for request in found:
        if isinstance(request, Set):
            changed({}, request, ZERO)


@given(st.lists(st.integers(0, 3 * len(EXAMPLE))))
def test_where_it_is_cut_does_not_matter(cuts: list[int]) -> None:
    data = EXAMPLE + b"set=1\nnonsense=1\nx\n\n" + EXAMPLE
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    assert feed_all(pieces) == feed_all([data])


# --- answers


def test_the_answer_to_get() -> None:
    config = PeerConfig(B, ("10.0.0.0/8", "fd00::/64"), ("192.0.2.1", 1), 25, C)
    live = PeerStatus(("2001:db8::1", 5), 1700000000.25, 12, 34)
    other = PeerStatus(None, None, 0, 0)
    text = description(A, 51820, 7, {B: config, C: PeerConfig(C)}, {B: live, C: other}).decode()
    assert text.splitlines() == [
        f"private_key={A.hex()}", "listen_port=51820", "fwmark=7",
        f"public_key={B.hex()}", f"preshared_key={C.hex()}", "protocol_version=1", "endpoint=[2001:db8::1]:5",
        "last_handshake_time_sec=1700000000", "last_handshake_time_nsec=250000000", "tx_bytes=34", "rx_bytes=12",
        "persistent_keepalive_interval=25", "allowed_ip=10.0.0.0/8", "allowed_ip=fd00::/64",
        f"public_key={C.hex()}", f"preshared_key={ZERO.hex()}", "protocol_version=1", "last_handshake_time_sec=0",
        "last_handshake_time_nsec=0", "tx_bytes=0", "rx_bytes=0", "persistent_keepalive_interval=0",
    ]  # fmt: skip
    assert text.endswith("\n")
    assert description(ZERO, 1, 0, {}, {}) == b"listen_port=1\n"


def test_the_end_of_an_answer() -> None:
    """Negative, which is how wireguard-go tells it and how `wg` shows it."""
    assert status() == b"errno=0\n\n"
    assert status(UapiError(errno.EINVAL, "")) == b"errno=-22\n\n"


KEYS = st.binary(min_size=32, max_size=32)
PREFIXES = st.one_of(
    st.ip_addresses(v=4).map(lambda address: f"{address}/32"),
    st.ip_addresses(v=6).map(lambda address: f"{address}/128"),
)
ENDPOINTS = st.tuples(
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6, network="2001:db8::/32").map(str)),
    st.integers(0, 65535),
)
PEERS = st.builds(
    PeerConfig,
    KEYS,
    st.lists(PREFIXES, unique=True, max_size=3).map(tuple),
    st.none() | ENDPOINTS,
    st.integers(0, 65535),
    KEYS,
)


@given(KEYS, st.integers(0, 65535), st.integers(0, 2**32 - 1), st.lists(PEERS, max_size=5))
def test_what_is_told_can_be_set(private_key: bytes, port: int, fwmark: int, configs: list[PeerConfig]) -> None:
    owned: set[str] = set()
    peers = {}
    for config in configs:
        if config.public_key not in peers and owned.isdisjoint(config.allowed_ips):
            owned.update(config.allowed_ips)
            peers[config.public_key] = config
    live = {key: PeerStatus(config.endpoint, None, 0, 0) for key, config in peers.items()}
    told = description(private_key, port, fwmark, peers, live).decode()
    lines = [line for line in told.splitlines() if not line.startswith(("last_", "tx_", "rx_"))]
    (request,) = read("\n".join(["set=1", *lines, "", ""]).encode())
    assert isinstance(request, Set)

    assert (request.private_key or ZERO, request.listen_port, request.fwmark or 0) == (private_key, port, fwmark)
    _kept, wanted = changed({}, request, ZERO if ZERO not in peers else b"")
    assert wanted == peers


@given(address=st.ip_addresses(), data=st.data())
def test_prefixes_are_in_their_canonical_form(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    """As everybody else has them: a prefix that is said in two ways is one."""
    length = data.draw(st.integers(0, address.max_prefixlen))
    [request] = read(f"set=1\npublic_key={B.hex()}\nallowed_ip={address}/{length}\n\n".encode())
    assert isinstance(request, Set)
    assert request.peers[0].allowed_ips == [(str(ipaddress.ip_network(f"{address}/{length}", strict=False)), True)]
