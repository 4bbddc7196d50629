"""WireGuard where packets take more than one hop: through NAT, through a tunnel, by a mark, and in a circle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.interop.wireguard import (
    GO,
    INITIATION,
    KEEPALIVE_LENGTH,
    NATIVE,
    RESPONSE,
    SENNIT,
    TRANSPORT,
    Capture,
    Datagram,
    Interface,
    Namespace,
)

_TIMEOUT = 2  # seconds, after which the router forgets a flow


@dataclass
class Site:
    """Two hosts with a router between them; the first is behind it, in 10.1.0.0/24, and the second outside."""

    one: Interface
    two: Interface
    router: Namespace

    def introduce(self, *options: str) -> None:
        self.one.know(self.two, "10.9.0.2/32", "endpoint", "192.0.2.2:51820", *options)
        self.two.know(self.one, "10.9.0.1/32")


@pytest.fixture(params=[(SENNIT, SENNIT), (GO, GO)], ids=["sennit", "go"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Namespace("router") as router, Namespace("one") as one, Namespace("two") as two:
        router.join(one, "inside")
        router.join(two, "outside")
        router.address("inside", "10.1.0.254/24")
        router.address("outside", "192.0.2.254/24")
        one.address("eth0", "10.1.0.1/24")
        two.address("eth0", "192.0.2.2/24")
        one.ip("route", "add", "default", "via", "10.1.0.254")
        two.ip("route", "add", "default", "via", "192.0.2.254")
        router.sysctl(net__ipv4__ip_forward=1)
        interfaces = [
            Interface(namespace, implementation, f"10.9.0.{number}/24")
            for number, (namespace, implementation) in enumerate(zip((one, two), request.param, strict=True), start=1)
        ]
        yield Site(*interfaces, router)


_COUNTERS = """
table ip count {
    set marks {
        type mark
        flags dynamic
        counter
    }
    chain output {
        type filter hook output priority 0
        udp dport 51820 add @marks { meta mark }
    }
}
"""
_NAT = """
table ip nat {
    chain post {
        type nat hook postrouting priority 100
        oifname outside masquerade
    }
}
table ip filter {
    chain forward {
        type filter hook forward priority 0; policy drop
        iifname inside accept
        ct state established accept
    }
}
"""


def masquerade(router: Namespace) -> None:
    """The router hides who is inside, lets nothing in that was not asked for, and forgets soon."""
    router.run("nft", _NAT)
    router.sysctl(
        net__netfilter__nf_conntrack_udp_timeout=_TIMEOUT, net__netfilter__nf_conntrack_udp_timeout_stream=_TIMEOUT
    )


def keepalive(datagram: Datagram) -> bool:
    return datagram.kind == TRANSPORT and datagram.length == KEEPALIVE_LENGTH


def test_a_persistent_keepalive_keeps_the_way_through_nat_open(site: Site) -> None:
    masquerade(site.router)
    site.introduce("persistent-keepalive", "1")
    with Capture(site.router, "outside") as outside:
        site.one.namespace.ping("10.9.0.2")
        endpoint = site.two.endpoint(site.one)
        assert endpoint.startswith("192.0.2.254:")
        # Far longer than the router remembers; and all of them come from the one port.
        kept = outside.wait_for(keepalive, count=3 * _TIMEOUT)
        assert {each.source for each in kept if each.outgoing} == {endpoint}
        site.two.namespace.ping("10.9.0.1")
        assert site.two.endpoint(site.one) == endpoint
        site.one.set("peer", site.two.public_key, "persistent-keepalive", "0")
        # The last that pass are answers; then nothing does until the router has forgotten.
        while outside.datagrams(timeout=_TIMEOUT + 1.0):
            pass
        site.two.namespace.ping_in_vain("10.9.0.1")
        site.one.namespace.ping("10.9.0.2")
        site.two.namespace.ping("10.9.0.1")


def test_the_router_gives_another_port(site: Site) -> None:
    """As one does that has been restarted: the next packet from inside is enough."""
    masquerade(site.router)
    site.introduce()
    site.one.namespace.ping("10.9.0.2")
    site.router.run("nft", "flush chain ip nat post")
    site.router.run("nft", "add rule ip nat post oifname outside meta l4proto udp masquerade to :40000")
    with Capture(site.router, "outside") as outside:
        while outside.datagrams(timeout=_TIMEOUT + 1.0):
            pass
    before = site.two.handshake(site.one)
    site.one.namespace.ping("10.9.0.2")
    assert site.two.endpoint(site.one) == "192.0.2.254:40000"
    assert site.two.handshake(site.one) == before


def test_a_tunnel_in_a_tunnel(site: Site) -> None:
    """On the wire there is the outer one alone, around whole packets of the inner one."""
    site.introduce()
    inner = [
        Interface(each.namespace, each.implementation, f"10.10.0.{number}/24", port=51821)
        for number, each in enumerate((site.one, site.two), start=1)
    ]
    for interface in inner:
        interface.namespace.ip("link", "set", interface.name, "mtu", "1340")
        interface.wg("show", interface.name)
    inner[0].know(inner[1], "10.10.0.2/32", "endpoint", "10.9.0.2:51821")
    inner[1].know(inner[0], "10.10.0.1/32")
    site.one.namespace.ping("10.9.0.2")
    with Capture(site.one.namespace) as wire, Capture(site.one.namespace, site.one.name) as tunnel:
        inner[0].namespace.ping("10.10.0.2")
        within = tunnel.datagrams()
        assert [each.length for each in within] == [148, 92, 128, 128]
        assert {each.destination for each in within if each.outgoing} == {"10.9.0.2:51821"}
        outside = wire.datagrams()
        assert {each.destination for each in outside if each.outgoing} == {"192.0.2.2:51820"}
        # Each with an IP and a UDP header, padded, and sealed.
        assert [each.length for each in outside] == [-(-(each.length + 28) // 16) * 16 + 32 for each in within]
        # A full packet fits.
        inner[0].namespace.ping("10.10.0.2", "-M", "do", "-s", str(1340 - 28))
        assert [each.length for each in wire.datagrams()] == [1408 + 32] * 2  # of 1340 + 32 + 28
    assert inner[0].endpoint(inner[1]) == "10.9.0.2:51821"


def all_through_the_tunnel(site: Site, mark: int) -> None:
    """What has no mark takes the tunnel, as wg-quick arranges it; the second host has an address of the internet."""
    one, two = site.one.namespace, site.two.namespace
    two.address("lo", "203.0.113.1/32")
    site.one.know(site.two, "0.0.0.0/0", "endpoint", "192.0.2.2:51820")
    site.two.know(site.one, "10.9.0.1/32")
    one.sysctl(net__ipv4__conf__all__src_valid_mark=1)
    one.ip("route", "add", "default", "dev", site.one.name, "table", "51820")
    one.ip("rule", "add", "not", "fwmark", str(mark), "table", "51820")
    one.ip("rule", "add", "table", "main", "suppress_prefixlength", "0")


def test_a_default_route_by_mark(site: Site) -> None:
    all_through_the_tunnel(site, 51820)
    site.one.set("fwmark", "51820")
    assert site.one.wg("show", site.one.name, "fwmark").strip() == "0xca6c"
    with Capture(site.one.namespace) as wire:
        site.one.namespace.ping("203.0.113.1", "-I", "10.9.0.1")
        passed = wire.packets()
        assert {packet[9] for packet, _outgoing in passed} == {17}
        assert len(passed) == 4
        # Another mark, live.
        site.one.namespace.run("nft", _COUNTERS)
        site.one.namespace.ip("rule", "add", "fwmark", "0x1234", "table", "main", "pref", "100")
        site.one.set("fwmark", "0x1234")
        site.one.namespace.ping("203.0.113.1", "-I", "10.9.0.1")
        assert marked(site.one.namespace) == {"0x00001234": 1}


def marked(namespace: Namespace) -> dict[str, int]:
    """How many of WireGuard's datagrams were sent, by their mark."""
    ruleset = json.loads(namespace.run("nft", "-j", "list", "set", "ip", "count", "marks"))
    elements = ruleset["nftables"][-1]["set"].get("elem", [])
    return {f"{each['elem']['val']:#010x}": each["elem"]["counter"]["packets"] for each in elements}


