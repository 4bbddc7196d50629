"""What WireGuard does on the wire, alike for `sennit wireguard`, wireguard-go, and one of each with the native core.

In the spirit of the kernel's and wireguard-go's own namespace tests: nothing is driven by anything but `wg`, and what
was said is read from the wire.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.interop.agents import run, wait
from tests.interop.wireguard import (
    GO,
    INITIATION,
    KEEPALIVE_LENGTH,
    NATIVE,
    RESPONSE,
    SENNIT,
    SEVERAL,
    SEVERAL_NATIVE,
    TRANSPORT,
    Capture,
    Datagram,
    Interface,
    Namespace,
    inside,
)

PAIRS = {
    "sennit-sennit": (SENNIT, SENNIT),
    "go-go": (GO, GO),
    "native-go": (NATIVE, GO),
    "several-go": (SEVERAL_NATIVE, GO),
    "several-several": (SEVERAL, SEVERAL_NATIVE),
}
LENGTHS = {INITIATION: 148, RESPONSE: 92}


@dataclass
class Pair:
    """Two interfaces, one in each of two namespaces that are joined by a wire. The first knows where the second is."""

    one: Interface
    two: Interface
    wire: Capture

    @property
    def both(self) -> tuple[Interface, Interface]:
        return self.one, self.two

    def introduce(self, *options: str, endpoint: str = "192.0.2.2:51820", given: str = "") -> None:
        self.one.know(self.two, "10.9.0.2/32,fd09::2/128", "endpoint", endpoint, *options, given=given)
        self.two.know(self.one, "10.9.0.1/32,fd09::1/128", *options, given=given)

    def ping(self, address: str = "10.9.0.2", *options: str) -> list[Datagram]:
        """From the first; what was on the wire for it."""
        self.wire.datagrams()
        self.one.namespace.ping(address, *options)
        return self.wire.datagrams()

    def ping_back(self, address: str = "10.9.0.1", *options: str) -> list[Datagram]:
        self.wire.datagrams()
        self.two.namespace.ping(address, *options)
        return self.wire.datagrams()

    def counted(self) -> tuple[int, int]:
        """Bytes that the first has received, and sent, when the second says the same.

        wireguard-go counts what it has sent when it is back from sending, and the answer may have come by then.
        """
        ends: list[tuple[int, int]] = []

        def agree() -> bool:
            ends[:] = self.one.transfer(self.two), self.two.transfer(self.one)
            return ends[0] == ends[1][::-1]

        wait(agree, "both count the same")
        return ends[0]

    def wait_received(self, count: int) -> None:
        """Until the second has so many bytes. What was seen on the wire where it leaves the first is on its way.

        And a responder keeps to its last keypair until a packet has come on the new one.
        """
        wait(lambda: self.two.transfer(self.one)[0] >= count, f"{count} bytes received")


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with Namespace("one") as first, Namespace("two") as second:
        first.join(second)
        interfaces = []
        for number, (namespace, implementation) in enumerate(zip((first, second), request.param, strict=True), start=1):
            namespace.address("eth0", f"192.0.2.{number}/24", f"2001:db8::{number}/64")
            interfaces.append(Interface(namespace, implementation, f"10.9.0.{number}/24", f"fd09::{number}/64"))
        with Capture(first) as wire:
            yield Pair(*interfaces, wire)


def shape(datagrams: list[Datagram]) -> list[tuple[int, int, bool]]:
    return [(each.kind, each.length, each.outgoing) for each in datagrams]


# --- counters and sizes


def test_exact_byte_counters(pair: Pair) -> None:
    """A handshake is 148 and 92 bytes; a ping of 84 is padded to 96, and its header and tag are 32."""
    pair.introduce()
    assert shape(pair.ping()) == [(1, 148, True), (2, 92, False), (4, 128, True), (4, 128, False)]
    assert pair.counted() == (92 + 128, 148 + 128)
    assert pair.one.handshake(pair.two) > 0
    assert pair.two.handshake(pair.one) > 0
    assert shape(pair.ping_back("fd09::1")) == [(4, 144, False), (4, 144, True)]  # 104 bytes, padded to 112
    assert pair.counted() == (92 + 128 + 144, 148 + 128 + 144)


@pytest.mark.parametrize("mtu", [1420, 1283])
def test_padding_never_goes_beyond_the_mtu(pair: Pair, mtu: int) -> None:
    pair.introduce()
    for interface in pair.both:
        interface.namespace.ip("link", "set", interface.name, "mtu", str(mtu))
        interface.wg("show", interface.name)
    pair.ping()
    for size in (28, 29, 100, 1264, 1265, 1279, 1280, mtu - 17, mtu - 3, mtu - 1, mtu):
        padded = min(-(-size // 16) * 16, mtu)
        expected = [(TRANSPORT, padded + 32, True), (TRANSPORT, padded + 32, False)]
        assert shape(pair.ping("10.9.0.2", "-M", "do", "-s", str(size - 28))) == expected, size
    # What is larger is cut by the kernel, and every part padded.
    total = sum(each.length for each in pair.ping("10.9.0.2", "-s", str(2 * mtu)))
    assert total > 2 * (2 * mtu + 3 * 32)


@pytest.mark.parametrize("outer", ["192.0.2.2:51820", "[2001:db8::2]:51820"], ids=["underlay-v4", "underlay-v6"])
@pytest.mark.parametrize("inner", ["10.9.0.2", "fd09::2"], ids=["inner-v4", "inner-v6"])
def test_every_family_in_every_family(pair: Pair, inner: str, outer: str) -> None:
    pair.introduce(endpoint=outer)
    datagrams = pair.ping(inner)
    assert [each.kind for each in datagrams] == [INITIATION, RESPONSE, TRANSPORT, TRANSPORT]
    assert {each.destination for each in datagrams if each.outgoing} == {outer}
    assert pair.one.endpoint(pair.two) == outer


# --- roaming


def test_a_peer_that_moves_is_followed(pair: Pair) -> None:
    """To another port, another address, and another family; without a handshake, and the next packet goes there."""
    pair.introduce()
    pair.ping()
    before = pair.one.handshake(pair.two)
    two = pair.two.namespace

    def moved_to(endpoint: str) -> None:
        if pair.two.implementation == GO:
            # It clings to a source address that is gone until the endpoint is set (2022; it goes on for EINVAL only).
            pair.two.set("peer", pair.one.public_key, "endpoint", pair.two.endpoint(pair.one))
        assert [each.kind for each in pair.ping_back()] == [TRANSPORT, TRANSPORT]
        assert pair.one.endpoint(pair.two) == endpoint
        assert [each.destination for each in pair.ping() if each.outgoing] == [endpoint]

    pair.two.set("listen-port", "4444")
    moved_to("192.0.2.2:4444")
    two.ip("addr", "del", "192.0.2.2/24", "dev", "eth0")
    two.address("eth0", "192.0.2.22/24")
    moved_to("192.0.2.22:4444")
    pair.two.know(pair.one, "10.9.0.1/32,fd09::1/128", "endpoint", "[2001:db8::1]:51820")
    moved_to("[2001:db8::2]:4444")
    two.address("eth0", "2001:db8::22/64")
    two.ip("addr", "del", "2001:db8::2/64", "dev", "eth0")
    moved_to("[2001:db8::22]:4444")
    assert pair.one.handshake(pair.two) == before


def test_a_configured_endpoint_counts_again_when_it_is_set_again(pair: Pair) -> None:
    pair.introduce()
    pair.ping()
    pair.two.set("listen-port", "4444")
    pair.ping_back()
    assert pair.one.endpoint(pair.two) == "192.0.2.2:4444"
    pair.one.set("peer", pair.two.public_key, "endpoint", "192.0.2.2:51820")
    assert pair.one.endpoint(pair.two) == "192.0.2.2:51820"
    pair.wire.datagrams()
    pair.one.namespace.ping_in_vain("10.9.0.2")
    assert {each.destination for each in pair.wire.datagrams()} == {"192.0.2.2:51820"}


# --- allowed IPs


def test_allowed_ips_on_the_way_out(pair: Pair) -> None:
    pair.introduce()
    pair.ping()
    pair.one.namespace.ip("route", "add", "10.8.0.0/24", "dev", pair.one.name)
    before = pair.counted()
    pair.one.namespace.ping_in_vain("10.8.0.2")
    assert pair.wire.datagrams() == []
    assert pair.one.transfer(pair.two) == before
    pair.two.namespace.address(pair.two.name, "10.8.0.2/24")
    pair.one.know(pair.two, "10.9.0.2/32,10.8.0.0/24")
    assert shape(pair.ping("10.8.0.2")) == [(4, 128, True), (4, 128, False)]


@pytest.mark.parametrize("source", ["10.8.0.2", "fd08::2"])
def test_allowed_ips_on_the_way_in(pair: Pair, source: str) -> None:
    """A packet from an address that is not the peer's gets to the other end, is counted, and goes no further."""
    pair.introduce()
    pair.ping()
    received, sent = pair.counted()
    one, two = pair.one.namespace, pair.two.namespace
    destination, length = ("fd09::1", 64) if ":" in source else ("10.9.0.1", 24)
    two.address(pair.two.name, f"{source}/{length}")
    with Capture(one, pair.one.name) as tunnel:
        two.ping_in_vain(destination, "-I", source)
        size = 144 if ":" in source else 128
        assert shape(pair.wire.datagrams()) == [(TRANSPORT, size, False)]
        assert tunnel.packets() == []
        assert pair.one.transfer(pair.two) == (received + size, sent)
        pair.one.know(pair.two, f"10.9.0.2/32,{source}")
        one.ip("route", "add", source, "dev", pair.one.name)
        two.ping(destination, "-I", source)
        assert len(tunnel.packets()) == 2


