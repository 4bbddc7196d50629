"""The kernel datapath drives a real kernel, and the kernel's own `ip` and `wg` say what came of it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.interop.agents import run, same_session, wait
from tests.interop.stock import encoded
from tests.unit.datapath.test_wireguard_netlink import configurations

from sennit.datapath.base import DatapathError, NameTakenError
from sennit.datapath.kernel import KernelDatapath, clear
from sennit.wireguard.constants import INITIATION_LENGTH
from sennit.wireguard.crypto import public_key_of
from sennit.wireguard.events import PeerConfig

INTERFACE = "sennit0"
PORT = 51820
MARK = 21472


def generate_private_key() -> bytes:
    """Clamped, as the kernel shows it (RFC 7748, section 5)."""
    key = bytearray(os.urandom(32))
    key[0] &= 0xF8
    key[31] = key[31] & 0x7F | 0x40
    return bytes(key)


KEY = generate_private_key()
PSK = bytes(range(32))


def datapath(key: bytes = KEY, port: int = PORT) -> KernelDatapath:
    return KernelDatapath(key, INTERFACE, port, 1420, MARK)


@pytest.fixture
def kernel(namespace: str) -> Iterator[KernelDatapath]:
    started = datapath()
    started.start()
    yield started
    started.close()


class Far:
    """A plain kernel peer in a namespace of its own, at the other end of a cable."""

    def __init__(self, near: str) -> None:
        self.namespace = f"{near}-far"
        self.key = generate_private_key()
        self.public_key = public_key_of(self.key)
        self.config = PeerConfig(
            self.public_key, ("100.64.0.2/32", "fd5e::2/128"), ("192.0.2.2", PORT), preshared_key=PSK
        )

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, *command)

    def build(self, near: str, directory: Path) -> None:
        for name, key in (("far.key", self.key), ("far.psk", PSK)):
            (directory / name).write_text(base64.b64encode(key).decode())
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        for number, where in ((1, near), (2, self.namespace)):
            run("ip", "-n", where, "link", "set", "eth0", "up")
            run("ip", "-n", where, "addr", "add", f"192.0.2.{number}/24", "dev", "eth0")
            run("ip", "-n", where, "addr", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
        run("ip", "-n", self.namespace, "link", "add", "wg0", "type", "wireguard")
        self.run("wg", "set", "wg0", "listen-port", str(PORT), "private-key", str(directory / "far.key"),
                 "peer", encoded(public_key_of(KEY)), "allowed-ips", "100.64.0.1/32,fd5e::1/128",
                 "preshared-key", str(directory / "far.psk"))  # fmt: skip
        run("ip", "-n", self.namespace, "link", "set", "wg0", "up")
        run("ip", "-n", self.namespace, "addr", "add", "100.64.0.2/10", "dev", "wg0")
        run("ip", "-n", self.namespace, "addr", "add", "fd5e::2/48", "dev", "wg0", "nodad")


@pytest.fixture
def far(namespace: str, kernel: KernelDatapath, tmp_path: Path) -> Iterator[Far]:
    """The cable, the peer, and addresses on the near interface. Which peers that has is left to the test."""
    peer = Far(namespace)
    try:
        peer.build(namespace, tmp_path)
        run("ip", "addr", "add", "100.64.0.1/10", "dev", INTERFACE)
        run("ip", "addr", "add", "fd5e::1/48", "dev", INTERFACE, "nodad")
        yield peer
    finally:
        run("ip", "netns", "del", peer.namespace, check=False)


def ping(address: str, wait: int = 10) -> bool:
    command = ["ping", "-n", "-c", "1", "-W", str(wait), address]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def peers_of_wg() -> dict[bytes, list[str]]:
    """What `wg show dump` has of each peer: preshared key, endpoint, allowed IPs, handshake, rx, tx, keepalive."""
    lines = [line.split("\t") for line in run("wg", "show", INTERFACE, "dump").splitlines()[1:]]
    return {base64.b64decode(key): rest for key, *rest in lines}


def latest_handshake(kernel: KernelDatapath, far: Far) -> float:
    time_of_day = kernel.status().peers[far.public_key].latest_handshake
    assert time_of_day is not None
    return time_of_day


def assert_as_wanted(wanted: Mapping[bytes, PeerConfig]) -> None:
    there = peers_of_wg()
    assert there.keys() == wanted.keys()
    for key, config in wanted.items():
        preshared, _endpoint, allowed_ips, _handshake, _rx, _tx, keepalive = there[key]
        assert set(allowed_ips.split(",")) - {"(none)"} == set(config.allowed_ips)
        assert preshared == (encoded(config.preshared_key) if any(config.preshared_key) else "(none)")
        assert keepalive == (str(config.persistent_keepalive) if config.persistent_keepalive else "off")


# --- the interface


def test_the_interface_is_made_and_the_module_loaded(kernel: KernelDatapath) -> None:
    assert Path("/sys/module/wireguard").exists()
    link = run("ip", "-d", "link", "show", INTERFACE)
    assert "wireguard" in link and "mtu 1420" in link and ",UP" in link
    key, public_key, port, mark = run("wg", "show", INTERFACE, "dump").split()
    assert base64.b64decode(key) == KEY and base64.b64decode(public_key) == public_key_of(KEY)
    assert (port, mark) == (str(PORT), hex(MARK))
    kernel.close()
    assert INTERFACE not in run("ip", "link")


def test_what_a_dead_agent_left_is_taken_over(kernel: KernelDatapath, far: Far) -> None:
    kernel.configure({far.public_key: far.config})
    assert ping("100.64.0.2")
    before = kernel.status().peers[far.public_key]
    index = socket.if_nametoindex(INTERFACE)
    next_one = datapath()
    next_one.start()
    assert socket.if_nametoindex(INTERFACE) == index
    next_one.configure({far.public_key: far.config})
    after = next_one.status().peers[far.public_key]
    assert after.endpoint == before.endpoint
    assert same_session(before.latest_handshake or 0, after.latest_handshake or 0)
    assert ping("100.64.0.2")
    next_one.configure({})
    assert_as_wanted({})


def test_a_name_that_is_somebody_elses(namespace: str, tmp_path: Path) -> None:
    run("ip", "link", "add", INTERFACE, "type", "dummy")
    with pytest.raises(NameTakenError, match="a dummy interface"):
        datapath().start()
    run("ip", "link", "del", INTERFACE)
    run("ip", "link", "add", INTERFACE, "type", "wireguard")
    (tmp_path / "key").write_text(base64.b64encode(generate_private_key()).decode())
    run("wg", "set", INTERFACE, "private-key", str(tmp_path / "key"))
    with pytest.raises(NameTakenError, match="another key"):
        datapath().start()
    with pytest.raises(NameTakenError):
        clear(INTERFACE, KEY)
    assert "wireguard" in run("ip", "-d", "link", "show", INTERFACE)


def test_an_interface_that_somebody_prepared_for_us_is_used(namespace: str) -> None:
    run("ip", "link", "add", INTERFACE, "type", "wireguard")
    started = datapath()
    started.start()
    started.close()
    assert INTERFACE not in run("ip", "link")


def test_a_tun_device_is_replaced_unless_it_is_in_use(namespace: str) -> None:
    held = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(held, 0x400454CA, struct.pack("16sH22x", INTERFACE.encode(), 0x1001))
    run("ip", "link", "set", INTERFACE, "up")
    with pytest.raises(DatapathError, match="in use by another program"):
        datapath().start()
    os.close(held)
    run("ip", "tuntap", "add", INTERFACE, "mode", "tun")
    run("ip", "link", "set", INTERFACE, "up")
    started = datapath()
    started.start()
    assert "wireguard" in run("ip", "-d", "link", "show", INTERFACE)
    started.close()


def test_a_port_in_use_is_told_and_nothing_is_left(namespace: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", PORT))
        with pytest.raises(DatapathError, match=f"UDP port {PORT}: Address already in use"):
            datapath().start()
    assert INTERFACE not in run("ip", "link")


def test_clear_makes_way_for_userspace(kernel: KernelDatapath) -> None:
    clear(INTERFACE, KEY)
    assert INTERFACE not in run("ip", "link")
    clear(INTERFACE, KEY)
    with pytest.raises(DatapathError, match="cannot be read any more"):
        kernel.status()


def test_an_interface_that_is_taken_away_ends_the_datapath(kernel: KernelDatapath) -> None:
    async def take_away() -> None:
        running = asyncio.ensure_future(kernel.run())
        await asyncio.sleep(0)
        run("ip", "link", "del", INTERFACE)
        await asyncio.wait_for(running, 30)

    with pytest.raises(DatapathError, match="cannot be read any more: No such device"):
        asyncio.run(take_away())


# --- peers


# Everything is too slow in an emulated machine.
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations())
def test_from_any_configuration_to_any_other(kernel: KernelDatapath, wanted: dict[bytes, PeerConfig]) -> None:
    kernel.configure(wanted)
    assert_as_wanted(wanted)
    assert kernel.status().peers.keys() == wanted.keys()


def test_thousands_of_peers_and_of_allowed_ips(kernel: KernelDatapath) -> None:
    """More than one message holds: of requests, of answers, and of one peer's allowed IPs."""
    wanted = {
        key: PeerConfig(key, (f"100.64.{number >> 8}.{number & 255}/32", f"fd5e::{number:x}/128"), ("192.0.2.9", 1), 25)
        for number, key in ((number, number.to_bytes(32, "big")) for number in range(1, 2001))
    }
    router = bytes([7]) * 32
    wanted[router] = PeerConfig(router, tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(3000)))
    kernel.configure(wanted)
    assert_as_wanted(wanted)
    status = kernel.status()
    assert status.peers.keys() == wanted.keys()
    # Half of them go, and the router's prefixes move to another.
    keys = sorted(wanted)
    fewer = {key: wanted[key] for key in keys[:1000]}
    fewer[keys[0]] = dataclasses.replace(wanted[keys[0]], allowed_ips=wanted[router].allowed_ips)
    kernel.configure(fewer)
    assert_as_wanted(fewer)


