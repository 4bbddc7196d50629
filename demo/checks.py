"""What the demo shows: each check measures one thing on the lab's hosts, now, and says whether it works."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAB = [str(Path(__file__).parent.parent / "tests" / "lab" / "lab"), "--lab", "demo"]

NODES = ("alpha", "beta", "harbor", "wharf")
STATIC_PEER = "stock"
BEACON = "alpha"
# Behind NAT. Of two of these, one has to be found by the beacon and the other has to be relayed.
WRITER, GUEST, RIDER = "writer", "guest", "rider"
DOMAIN = "demo.internal"
# Each host's addresses, IPv4 and IPv6, as tests/lab/topologies/demo.yml gives them.
PRINTER = ("192.168.50.20", "fd50:5e9:1::20")
CAMERA = ("192.168.50.30", "fd50:5e9:1::30")
CRANE = ("192.168.60.30", "fd50:5e9:2::30")
SPEAKER = ("198.51.100.50", "2001:db8:2::50")
NAMESERVER = ("192.168.50.53", "fd50:5e9:1::53")
WEB = ("203.0.113.80", "2001:db8::80")
BETA = ("198.51.100.42", "2001:db8:2::10")
HARBOR = ("198.51.100.74", "2001:db8:3::10")
HARBOR_ON_LAN = ("192.168.50.1", "fd50:5e9:1::1")
# The plain router that everything to and from the subnet router crosses.
UNDERLAY = "quay-router"

# WireGuard's message types are a byte of 1 to 4 and three of zero, at the start of a UDP payload (whitepaper, 5.4).
WIREGUARD_FILTER = (
    "(udp port 51820 and (udp[8] >= 1 and udp[8] <= 4 and udp[9:2] = 0 and udp[11] = 0)) or "
    "(ip6 proto 17 and (ip6[40:2] = 51820 or ip6[42:2] = 51820) and "
    "(ip6[48] >= 1 and ip6[48] <= 4 and ip6[49:2] = 0 and ip6[51] = 0))"
)
DNS_FILTER = "port 53 or port 5353 or port 5355"
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


def ping(source: str, address: str) -> float | None:
    """Three echoes; the mean round trip in ms, or None if one of them was lost."""
    output = on(source, f"ping -n -c 3 -i 0.2 -W 3 {shlex.quote(address)}", check=False)
    rtt = re.search(r" 0% packet loss.*= [\d.]+/([\d.]+)/", output, re.DOTALL)
    return float(rtt[1]) if rtt else None


def pings(sources: tuple[str, ...], targets: tuple[str, ...]) -> Iterator[Row]:
    addresses = mesh_addresses()
    for source in sources:
        others = [target for target in targets if target != source]
        wanted = [address for target in others for address in addresses[target]]
        answers = [(address, ping(source, address)) for address in wanted]
        times = [rtt for _, rtt in answers if rtt is not None]
        silent = [address for address, rtt in answers if rtt is None]
        measured = f"{len(times)} of {len(wanted)} addresses answer" + (
            f", in {max(times)} ms or less" if times else ""
        )
        if silent:
            measured += f"; silent: {', '.join(silent)}"
        yield Row(f"{source} pings {', '.join(others)} by mesh address, IPv4 and IPv6", measured, not silent)


def url(address: str, page: str = "") -> str:
    return f"http://[{address}]/{page}" if ":" in address else f"http://{address}/{page}"


def fetch(source: str, address: str, page: str = "") -> tuple[str, str]:
    """The page (empty if there was no answer in time), and the seconds it took or what was wrong."""
    command = f"curl -sS --max-time 10 -w '\\n%{{time_total}} s' {shlex.quote(url(address, page))} 2>&1"
    body, _, seconds = on(source, command, check=False).rpartition("\n")
    return (body, seconds) if "curl: (" not in body else ("", body.strip())


class Visitors:
    """As whom visitors are seen by a host's web server, from now on."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._since = on(host, "date +%s.%N").strip()

    def seen(self) -> list[str]:
        # What the server has written is in the journal a little later.
        log = on(self._host, f"journalctl --sync; journalctl -u page -o cat --since @{self._since}")
        return [source.removeprefix("::ffff:") for source in re.findall(r'^(\S+) - - .*"GET /', log, re.MULTILINE)]


def visits(what: str, source: str, host: str, addresses: tuple[str, ...], seen_as: tuple[str, ...]) -> Row:
    """A page fetched from each address of a host; who the host says it was."""
    visitors = Visitors(host)
    pages = [fetch(source, address) for address in addresses]
    seen = visitors.seen()
    problems = [f"{address}: {note}" for address, (page, note) in zip(addresses, pages, strict=True) if not page]
    return Row(what, "; ".join([f"{host} saw {', '.join(seen) or 'nobody'}", *problems]), seen == list(seen_as))