def test_a_prefix_moves_between_peers(pair: Pair) -> None:
    """It has one owner; the session of who loses it, and gets it back, stays."""
    pair.introduce()
    pair.ping()
    stranger = run("wg", "genkey").strip()
    pair.one.set("peer", stranger, "allowed-ips", "10.9.0.2/32")
    assert pair.one.shown("allowed-ips") == {pair.two.public_key: ["fd09::2/128"], stranger: ["10.9.0.2/32"]}
    pair.one.namespace.ping_in_vain("10.9.0.2")
    assert pair.wire.datagrams() == []
    pair.ping("fd09::2")
    pair.one.know(pair.two, "10.9.0.2/32")
    assert pair.one.shown("allowed-ips") == {pair.two.public_key: ["10.9.0.2/32"], stranger: ["(none)"]}
    assert [each.kind for each in pair.ping()] == [TRANSPORT, TRANSPORT]


# --- keys


@pytest.mark.parametrize("which", [0, 1], ids=["initiator", "responder"])
def test_a_key_is_changed_live(pair: Pair, which: int) -> None:
    pair.introduce()
    pair.ping()
    changing, other = pair.both[which], pair.both[1 - which]
    old = changing.public_key
    changing.new_key()
    # Nobody knows the new key yet, and the old session is no more.
    pair.wire.datagrams()
    pair.one.namespace.ping_in_vain("10.9.0.2")
    assert RESPONSE not in {each.kind for each in pair.wire.datagrams()}
    other.set("peer", old, "remove")
    pair.introduce()
    pair.one.namespace.ping("10.9.0.2")
    kinds = [each.kind for each in pair.wire.datagrams()]
    # Whoever still had a packet for the other may have begun before the ping.
    assert {INITIATION, RESPONSE} <= set(kinds)
    assert kinds[-2:] == [TRANSPORT, TRANSPORT]
    assert set(other.shown("latest-handshakes")) == {changing.public_key}


