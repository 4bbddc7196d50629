"""Routers that translate addresses, as nftables rules: the kinds of NAT that RFC 4787 tells apart.

    endpoint-independent  one outside port for an inside port; whoever sends to it reaches the inside host
    address-dependent     the same port, but only addresses that the inside host has sent to get through (section 5)
    symmetric             another outside port for every destination, and only that destination gets through

The first two take the outside port from a hash of the inside address and port, so that it is the same for every
destination also where two hosts behind the NAT use the same port; conntrack alone keeps a port only as long as nobody
else has it. IPv6 is not translated; of both families, what nobody inside asked for is dropped.
"""

from __future__ import annotations

ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT, SYMMETRIC = KINDS = ("endpoint-independent", "address-dependent", "symmetric")

# The outside port of an inside address and port. Learned with it: where it leads, and whom was sent to from it.
_FROM_ONE_PORT = """
table ip nat {
    map inside { type inet_service : ipv4_addr . inet_service; flags dynamic, timeout; timeout 5m; size 65535; }
    set asked { type ipv4_addr . inet_service . ipv4_addr; flags dynamic, timeout; timeout 5m; size 65535; }
    chain learn {
        type filter hook postrouting priority srcnat - 1;
        oifname $outside meta l4proto udp update @inside { $port : ip saddr . udp sport }
        oifname $outside meta l4proto udp update @asked { ip saddr . udp sport . ip daddr }
    }
    chain out {
        type nat hook postrouting priority srcnat;
        oifname $outside meta l4proto udp masquerade to :$port
    }
    chain in {
        type nat hook prerouting priority dstnat;
        iifname $outside meta l4proto udp dnat to udp dport map @inside
    }
}
"""
_FROM_ANY_PORT = """
table ip nat {
    chain out {
        type nat hook postrouting priority srcnat;
        oifname $outside masquerade fully-random
    }
}
"""
_OTHER_PROTOCOLS = """
table ip nat {
    chain out { oifname $outside masquerade; }
}
table inet firewall {
    chain forward {
        type filter hook forward priority filter;
        iifname $outside ct state established,related accept
        iifname $outside ct status dnat accept
        iifname $outside meta l4proto icmpv6 accept
        iifname $outside drop
    }
    chain input {
        type filter hook input priority filter;
        iifname $outside meta l4proto udp ct state new drop
    }
}
"""
_NOT_ASKED = """
table ip nat {
    chain forward {
        type filter hook forward priority filter;
        iifname $outside ct state new ct status dnat ip daddr . udp dport . ip saddr != @asked drop
    }
}
"""
_PARTS = {
    ENDPOINT_INDEPENDENT: (_FROM_ONE_PORT,),
    ADDRESS_DEPENDENT: (_FROM_ONE_PORT, _NOT_ASKED),
    SYMMETRIC: (_FROM_ANY_PORT,),
}


def rules(kind: str, outside: str) -> str:
    """The rules, for nft(8), of a router whose interface `outside` is that to the internet."""
    port = "jhash ip saddr . udp sport mod 20000 seed 0x1 offset 20000"  # the same seed wherever it stands
    text = "".join((*_PARTS[kind], _OTHER_PROTOCOLS))
    return text.replace("$outside", f'"{outside}"').replace("$port", port)
