"""The addresses that an agent tells others, as the kernel has them."""

from __future__ import annotations

from tests.interop.agents import run

from sennit.paths.local import LocalAddresses, local


def test_the_kernel_is_asked(namespace: str) -> None:
    addresses = LocalAddresses()
    assert addresses.look() == local((), frozenset())
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    run("ip", "tuntap", "add", "tun7", "mode", "tun")
    for device, address in (("eth0", "192.0.2.7/24"), ("eth0", "2001:db8::7/64"), ("tun7", "10.8.0.2/24")):
        run("ip", "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", device, "up")
    run("ip", "link", "set", "eth1", "up")
    found = addresses.look()
    assert set(found.addresses) == {"192.0.2.7", "2001:db8::7"}
    assert {str(network) for network in found.networks} == {"192.0.2.0/24", "2001:db8::/64"}
    addresses.close()