def test_packets_and_what_status_says_of_them(kernel: KernelDatapath, far: Far) -> None:
    kernel.configure({far.public_key: far.config})
    for address in far.config.allowed_ips:
        assert ping(address.partition("/")[0])
    far.run("ping", "-n", "-c", "1", "-W", "10", "100.64.0.1")
    far.run("ping", "-n", "-c", "1", "-W", "10", "fd5e::1")
    peer = kernel.status().peers[far.public_key]
    assert peer.endpoint == ("192.0.2.2", PORT) and peers_of_wg()[far.public_key][1] == f"192.0.2.2:{PORT}"

    def the_same() -> bool:
        peer = kernel.status().peers[far.public_key]
        told = int(peer.latest_handshake or 0), peer.rx_bytes, peer.tx_bytes
        return [str(each) for each in told] == peers_of_wg()[far.public_key][3:6]

    wait(the_same, "the same by both, with no keepalive between the two")
    assert abs(time.time() - (peer.latest_handshake or 0)) < 60
    assert peer.unanswered == 0


def test_a_wrong_preshared_key_lets_nothing_through(kernel: KernelDatapath, far: Far) -> None:
    kernel.configure({far.public_key: dataclasses.replace(far.config, preshared_key=bytes(32))})
    assert not ping("100.64.0.2", wait=2)
    kernel.configure({far.public_key: far.config})
    assert ping("100.64.0.2")