def test_a_peer_is_not_its_own(pair: Pair) -> None:
    """Neither set, which is no error, nor by taking over its key."""
    pair.introduce()
    pair.one.set("peer", pair.one.public_key, "allowed-ips", "10.9.0.7/32")
    assert set(pair.one.shown("allowed-ips")) == {pair.two.public_key}
    private_key = pair.two.wg("show", pair.two.name, "private-key")
    pair.one.set("private-key", "/dev/stdin", given=private_key)
    assert pair.one.shown("allowed-ips") == {}
    assert pair.one.wg("show", pair.one.name, "public-key").strip() == pair.two.public_key


def test_preshared_keys(pair: Pair) -> None:
    """What is set late counts from the next handshake on, which fails while only one side has it."""
    psk = run("wg", "genpsk")
    pair.introduce()
    pair.ping()
    pair.one.set("peer", pair.two.public_key, "preshared-key", "/dev/stdin", given=psk)
    assert [each.kind for each in pair.ping()] == [TRANSPORT, TRANSPORT]
    assert pair.one.shown("preshared-keys") == {pair.two.public_key: [psk.strip()]}
    pair.one.set("peer", pair.two.public_key, "remove")
    pair.introduce()
    pair.one.set("peer", pair.two.public_key, "preshared-key", "/dev/stdin", given=psk)
    pair.wire.datagrams()
    pair.one.namespace.ping_in_vain("10.9.0.2")
    kinds = [each.kind for each in pair.wire.datagrams()]
    assert INITIATION in kinds
    assert TRANSPORT not in kinds
    pair.two.set("peer", pair.one.public_key, "preshared-key", "/dev/stdin", given=psk)
    # The packet waits for the next try.
    assert {INITIATION, RESPONSE, TRANSPORT} <= {each.kind for each in pair.ping()}


