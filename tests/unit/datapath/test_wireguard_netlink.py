"""What the kernel's WireGuard is told and tells; pyroute2 reads what we write, and writes what we read."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg

from sennit.datapath.wireguard_netlink import (
    LivePeer,
    PeerChange,
    changes,
    parse_device,
    parse_family,
    prefixes,
    set_device,
    set_peers,
)
from sennit.netlink import NetlinkError, attribute, nested
from sennit.wireguard.events import PeerConfig

HEADER = bytes(16)  # of a netlink message
SPARE = b"\xff" * 32
KEYS = [bytes([number]) * 32 for number in range(1, 6)]
ONE, TWO, THREE = KEYS[:3]
PSK = b"\x77" * 32

# --- what the kernel does with a request, and how it answers


def read(request: bytes) -> wgmsg:
    message = wgmsg(struct.pack("=I", len(request) + 16) + HEADER[4:] + request)
    message.decode()
    return message


def obey(live: dict[bytes, LivePeer], requests: Iterable[bytes]) -> None:
    """What set_peer() of the kernel does, as far as it concerns us."""
    for request in requests:
        for peer in read(request).get_attr("WGDEVICE_A_PEERS"):
            key = b64decode(peer.get_attr("WGPEER_A_PUBLIC_KEY"))
            if peer.get_attr("WGPEER_A_FLAGS") == 1:
                live.pop(key, None)
                continue
            known = live.setdefault(key, LivePeer(key))
            preshared = peer.get_attr("WGPEER_A_PRESHARED_KEY")
            endpoint = peer.get_attr("WGPEER_A_ENDPOINT")
            keepalive = peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL")
            known.preshared_key = b64decode(preshared) if preshared else known.preshared_key
            known.endpoint = (endpoint["addr"], endpoint["port"]) if endpoint else known.endpoint
            known.persistent_keepalive = known.persistent_keepalive if keepalive is None else keepalive
            for allowed_ip in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ():
                network = ipaddress.ip_network(allowed_ip["addr"])
                prefix = (network.network_address.packed, network.prefixlen)
                for other in live.values():
                    other.allowed_ips.discard(prefix)
                known.allowed_ips.add(prefix)


def answer(live: Mapping[bytes, LivePeer], **device: object) -> memoryview:
    """What the kernel's dump has for these peers."""
    message = wgmsg()
    message["attrs"] = [(f"WGDEVICE_A_{name.upper()}", value) for name, value in device.items()]
    message["attrs"].append(("WGDEVICE_A_PEERS", [_peer(peer) for peer in live.values()]))
    message.encode()
    return memoryview(bytes(message.data[16:]))


def _peer(peer: LivePeer) -> dict[str, object]:
    seconds, fraction = divmod(peer.latest_handshake or 0, 1)
    attributes: list[tuple[str, object]] = [
        ("WGPEER_A_PUBLIC_KEY", b64encode(peer.public_key)),
        ("WGPEER_A_PRESHARED_KEY", b64encode(peer.preshared_key)),
        ("WGPEER_A_LAST_HANDSHAKE_TIME", {"tv_sec": int(seconds), "tv_nsec": int(fraction * 1e9)}),
        ("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", peer.persistent_keepalive),
        ("WGPEER_A_TX_BYTES", peer.tx_bytes),
        ("WGPEER_A_RX_BYTES", peer.rx_bytes),
    ]
    if peer.endpoint:
        attributes.append(("WGPEER_A_ENDPOINT", {"addr": peer.endpoint[0], "port": peer.endpoint[1]}))
    allowed_ips = [
        {
            "attrs": [
                ("WGALLOWEDIP_A_CIDR_MASK", length),
                ("WGALLOWEDIP_A_FAMILY", socket.AF_INET if len(address) == 4 else socket.AF_INET6),
                ("WGALLOWEDIP_A_IPADDR", address),
            ]
        }
        for address, length in sorted(peer.allowed_ips)
    ]
    attributes.append(("WGPEER_A_ALLOWEDIPS", allowed_ips))
    return {"attrs": attributes}


# --- strategies: few values, so that peers meet

ENDPOINTS = st.sampled_from([None, ("192.0.2.1", 51820), ("192.0.2.2", 1), ("2001:db8::1", 65535)])
PREFIXES = ["100.64.0.1/32", "100.64.0.2/32", "10.0.0.0/8", "0.0.0.0/0", "fd5e::1/128", "fd5e::/48", "::/0"]
KEEPALIVES = st.sampled_from([0, 25, 65535])
PRESHARED = st.sampled_from([bytes(32), PSK])