def test_a_peer_that_moves_is_followed(kernel: KernelDatapath, far: Far) -> None:
    kernel.configure({far.public_key: far.config})
    assert ping("100.64.0.2")

    def endpoint() -> object:
        far.run("ping", "-n", "-c", "1", "-W", "10", "100.64.0.1")
        return kernel.status().peers[far.public_key].endpoint

    handshake = latest_handshake(kernel, far)
    far.run("wg", "set", "wg0", "listen-port", "4711")
    assert endpoint() == ("192.0.2.2", 4711)
    far.run("wg", "set", "wg0", "peer", encoded(public_key_of(KEY)), "endpoint", f"[2001:db8::1]:{PORT}")
    assert endpoint() == ("2001:db8::2", 4711)
    # What is configured for the others, or for it, does not take it back.
    kernel.configure({far.public_key: dataclasses.replace(far.config, persistent_keepalive=25)})
    assert ping("fd5e::2")
    assert endpoint() == ("2001:db8::2", 4711)
    assert same_session(handshake, latest_handshake(kernel, far))
    far.run("wg", "set", "wg0", "peer", encoded(public_key_of(KEY)), "endpoint", f"192.0.2.1:{PORT}")
    assert endpoint() == ("192.0.2.2", 4711)


def test_an_endpoint_on_a_link(kernel: KernelDatapath, far: Far) -> None:
    local = far.run("sh", "-c", "ip -br -6 addr show dev eth0 scope link").split()[2].partition("/")[0]
    kernel.configure({far.public_key: dataclasses.replace(far.config, endpoint=(f"{local}%eth0", PORT))})
    assert kernel.status().peers[far.public_key].endpoint == (f"{local}%eth0", PORT)
    wait(lambda: ping("100.64.0.2", wait=2), "the link's own address, once it is found to be nobody else's")