LOW_ORDER = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
    "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
    "7P///////////////////////////////////////38=",
    "7f///////////////////////////////////////38=",
    "7v///////////////////////////////////////38=",
]


def test_public_keys_of_low_order(pair: Pair) -> None:
    """They can be configured, and nothing is ever sent to them."""
    pair.introduce()
    for number, key in enumerate(LOW_ORDER, start=100):
        pair.one.set("peer", key, "allowed-ips", f"10.9.0.{number}/32", "endpoint", "192.0.2.2:9",
                     "persistent-keepalive", "1")  # fmt: skip
        pair.one.namespace.ping_in_vain(f"10.9.0.{number}", "-w", "1")
    assert [each for each in pair.wire.datagrams() if each.destination.endswith(":9")] == []
    transfer = pair.one.shown("transfer")
    assert {tuple(transfer[key]) for key in LOW_ORDER} == {("0", "0")}
    pair.ping()


# --- the link

# wireguard-go (0.0.20220316, 0.0.20260522) holds on to its port and its sessions, at least on Linux 6.18. What the
# kernel's WireGuard does is asked of Sennit alone, and of that itself in tests/kernel.
as_the_kernel = pytest.mark.parametrize(
    "pair", [pair for name, pair in PAIRS.items() if name != "go-go"], ids=[name for name in PAIRS if name != "go-go"],
    indirect=True,
)  # fmt: skip


def listens(interface: Interface) -> bool:
    return interface.namespace.run("ss", "-Hlun", f"sport = :{interface.port}") != ""


def set_link(interface: Interface, state: str) -> None:
    """Returns when the port is bound, or free."""
    interface.namespace.ip("link", "set", interface.name, state)
    wait(lambda: listens(interface) == (state == "up"), f"{interface.name} {state}, and UDP port {interface.port} too")