@st.composite
def configurations(draw: st.DrawFn) -> dict[bytes, PeerConfig]:
    owners = draw(st.lists(st.sampled_from([None, *KEYS]), min_size=len(PREFIXES), max_size=len(PREFIXES)))
    return {
        key: PeerConfig(
            key,
            tuple(prefix for prefix, owner in zip(PREFIXES, owners, strict=True) if owner == key),
            draw(ENDPOINTS),
            draw(KEEPALIVES),
            draw(PRESHARED),
        )
        for key in draw(st.sets(st.sampled_from(KEYS)))
    }


def configure(
    live: dict[bytes, LivePeer], wanted: dict[bytes, PeerConfig], before: Mapping[bytes, PeerConfig]
) -> list[PeerChange]:
    todo = changes(wanted, live, before, SPARE)
    obey(live, set_peers(7, todo))
    return todo


def as_wanted(live: Mapping[bytes, LivePeer], wanted: Mapping[bytes, PeerConfig]) -> None:
    assert live.keys() == wanted.keys()
    for key, config in wanted.items():
        assert live[key].preshared_key == config.preshared_key
        assert live[key].persistent_keepalive == config.persistent_keepalive
        assert live[key].allowed_ips == set(prefixes(config.allowed_ips))


@given(configurations(), configurations(), configurations())
def test_from_any_state_to_any_other(
    first: dict[bytes, PeerConfig], second: dict[bytes, PeerConfig], third: dict[bytes, PeerConfig]
) -> None:
    live: dict[bytes, LivePeer] = {}
    before: dict[bytes, PeerConfig] = {}
    for wanted in (first, second, third):
        configure(live, wanted, before)
        as_wanted(live, wanted)
        assert configure(live, wanted, wanted) == []
        before = wanted


@given(configurations())
def test_an_interface_that_an_agent_left_is_brought_to_what_is_wanted(wanted: dict[bytes, PeerConfig]) -> None:
    live = {ONE: LivePeer(ONE, PSK, ("203.0.113.9", 9), 10, allowed_ips=set(prefixes(PREFIXES[:3])))}
    configure(live, wanted, {})
    as_wanted(live, wanted)
    for key, config in wanted.items():
        if config.endpoint:
            assert live[key].endpoint == config.endpoint


def test_an_endpoint_that_the_kernel_learned_stays_until_another_is_configured() -> None:
    wanted = {ONE: PeerConfig(ONE, ("10.0.0.1/32",), ("192.0.2.1", 51820))}
    live: dict[bytes, LivePeer] = {}
    configure(live, wanted, {})
    live[ONE].endpoint = ("198.51.100.7", 4711)
    more = {ONE: dataclasses.replace(wanted[ONE], persistent_keepalive=25, allowed_ips=("10.0.0.2/32",))}
    configure(live, more, wanted)
    assert live[ONE].endpoint == ("198.51.100.7", 4711)
    unknown = {ONE: dataclasses.replace(more[ONE], endpoint=None)}
    configure(live, unknown, more)
    assert live[ONE].endpoint == ("198.51.100.7", 4711)
    moved = {ONE: dataclasses.replace(more[ONE], endpoint=("192.0.2.9", 51820))}
    configure(live, moved, unknown)
    assert live[ONE].endpoint == ("192.0.2.9", 51820)


def test_what_does_not_change_is_not_touched() -> None:
    wanted = {key: PeerConfig(key, (f"10.0.0.{key[0]}/32",), ("192.0.2.1", key[0])) for key in (ONE, TWO)}
    live: dict[bytes, LivePeer] = {}
    configure(live, wanted, {})
    assert configure(live, {ONE: wanted[ONE]}, wanted) == [PeerChange(TWO, remove=True)]
    added = {ONE: wanted[ONE], THREE: PeerConfig(THREE, ("10.0.0.9/32",))}
    assert [change.public_key for change in configure(live, added, wanted)] == [THREE]


def test_no_peer_is_ever_without_a_prefix_that_it_keeps() -> None:
    """A prefix that goes to another peer, and one that goes to none, while others stay."""
    first = {ONE: PeerConfig(ONE, ("10.0.0.1/32", "10.1.0.0/16", "10.2.0.0/16")), TWO: PeerConfig(TWO)}
    second = {ONE: PeerConfig(ONE, ("10.0.0.1/32",)), TWO: PeerConfig(TWO, ("10.1.0.0/16",))}
    live: dict[bytes, LivePeer] = {}
    configure(live, first, {})
    kept = set(prefixes(("10.0.0.1/32",)))
    for change in changes(second, live, first, SPARE):
        obey(live, set_peers(7, [change]))
        assert kept <= live[ONE].allowed_ips
    as_wanted(live, second)