def test_while_peers_come_and_go_no_packet_of_another_is_lost(kernel: KernelDatapath, far: Far) -> None:
    kernel.configure({far.public_key: far.config})
    assert ping("100.64.0.2")
    handshake = latest_handshake(kernel, far)
    with subprocess.Popen(
        ["ping", "-n", "-f", "-c", "400", "-i", "0.01", "100.64.0.2"], stdout=subprocess.PIPE, text=True
    ) as steady:
        number = 0
        while steady.poll() is None:
            number += 1
            other = bytes([number % 255 + 1]) * 32
            more = (*far.config.allowed_ips, f"10.{number % 200}.0.0/16")[: 2 + number % 2]
            kernel.configure({
                far.public_key: dataclasses.replace(far.config, allowed_ips=more),
                other: PeerConfig(other, (f"10.200.{number % 200}.0/24",)),
            })  # fmt: skip
        assert steady.stdout is not None
        summary = steady.stdout.read()
    assert "400 packets transmitted, 400 received" in summary
    assert number > 3
    assert same_session(handshake, latest_handshake(kernel, far))


def test_the_underlay_bears_the_mark(kernel: KernelDatapath, far: Far) -> None:
    run("ip", "rule", "add", "fwmark", hex(MARK), "priority", "10", "prohibit")
    kernel.configure({far.public_key: far.config})
    assert not ping("100.64.0.2", wait=2)
    run("ip", "rule", "del", "priority", "10")
    assert ping("100.64.0.2")


def test_a_peer_that_does_not_answer_is_told(kernel: KernelDatapath, far: Far) -> None:
    far.run("ip", "link", "set", "wg0", "down")
    kernel.configure({far.public_key: far.config})

    def initiations() -> int:
        return int(peers_of_wg()[far.public_key][5]) // INITIATION_LENGTH

    assert not ping("100.64.0.2", wait=1)
    # Another one is sent every five seconds.
    assert 1 <= initiations() <= kernel.status().peers[far.public_key].unanswered <= initiations()
    far.run("ip", "link", "set", "wg0", "up")
    assert ping("100.64.0.2")
    assert kernel.status().peers[far.public_key].unanswered == 0


def test_what_is_for_nobody_is_counted(kernel: KernelDatapath, far: Far) -> None:
    assert kernel.status().drops == {}
    assert not ping("100.64.0.99", wait=1)
    assert kernel.status().drops.get("tx-errors", 0) >= 1