@as_the_kernel
def test_a_link_that_is_down_takes_no_part_and_comes_back_by_a_new_handshake(pair: Pair) -> None:
    pair.introduce()
    pair.ping()
    before = pair.one.transfer(pair.two), pair.one.handshake(pair.two)
    set_link(pair.one, "down")
    pair.wire.packets()
    pair.two.namespace.ping_in_vain("10.9.0.1")
    assert [packet[9] for packet, outgoing in pair.wire.packets() if outgoing] == [socket.IPPROTO_ICMP]
    # It still answers, with what was so.
    assert (pair.one.transfer(pair.two), pair.one.handshake(pair.two)) == before
    assert pair.one.endpoint(pair.two) == "192.0.2.2:51820"
    assert pair.one.wg("show", pair.one.name, "listen-port") == "51820\n"
    with inside(pair.one.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        another.bind(("192.0.2.1", 51820))
    set_link(pair.one, "up")
    datagrams = pair.ping()
    assert [each.kind for each in datagrams] == [INITIATION, RESPONSE, TRANSPORT, TRANSPORT]
    assert {each.source for each in datagrams if each.outgoing} == {"192.0.2.1:51820"}


@as_the_kernel
def test_a_link_that_is_up_again_begins_with_its_keepalives(pair: Pair) -> None:
    pair.introduce()
    pair.one.set("peer", pair.two.public_key, "persistent-keepalive", "1")
    pair.wire.wait_for(lambda datagram: datagram.kind == TRANSPORT)
    set_link(pair.one, "down")
    pair.wire.datagrams()
    assert pair.wire.datagrams(timeout=2.5) == []
    received, _sent = pair.two.transfer(pair.one)
    pair.one.namespace.ip("link", "set", pair.one.name, "up")
    kinds = [each.kind for each in pair.wire.wait_for(lambda datagram: datagram.kind == TRANSPORT)]
    assert kinds[:3] == [INITIATION, RESPONSE, TRANSPORT]
    pair.wait_received(received + 148 + KEEPALIVE_LENGTH)
    pair.ping_back()


@as_the_kernel
def test_a_link_that_is_down_for_a_moment_has_lost_its_sessions(pair: Pair) -> None:
    pair.introduce()
    pair.ping()
    pair.wire.datagrams()
    commands = "".join(f"link set {pair.one.name} {state}\n" for state in ("down", "up"))
    subprocess.run(["ip", "-n", pair.one.namespace.name, "-batch", "-"], input=commands, text=True, check=True)
    # Who answers this has heard of that.
    pair.one.wg("show", pair.one.name)
    pair.one.namespace.ping("10.9.0.2")
    assert [each.kind for each in pair.wire.datagrams()][-4:] == [INITIATION, RESPONSE, TRANSPORT, TRANSPORT]


@as_the_kernel
def test_what_is_set_while_the_link_is_down_counts_when_it_is_up(pair: Pair) -> None:
    """Also a port that was chosen stays."""
    pair.one.set("listen-port", "0")
    chosen = pair.one.port = int(pair.one.wg("show", pair.one.name, "listen-port"))
    set_link(pair.one, "down")
    pair.introduce()
    set_link(pair.one, "up")
    assert int(pair.one.wg("show", pair.one.name, "listen-port")) == chosen
    assert {each.source for each in pair.ping() if each.outgoing} == {f"192.0.2.1:{chosen}"}
    set_link(pair.one, "down")
    pair.one.port = 51999
    pair.one.set("listen-port", "51999")
    assert not listens(pair.one)
    set_link(pair.one, "up")
    assert {each.source for each in pair.ping() if each.outgoing} == {"192.0.2.1:51999"}


def test_a_link_in_another_namespace(pair: Pair) -> None:
    """It is moved there after it was made, and has its port where it was made."""
    pair.introduce()
    pair.ping()
    with Namespace("inner") as inner:
        inner.ip("link", "set", "lo", "down")
        pair.one.namespace.ip("link", "set", pair.one.name, "netns", inner.name)
        try:
            # Who answers this has heard that the link was down, and so that the session is over.
            pair.one.wg("show", pair.one.name)
            inner.ip("link", "set", pair.one.name, "up")
            inner.address(pair.one.name, "10.9.0.1/24")
            pair.wire.datagrams()
            inner.ping("10.9.0.2")
            assert [each.kind for each in pair.wire.datagrams()][-2:] == [TRANSPORT, TRANSPORT]
            assert pair.one.wg("show", pair.one.name, "listen-port") == "51820\n"
        finally:
            inner.ip("link", "set", pair.one.name, "netns", pair.one.namespace.name)


# --- peers


def test_persistent_keepalive_is_turned_on_and_off(pair: Pair) -> None:
    pair.introduce()
    pair.ping()

    def keepalive(datagram: Datagram) -> bool:
        return datagram.outgoing and shape([datagram]) == [(TRANSPORT, KEEPALIVE_LENGTH, True)]

    pair.one.set("peer", pair.two.public_key, "persistent-keepalive", "1")
    pair.wire.wait_for(keepalive, count=3)
    assert pair.one.shown("persistent-keepalive") == {pair.two.public_key: ["1"]}
    pair.one.set("peer", pair.two.public_key, "persistent-keepalive", "off")
    assert pair.one.shown("persistent-keepalive") == {pair.two.public_key: ["off"]}
    pair.wire.datagrams()
    assert pair.wire.datagrams(timeout=2.5) == []


def test_a_keepalive_alone_makes_a_session(pair: Pair) -> None:
    pair.introduce()
    pair.one.set("peer", pair.two.public_key, "persistent-keepalive", "30")
    datagrams = pair.wire.wait_for(lambda datagram: datagram.kind == TRANSPORT)
    assert shape(datagrams) == [(INITIATION, 148, True), (RESPONSE, 92, False), (TRANSPORT, KEEPALIVE_LENGTH, True)]
    pair.wait_received(148 + KEEPALIVE_LENGTH)
    # The second may send by it, at once.
    assert [each.kind for each in pair.ping_back()] == [TRANSPORT, TRANSPORT]


def test_a_removed_peer(pair: Pair) -> None:
    pair.introduce()
    pair.ping()
    pair.one.set("peer", pair.two.public_key, "remove")
    assert pair.one.shown("transfer") == {}
    pair.wire.datagrams()
    pair.one.namespace.ping_in_vain("10.9.0.2")
    assert pair.wire.datagrams() == []
    # What it sends is not opened, and not answered.
    pair.two.namespace.ping_in_vain("10.9.0.1")
    assert [each for each in pair.wire.datagrams() if each.outgoing] == []
    pair.introduce()
    assert [each.kind for each in pair.ping()] == [INITIATION, RESPONSE, TRANSPORT, TRANSPORT]


def test_the_same_configuration_again(pair: Pair) -> None:
    """syncconf leaves a peer its session; setconf makes it anew, with its counters at zero."""
    pair.introduce()
    pair.ping()
    before = pair.counted()
    configuration = pair.one.wg("showconf", pair.one.name)
    pair.one.wg("syncconf", pair.one.name, "/dev/stdin", given=configuration)
    assert pair.one.transfer(pair.two) == before
    assert [each.kind for each in pair.ping()] == [TRANSPORT, TRANSPORT]
    pair.one.wg("setconf", pair.one.name, "/dev/stdin", given=configuration)
    assert pair.one.transfer(pair.two) == (0, 0)
    assert pair.one.handshake(pair.two) == 0
    assert pair.one.wg("showconf", pair.one.name) == configuration
    pair.one.wg("syncconf", pair.one.name, "/dev/stdin", given=configuration.partition("[Peer]")[0])
    assert pair.one.shown("transfer") == {}
