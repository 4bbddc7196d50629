"""Handshakes a second as responder, and what a flood of bad initiations costs a session that is up.

Callable by itself: `benchmarks/handshakes.py` measures just this. Each responder is measured alone on its switch, with
a host that speaks to it: benchmarks/initiations.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import iperf, records  # noqa: E402
from benchmarks.processes import cpu_seconds  # noqa: E402
from benchmarks.subjects import Sennit, Subject, WireguardGo, available  # noqa: E402
from tests.interop.agents import PORT, Host, Mesh  # noqa: E402
from tests.interop.stock import StockPeer, encoded  # noqa: E402

from sennit.netmap.model import KIND_STATIC, Node  # noqa: E402
from sennit.wireguard import crypto, tai64n  # noqa: E402
from sennit.wireguard.cookie import CookieJar  # noqa: E402
from sennit.wireguard.noise import InitiatorHandshake, StaticKeys  # noqa: E402

PEERS = 1000
# A peer may start one handshake each 20 ms, so they take turns.
HANDSHAKES_A_PEER = 10
# Datagrams a second; of 148 bytes, as initiations are.
FLOOD_RATE = 5_000
# By what the flood is, that to which it is compared: the same to another host, where nobody looks at it. It is what the
# flood costs the machine that all of them share.
FLOODS = {
    "wrong-mac1": "sink",
    "good-mac1": "sink",
    "good-mac1-many-sources": "sink-many-sources",
}
_INITIATIONS = str(ROOT / "benchmarks" / "initiations.py")


@contextlib.contextmanager
def _alone(name: str) -> Iterator[tuple[Subject, Host, Host]]:
    """The subject, up; a host to speak to it from, and one to speak to instead."""
    with (
        tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory,
        Mesh(Path(directory), "near", "far", "flood", "sink") as mesh,
    ):
        near, far, flood, sink = mesh.hosts
        subject = available()[name](near, far)
        subject.up()
        try:
            subject.first_packet()
            yield subject, flood, sink
        finally:
            subject.down()


def _subjects(names: list[str] | None) -> list[str]:
    """Whatever speaks WireGuard in userspace."""
    made = {name: maker for name, maker in available().items() if name.startswith(("sennit-", "wireguard-go-"))}
    return [name for name in made if not names or name in names]


# --- handshakes a second


def _know(subject: Subject, peers: list[StaticKeys]) -> None:
    """Give the far end these peers besides the one it has."""
    far = subject.far
    addresses = [(f"100.64.{64 + number // 250}.{1 + number % 250}", f"fd5e::1:{number:x}") for number in range(PEERS)]
    if isinstance(subject, Sennit):
        nodes = [
            Node(f"peer{number}", KIND_STATIC, keys.public, addresses[number]) for number, keys in enumerate(peers)
        ]
        far.apply(far.mesh.netmap(1000, subject.near.node(), far.node(), *nodes))
    elif isinstance(subject, WireguardGo):
        config = far.directory / "peers.conf"
        config.write_text(
            "".join(
                f"[Peer]\nPublicKey = {encoded(keys.public)}\nAllowedIPs = {','.join(addresses[number])}\n"
                for number, keys in enumerate(peers)
            )
        )
        far.run("wg", "addconf", StockPeer(far).interface, str(config))


def _initiations(responder: bytes, peers: list[StaticKeys], path: Path) -> None:
    """Good ones, in an order in which all of them can be accepted; each has its number as sender index."""
    shared = [crypto.dh(keys.private, responder) for keys in peers]
    jar = CookieJar(responder)
    with path.open("wb") as file:
        for number in range(PEERS * HANDSHAKES_A_PEER):
            handshake = InitiatorHandshake(
                peers[number % PEERS],
                responder,
                shared[number % PEERS],
                ephemeral_private=os.urandom(32),
                local_index=number,
                timestamp=tai64n.tai64n(1_700_000_000.0 + number // PEERS),
            )
            file.write(jar.add_macs(handshake.initiation.to_bytes(), 0.0))


def rate(name: str) -> float:
    """Handshakes a second that the subject answers, with 64 of them on their way at any time."""
    peers = [StaticKeys.of(os.urandom(32)) for _number in range(PEERS)]
    with _alone(name) as (subject, flood, _sink):
        _know(subject, peers)
        path = flood.directory / "initiations"
        _initiations(subject.far.public_key, peers, path)
        return float(flood.run(sys.executable, _INITIATIONS, "answered", str(path), subject.far.underlay[0], str(PORT)))


# --- a flood


def _bad(responder: bytes, kind: str, path: Path) -> None:
    chance = random.Random(1)  # noqa: S311
    jar = CookieJar(responder)
    bad = {"wrong-mac1", *FLOODS.values()}
    with path.open("wb") as file:
        for _number in range(1000):
            message = b"\1\0\0\0" + chance.randbytes(112)
            file.write(message + chance.randbytes(32) if kind in bad else jar.add_macs(message, 0.0))


@contextlib.contextmanager
def _flooded(subject: Subject, flood: Host, sink: Host, kind: str) -> Iterator[None]:
    path = flood.directory / kind
    _bad(subject.far.public_key, kind, path)
    target = sink if kind in FLOODS.values() else subject.far
    sources = "many" if kind.endswith("many-sources") else "one"
    command = ["ip", "netns", "exec", flood.namespace, sys.executable, _INITIATIONS, "flood", str(path)]
    with subprocess.Popen(
        [*command, target.underlay[0], str(PORT), sources, str(FLOOD_RATE)], stdout=subprocess.PIPE
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise RuntimeError("the flood does not start")
            yield
        finally:
            process.kill()


def under_flood(name: str, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """By what the flood is: % that one TCP stream to the flooded end keeps; there, processor microseconds a message."""
    with _alone(name) as (subject, flood, sink):
        # What comes back to the many sources ends with the flood's host.
        subject.far.run("ip", "route", "add", "198.18.0.0/15", "via", flood.underlay[0])
        flood.run("ip", "route", "add", "blackhole", "198.18.0.0/15")
        bound = "import socket, time; s = socket.socket(2, 2); s.bind(('', %d)); print(1, flush=True); time.sleep(1e6)"
        with subprocess.Popen(
            ["ip", "netns", "exec", sink.namespace, "python3", "-c", bound % PORT], stdout=subprocess.PIPE
        ) as listener:
            try:
                if listener.stdout is None or not listener.stdout.readline():
                    raise RuntimeError("the sink does not start")
                throughput: dict[str, float] = {}
                cost: dict[str, float] = {}
                with iperf.server(subject):
                    for kind in dict.fromkeys((*FLOODS, *FLOODS.values())):
                        with _flooded(subject, flood, sink, kind):
                            throughput[kind] = iperf.client(subject, seconds)["sum_received"]["bits_per_second"]
                            before, since = cpu_seconds(subject.processes(subject.far)), time.monotonic()
                            time.sleep(seconds)
                            used = cpu_seconds(subject.processes(subject.far)) - before
                            cost[kind] = 1e6 * used / (FLOOD_RATE * (time.monotonic() - since))
                return {kind: 100 * throughput[kind] / throughput[sunk] for kind, sunk in FLOODS.items()}, cost
            finally:
                listener.kill()


def measure(rounds: int, seconds: float = 3.0, names: list[str] | None = None) -> list[records.Record]:
    found = records.Rounds()
    for _round in range(rounds):
        for name in _subjects(names):
            found.add("handshakes", name, rate(name), "1/s")
        for name in _subjects(names):
            kept, cost = under_flood(name, seconds)
            for kind in FLOODS:
                found.add(f"flood-{kind}", name, kept[kind], "% kept")
                found.add(f"flood-{kind}-cpu", name, cost[kind], "us each")
    return found.records()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for how long under each flood")
    parser.add_argument("--subject", action="append", metavar="NAME", help="only these")
    arguments = parser.parse_args()
    records.save(measure(arguments.rounds, arguments.seconds, arguments.subject))
    print(records.table(records.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