class Capture:
    """All packets that cross the underlay's bridge while the block runs, as a pcap file's bytes."""

    def __enter__(self) -> Capture:
        # Into a file, which takes as much as there is; a pipe that nobody reads takes 64 KB.
        # A packet is handed over and written when it is seen, so an interrupt loses none.
        self._file = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*LAB, "exec", UNDERLAY, "--", "tcpdump", "--immediate-mode", "-i", "any", "-n", "-U", "-w", "-"],
            stdout=self._file,
            stderr=subprocess.PIPE,
        )
        for line in self._process.stderr:  # type: ignore[union-attr]
            if b"listening on" in line:
                return self
        raise CheckError(f"{UNDERLAY}: tcpdump ended before it listened")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)
        with self._file as file:
            file.seek(0)
            self.pcap = file.read()

    def count(self, expression: str) -> int:
        """How many of the captured packets match a pcap filter."""
        command = ["tcpdump", "-n", "-r", "-", expression]
        done = subprocess.run(command, input=self.pcap, capture_output=True, check=True)
        return len(done.stdout.splitlines())


def transfer() -> Iterator[Row]:
    """A node fetches a page from a device without an agent; what the device and the underlay saw of it."""
    page = "\n".join(secrets.token_hex(60) for _ in range(2000)).encode()
    subprocess.run(
        [*LAB, "exec", "printer", "--", "sh", "-c", "cat > /srv/www/random"],
        input=page,
        capture_output=True,
        check=True,
    )
    visitors = Visitors("printer")
    with Capture() as capture:
        for address in PRINTER:
            body, seconds = fetch("alpha", address, "random")
            yield Row(
                f"alpha fetches a page from printer, {url(address)}",
                f"{len(body)} of {len(page)} bytes, {seconds}",
                body.encode() == page,
            )
    seen = visitors.seen()
    yield Row(
        "printer saw the subnet router's LAN address as the source",
        ", ".join(seen) or "nobody",
        seen == list(HARBOR_ON_LAN),
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


def names() -> Iterator[Row]:
    """Names of the mesh, and of a domain that a nameserver behind the subnet router knows, as libc finds them."""
    members = {name: addresses for name, addresses in mesh_addresses().items() if name != "alpha"}
    with Capture() as capture:
        wrong = [name for name, addresses in members.items() if libc_addresses("alpha", name) != sorted(addresses)]
        everywhere = [address for addresses in members.values() for address in addresses]
        back = {address: on("alpha", f"getent hosts {address}", check=False).split() for address in everywhere}
        company = [answer("beta", f"printer.company.test {kind}") for kind in ("A", "AAAA")]
        reverse = answer("beta", f"{ipaddress.ip_address(PRINTER[0]).reverse_pointer} PTR")
        page, seconds = fetch("beta", "printer.company.test")
    yield Row(
        "alpha finds every member of the mesh by its short name",
        f"{len(members) - len(wrong)} of {len(members)}: {', '.join(members)}",
        not wrong,
    )
    named = [
        name
        for name, addresses in members.items()
        for address in addresses
        if back[address][1:2] == [f"{name}.{DOMAIN}"]
    ]
    yield Row("and the names of their addresses", f"{len(named)} of {len(everywhere)}", len(named) == len(everywhere))
    for address, result in zip(PRINTER, company, strict=True):
        yield told("beta asks the nameserver behind harbor for printer.company.test", result, address)
    yield told(f"and for the name of {PRINTER[0]}", reverse, "printer.company.test.")
    yield Row("beta fetches http://printer.company.test/", f"{len(page)} bytes, {seconds}", "Printer" in page)
    wireguard, asked = capture.count(WIREGUARD_FILTER), capture.count(DNS_FILTER)
    yield Row(
        "the underlay carried none of these questions",
        f"{wireguard} WireGuard, {asked} DNS",
        wireguard > 0 and asked == 0,
    )


def libc_addresses(host: str, name: str) -> list[str]:
    return sorted(set(re.findall(r"^(\S+) +STREAM", on(host, f"getent ahosts {name}", check=False), re.MULTILINE)))


def answer(host: str, question: str) -> dict[str, Any]:
    """What `sennit dns query` tells; an empty mapping if it cannot."""
    output = on(host, f"sennit dns query --json {question}", check=False)
    return dict(json.loads(output)) if output else {}


def told(what: str, result: dict[str, Any], wanted: str) -> Row:
    data = [line.split()[-1] for line in result.get("answers", ())]
    measured = (
        f"{', '.join(data) or 'nothing'}, from {result.get('server')}, in {1000 * result.get('seconds', 0):.1f} ms"
    )
    return Row(what, measured, data == [wanted] and result["server"] in NAMESERVER)


def site_to_site() -> Iterator[Row]:
    """Devices without the agent, each behind its site's subnet router."""
    yield visits("camera fetches from crane, on the other site, which sees camera", "camera", "crane", CRANE, CAMERA)
    yield visits("crane fetches from camera, whose router masquerades", "crane", "camera", CAMERA, HARBOR_ON_LAN)


def exit_node() -> Iterator[Row]:
    """beta sends all its traffic through harbor, and then again by itself."""
    yield visits("without an exit node, web sees beta itself", "beta", "web", WEB, BETA)
    on("beta", "sennit set --exit-node harbor")
    try:
        yield visits("beta with exit node harbor: web sees harbor's outside address", "beta", "web", WEB, HARBOR)
        yield visits("beta without LAN access: not even a device on its own LAN", "beta", "speaker", SPEAKER[:1], ())
        on("beta", "sennit set --exit-node-allow-lan-access")
        yield visits("beta with LAN access: the device sees beta itself", "beta", "speaker", SPEAKER, BETA)
    finally:
        on("beta", "sennit set --exit-node none --no-exit-node-allow-lan-access")


def behind_nat() -> Iterator[Row]:
    """Two pairs of nodes, each node behind a NAT of its own."""
    yield between(f"{WRITER} and {GUEST}, behind two NATs, find a direct path", WRITER, GUEST, "direct")
    yield between(
        f"{GUEST} and {RIDER}, whose NATs allow none, are relayed by {BEACON}", GUEST, RIDER, f"relayed by {BEACON}"
    )


def between(what: str, one: str, other: str, wanted: str) -> Row:
    """The path that two nodes settle on, and a transfer over it."""
    address = mesh_addresses()[other][0]
    ping(one, address)
    path = endpoint = ""
    deadline = time.monotonic() + 30
    while path != wanted and time.monotonic() < deadline:
        path, endpoint = path_to(one, other)
        time.sleep(0.2)
    on(other, "head -c 4000000 /dev/urandom > /var/tmp/large")
    digest = on(other, "sha256sum < /var/tmp/large")
    on(other, "systemd-run --quiet --collect --unit serve python3 -m http.server --bind :: --directory /var/tmp 8080")
    try:
        # The server may take a moment.
        options = "--silent --retry 20 --retry-delay 1 --retry-connrefused --max-time 60"
        fetched = on(one, f"curl {options} http://{address}:8080/large | sha256sum", check=False)
    finally:
        on(other, "systemctl stop serve")
    rtt = ping(one, address)
    arrived = "4 MB arrived whole" if fetched == digest else "4 MB did not arrive"
    measured = f"{path or 'no path'}, {endpoint}; round trip {rtt} ms; {arrived} by TCP"
    return Row(what, measured, path == wanted and rtt is not None and fetched == digest)


def path_to(one: str, other: str) -> tuple[str, str]:
    """How a node reaches another just now, and its endpoint; empty if it does not."""
    peers = json.loads(on(one, "sennit status --json"))["peers"]
    peer = next(peer for peer in peers if peer["name"] == other)
    path = peer["path"] or {"kind": "", "relay": None}
    return f"relayed by {path['relay']}" if path["relay"] else path["kind"], peer["endpoint"] or ""


class OutOfReach:
    """While the block runs, Ansible cannot reach the host."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        rule = "tcp dport 22 reject with tcp reset"
        chain = "chain inet closed input { type filter hook input priority 0; }"
        on(self._host, f"nft 'add table inet closed; add {chain}; add rule inet closed input {rule}'")

    def __exit__(self, *_: object) -> None:
        on(self._host, "nft delete table inet closed")


def pushed(name: str, since: float) -> Row:
    """Whether a name that a play has just made is known where that play could not go. ``since``: the play's end."""
    found: list[str] = []
    while not found and time.monotonic() < since + 30:
        found = libc_addresses(RIDER, f"{name}.{DOMAIN}")
    seconds = time.monotonic() - since
    netmap = json.loads(on(RIDER, "sennit status --json"))["netmap"]
    return Row(
        f"site.yml adds the name {name}; {RIDER}, which Ansible cannot reach, knows it",
        f"{', '.join(found) or 'not found'}, {max(seconds, 0):.1f} s after the play at most; version "
        f"{netmap['version']}, from {netmap['origin']}",
        bool(found) and netmap["origin"] == f"beacon {BEACON}",
    )


def everything() -> Iterator[Row]:
    """Every line of the demo's table but the last ones, which run a playbook, in order."""
    yield from pings(NODES, NODES)
    yield from transfer()
    yield from pings((STATIC_PEER,), ("alpha", "beta"))
    yield from names()
    yield from site_to_site()
    yield from exit_node()
    yield from behind_nat()
