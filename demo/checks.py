"""What the demo shows: each check measures one thing on the lab's hosts, now, and says whether it works."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAB = [str(Path(__file__).parent.parent / "tests" / "lab" / "lab"), "--lab", "demo"]

NODES = ("alpha", "beta", "harbor")
STATIC_PEER = "stock"
DEVICE = "printer"
DEVICE_URLS = ("http://192.168.50.20/random", "http://[fd50:5e9:1::20]/random")
ROUTER_LAN_ADDRESSES = ("192.168.50.1", "fd50:5e9:1::1")
# The plain router that everything to and from the subnet router crosses.
UNDERLAY = "quay-router"

# WireGuard's message types are a byte of 1 to 4 and three of zero, at the start of a UDP payload (whitepaper, 5.4).
WIREGUARD_FILTER = (
    "(udp port 51820 and (udp[8] >= 1 and udp[8] <= 4 and udp[9:2] = 0 and udp[11] = 0)) or "
    "(ip6 proto 17 and (ip6[40:2] = 51820 or ip6[42:2] = 51820) and "
    "(ip6[48] >= 1 and ip6[48] <= 4 and ip6[49:2] = 0 and ip6[51] = 0))"
)
# What links need to work at all: address resolution and router discovery.
LINK_FILTER = "arp or icmp6"


@dataclass(frozen=True)
class Row:
    """One line of the demo's table."""

    what: str
    measured: str
    works: bool


class CheckError(Exception):
    """A check could not be made; the text says what was run and what came back."""


def on(host: str, command: str, *, check: bool = True) -> str:
    """Run a shell command on a lab host; its standard output. Raises CheckError if it fails and `check` is set."""
    done = subprocess.run([*LAB, "exec", host, "--", "sh", "-c", command], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise CheckError(f"{host}: {command}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def mesh_addresses() -> dict[str, list[str]]:
    """Every member's mesh addresses, as one node's agent tells them."""
    status = json.loads(on(NODES[0], "sennit status --json"))
    return {status["node"]: status["addresses"], **{peer["name"]: peer["addresses"] for peer in status["peers"]}}


def ping(source: str, address: str) -> tuple[bool, str]:
    """Three echoes; whether all came back, and the median-ish round trip as ping tells it."""
    output = on(source, f"ping -n -c 3 -i 0.2 -W 3 {shlex.quote(address)}", check=False)
    lost = re.search(r"(\d+)% packet loss", output)
    rtt = re.search(r"= [\d.]+/([\d.]+)/", output)
    return bool(lost and lost[1] == "0"), f"{rtt[1]} ms" if rtt else "no answer"


def pings(sources: tuple[str, ...], targets: tuple[str, ...]) -> Iterator[Row]:
    addresses = mesh_addresses()
    for source in sources:
        for target in targets:
            if source == target:
                continue
            results = [ping(source, address) for address in addresses[target]]
            measured = ", ".join(
                f"{address} {text}" for address, (_, text) in zip(addresses[target], results, strict=True)
            )
            yield Row(f"{source} pings {target}, IPv4 and IPv6", measured, all(ok for ok, _ in results))


class Capture:
    """All packets that cross the underlay's bridge while the block runs, as a pcap file's bytes."""

    def __enter__(self) -> Capture:
        # -U: a packet is written when it is seen, so an interrupt loses none.
        self._process = subprocess.Popen(
            [*LAB, "exec", UNDERLAY, "--", "tcpdump", "-i", "any", "-n", "-U", "-s", "0", "-w", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for line in self._process.stderr:  # type: ignore[union-attr]
            if b"listening on" in line:
                return self
        raise CheckError(f"{UNDERLAY}: tcpdump ended before it listened")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self.pcap, _ = self._process.communicate(timeout=20)

    def count(self, expression: str) -> int:
        """How many of the captured packets match a pcap filter."""
        command = ["tcpdump", "-n", "-r", "-", expression]
        done = subprocess.run(command, input=self.pcap, capture_output=True, check=True)
        return len(done.stdout.splitlines())


def transfer() -> Iterator[Row]:
    """A node fetches a page from a device without an agent; what the device and the underlay saw of it."""
    page = "\n".join(secrets.token_hex(60) for _ in range(2000)).encode()
    subprocess.run(
        [*LAB, "exec", DEVICE, "--", "sh", "-c", "cat > /srv/www/random"], input=page, capture_output=True, check=True
    )
    since = on(DEVICE, "date +%s.%N").strip()
    with Capture() as capture:
        for url in DEVICE_URLS:
            fetched = on("alpha", f"curl -sS --max-time 20 -w '\\n%{{time_total}}' {shlex.quote(url)}", check=False)
            body, _, seconds = fetched.rpartition("\n")
            yield Row(
                f"alpha fetches a page from {DEVICE}, {url}",
                f"{len(body)} of {len(page)} bytes in {seconds or '?'} s",
                body.encode() == page,
            )
    log = on(DEVICE, f"journalctl -u page -o cat --since @{since}")
    sources = re.findall(r'^(\S+) - - .*"GET /random', log, re.MULTILINE)
    sources = [source.removeprefix("::ffff:") for source in sources]
    yield Row(
        f"{DEVICE} saw the subnet router's LAN address as the source",
        ", ".join(sources) or "no request",
        sources == list(ROUTER_LAN_ADDRESSES),
    )
    wireguard = capture.count(WIREGUARD_FILTER)
    others = capture.count(f"not ({WIREGUARD_FILTER}) and not ({LINK_FILTER})")
    # Any stretch of 64 bytes of the page holds a whole aligned block of 32.
    leaked = sum(page[at : at + 32] in capture.pcap for at in range(0, len(page) - 32, 32))
    yield Row(
        "the underlay carried WireGuard datagrams only",
        f"{wireguard} WireGuard, {others} other",
        wireguard > 0 and others == 0,
    )
    yield Row(
        "and none of the page's bytes",
        f"{leaked} of {len(page) // 32} blocks found in {len(capture.pcap)} captured bytes",
        leaked == 0,
    )


def everything() -> Iterator[Row]:
    """Every line of the demo's table but the last (the second run), in order."""
    yield from pings(NODES, NODES)
    yield from transfer()
    yield from pings((STATIC_PEER,), ("alpha", "beta"))