def test_many_peers_and_many_allowed_ips_take_many_requests() -> None:
    wanted = {
        number.to_bytes(32, "big"): PeerConfig(
            number.to_bytes(32, "big"),
            tuple(f"10.{number}.{third}.{fourth}/32" for third in range(8) for fourth in range(200 if number else 1)),
            ("2001:db8::1", 1),
        )
        for number in range(1, 40)
    }
    live: dict[bytes, LivePeer] = {}
    requests = list(set_peers(7, changes(wanted, live, {}, SPARE)))
    assert all(len(request) < 65536 for request in requests)
    obey(live, requests)
    as_wanted(live, wanted)


def test_device_as_pyroute2_reads_it() -> None:
    message = read(set_device(7, ONE, 51820, 21472))
    assert message.get_attr("WGDEVICE_A_IFINDEX") == 7
    assert b64decode(message.get_attr("WGDEVICE_A_PRIVATE_KEY")) == ONE
    assert message.get_attr("WGDEVICE_A_LISTEN_PORT") == 51820
    assert message.get_attr("WGDEVICE_A_FWMARK") == 21472
    assert message["cmd"] == 1


def test_keys_are_not_shown() -> None:
    assert "w" * 8 not in repr(PeerChange(ONE, PSK)) + repr(LivePeer(ONE, PSK))


# --- answers

LIVE = st.builds(
    LivePeer,
    st.sampled_from(KEYS),
    PRESHARED,
    ENDPOINTS,
    KEEPALIVES,
    st.sampled_from([None, 1.0, 1770000000.25]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.sets(st.sampled_from(list(prefixes(PREFIXES)))),
)


@given(st.lists(LIVE, unique_by=lambda peer: peer.public_key), st.integers(0, 65535))
def test_answers_as_pyroute2_writes_them(peers: list[LivePeer], port: int) -> None:
    live = {peer.public_key: peer for peer in peers}
    device = parse_device([answer(live, public_key=b64encode(TWO), listen_port=port, fwmark=5)])
    assert device.peers == live
    assert (device.public_key, device.listen_port) == (TWO, port)


@given(LIVE, st.data())
def test_a_peer_may_go_on_in_the_next_message(peer: LivePeer, data: st.DataObject) -> None:
    first = data.draw(st.sets(st.sampled_from(sorted(peer.allowed_ips)))) if peer.allowed_ips else set()
    rest = [
        nested(0, attribute(2, address), attribute(3, bytes([length])))
        for address, length in sorted(peer.allowed_ips - first)
    ]
    more = nested(8, nested(0, attribute(1, peer.public_key), nested(9, *rest)))
    begun = answer({peer.public_key: dataclasses.replace(peer, allowed_ips=first)})
    assert parse_device([begun, memoryview(bytes(4) + more)]).peers == {peer.public_key: peer}


def test_an_endpoint_on_a_link_names_the_link() -> None:
    address = struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(9), 0, socket.inet_pton(socket.AF_INET6, "fe80::1"),
                          socket.if_nametoindex("lo"))  # fmt: skip
    peer = nested(8, nested(0, attribute(1, ONE), attribute(4, address)))
    assert parse_device([memoryview(bytes(4) + peer)]).peers[ONE].endpoint == ("fe80::1%lo", 9)
    live: dict[bytes, LivePeer] = {}
    (request,) = set_peers(7, [PeerChange(ONE, endpoint=("fe80::1%lo", 9))])
    assert address in request
    (request,) = set_peers(7, [PeerChange(ONE, endpoint=("fe80::1%nosuchlink", 9))])
    obey(live, [request])
    assert live[ONE].endpoint is None


def full_answer() -> bytes:
    peers = {
        key: LivePeer(key, PSK, endpoint, 25, 1770000000.5, 10, 20, set(prefixes(PREFIXES)))
        for key, endpoint in ((ONE, ("192.0.2.1", 1)), (TWO, ("2001:db8::1", 2)))
    }
    return bytes(answer(peers, public_key=b64encode(THREE), listen_port=1))


def test_truncation_at_every_length() -> None:
    whole = full_answer()
    for length in range(len(whole)):
        try:
            device = parse_device([memoryview(whole[:length])])
        except NetlinkError:
            continue
        assert len(device.peers) < 2  # cut between two attributes


@given(st.data())
def test_any_byte_may_be_wrong(data: st.DataObject) -> None:
    mutated = bytearray(full_answer())
    for _change in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        device = parse_device([memoryview(mutated)])
    except NetlinkError:
        return
    for peer in device.peers.values():
        assert len(peer.public_key) == len(peer.preshared_key) == 32
        assert all(len(address) in (4, 16) and length <= 8 * len(address) for address, length in peer.allowed_ips)


@given(st.binary(max_size=200))
@pytest.mark.parametrize("parse", [lambda body: parse_device([body]), parse_family])
def test_garbage(parse: object, garbage: bytes) -> None:
    with contextlib.suppress(NetlinkError):
        parse(memoryview(garbage))  # type: ignore[operator]