def test_a_routing_loop(site: Site) -> None:
    """The way to the endpoint leads into the tunnel itself: nothing is sent, nobody ends, and it can be mended."""
    all_through_the_tunnel(site, 51820)
    with Capture(site.one.namespace) as wire:
        site.one.namespace.ping_in_vain("203.0.113.1", "-I", "10.9.0.1")
        assert wire.packets() == []
        received, sent = site.one.transfer(site.two)
        assert received == 0
        assert sent < 100 * 148
        site.one.set("fwmark", "51820")
        site.one.namespace.ping("203.0.113.1", "-I", "10.9.0.1")
        kinds = [each.kind for each in wire.datagrams()]
        assert kinds[:2] == [INITIATION, RESPONSE]


@pytest.mark.parametrize("site", [(SENNIT, SENNIT), (NATIVE, NATIVE)], ids=["sennit", "native"], indirect=True)
def test_a_routing_loop_under_a_session(site: Site) -> None:
    """A sealed packet that comes back is not sealed again. (wireguard-go does, as fast as it can.)"""
    one = site.one.namespace
    site.two.namespace.address("lo", "203.0.113.1/32")
    site.one.know(site.two, "0.0.0.0/0", "endpoint", "192.0.2.2:51820")
    site.two.know(site.one, "10.9.0.1/32")
    one.ping("10.9.0.2")
    received, sent = site.one.transfer(site.two)
    one.ip("route", "replace", "default", "dev", site.one.name)
    with Capture(one) as wire:
        one.ping_in_vain("203.0.113.1")
        one.ping_in_vain("203.0.113.1", "-s", "1392")
        assert wire.packets() == []
        # A full packet sealed is cut in two on its way back, and the second half cannot be told from others.
        assert site.one.transfer(site.two)[1] < sent + 128 + 1452 + 128
        assert site.one.transfer(site.two)[0] == received
        one.ip("route", "add", "192.0.2.2", "via", "10.1.0.254")
        one.ping("203.0.113.1")
