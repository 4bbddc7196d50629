"""What the datapath stands: garbage, large datagrams, a device that is taken away."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.agents import PACKAGE_ROOT, PORT, Host, Lines, Mesh, wait
from tests.interop.processes import name_of
from tests.interop.stock import transfer
from tests.native import library

from sennit.wireguard.constants import COOKIE_REPLY_LENGTH, RESPONSE_LENGTH, UNDER_LOAD_FAILURES

_GARBAGE = """
import random, socket, sys
chance = random.Random(1)
target = (sys.argv[1], int(sys.argv[2]))
with socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM) as source:
    for number in range(int(sys.argv[3])):
        length = chance.choice([0, 1, 31, 32, 64, 92, 148, 1452, chance.randrange(1500)])
        start = chance.choice([b"", b"\\1\\0\\0\\0", b"\\2\\0\\0\\0", b"\\3\\0\\0\\0", b"\\4\\0\\0\\0"])
        source.sendto((start + chance.randbytes(length))[:length], target)
"""

# Initiations with a good mac1 and nothing else that is good, from many ports, until it is ended.
_FLOOD = """
import os, socket, sys, time
from sennit.wireguard.cookie import CookieJar
jar = CookieJar(bytes.fromhex(sys.argv[3]))
sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
while True:
    for source in sources:
        message = jar.add_macs(bytes((1, 0, 0, 0)) + os.urandom(112), 0.0)
        source.sendto(message, (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.05)
"""

_RECEIVE = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as listener:
    listener.bind((sys.argv[1], 4001))
    listener.settimeout(20)
    print("ready", flush=True)
    for _ in range(int(sys.argv[2])):
        print(listener.recv(2000).hex(), flush=True)
"""

_SEND_SEGMENTS = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as source:
    source.setsockopt(socket.IPPROTO_UDP, 103, int(sys.argv[2]))
    source.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], 4001))
"""


@pytest.fixture(params=["python", "native"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    """Two agents with a session, with each of the batch cores."""
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        for host in mesh.hosts:
            host.environment["SENNIT_NATIVE"] = "none" if request.param == "python" else str(library())
        signed = mesh.netmap(1, alpha.node(), beta.node())
        for host in mesh.hosts:
            host.start()
            host.apply(signed)
        alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
        assert alpha.status()["core"] == request.param
        yield alpha, beta


def waiting_for(host: Host) -> int:
    """Bytes that the host's UDP sockets hold, of what was received at WireGuard's port."""
    sockets = host.run("ss", "--no-header", "--udp", "--numeric", "--all", f"sport = :{PORT}")
    return sum(int(line.split()[1]) for line in sockets.splitlines())


def anonymous(pid: int) -> int:
    """kB of memory of its own that a process has."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_garbage_is_counted_and_changes_nothing(pair: tuple[Host, Host], family: int) -> None:
    alpha, beta = pair
    count = 20_000

    def send() -> None:
        beta.run("python3", "-c", _GARBAGE, alpha.underlay[family], str(PORT), str(count))
        # While its buffer is full, the socket loses what is good as well.
        wait(lambda: not waiting_for(alpha), "an empty buffer of the UDP socket")

    send()
    assert alpha.agent is not None
    processes = [
        alpha.agent.pid,
        *(pid for pid in alpha.workers() if name_of(pid) in ("sennit-inbound", "sennit-outbound")),
    ]
    assert {name_of(pid) for pid in processes[1:]} == {"sennit-inbound", "sennit-outbound"}
    before = list(map(anonymous, processes))
    send()
    # The empty ones among them are no drops, and not all others need have found room in the socket's buffer.
    wait(lambda: sum(alpha.status()["drops"].values()) >= count, f"{count} drops")
    drops = alpha.status()["drops"]
    assert {"wrong-length", "unknown-message-type", "unknown-receiver-index", "invalid-mac1"} <= drops.keys()
    assert all(after < earlier + 1024 for after, earlier in zip(map(anonymous, processes), before, strict=True))
    # Until it is answered: while the flood is worked off, a packet may find no room.
    alpha.run("ping", "-n", "-c", "1", "-w", "60", beta.addresses[0])
    assert alpha.peer("beta")["endpoint"] == f"{beta.underlay[0]}:{PORT}"


def test_a_handshake_comes_through_a_flood_with_a_cookie(pair: tuple[Host, Host]) -> None:
    """And the flood is answered with cookies only: to be noticed is all that it costs in Diffie-Hellmans. An agent that
    has just started has no session to go on with.
    """
    alpha, beta = pair

    def drops() -> tuple[int, int]:
        counts = alpha.status()["drops"]
        return counts.get("cookie-required", 0), counts.get("handshake-authentication", 0)

    def wait_for(cookies: int) -> int:
        wait(lambda: drops()[0] >= cookies, "a load that takes cookies")
        return drops()[1]

    command = ["ip", "netns", "exec", beta.namespace, sys.executable, "-c", _FLOOD]
    with subprocess.Popen(
        [*command, alpha.underlay[0], str(PORT), alpha.public_key.hex()],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE_ROOT)},
    ) as flood:
        try:
            at_first = wait_for(1000)
            alpha.run("ping", "-n", "-c", "1", "-W", "10", beta.addresses[0])
            beta.stop(signal.SIGKILL)
            (beta.directory / "run/sessions.json").unlink(missing_ok=True)
            with answers(beta) as answered:
                beta.start()
                beta.run("ping", "-n", "-c", "1", "-W", "30", alpha.addresses[0])
                # Who looks on sees it later than those whom it is for, and nothing more when it is ended.
                answered.wait_for(f"length {RESPONSE_LENGTH}")
            sums = wait_for(drops()[0] + 2000) - at_first
        finally:
            flood.kill()
    assert alpha.peer("beta")["endpoint"] == f"{beta.underlay[0]}:{PORT}"
    lengths = [int(line.rpartition("length ")[2]) for line in str(answered).splitlines()]
    assert next(each for each in lengths if each in (COOKIE_REPLY_LENGTH, RESPONSE_LENGTH)) == COOKIE_REPLY_LENGTH
    # Whoever is not running for a second, on a busy machine, has to notice it again.
    assert sums < 4 * UNDER_LOAD_FAILURES


@contextlib.contextmanager
def answers(host: Host) -> Iterator[Lines]:
    """What comes from another agent to this one while the block runs, in order, each with its length."""
    # tcpdump has room for 8 packets, and finds out for itself which of them have come in: a flood that leaves is not to
    # be among them.
    between = f"udp src port {PORT} and dst port {PORT}"
    listen = ["tcpdump", "--immediate-mode", "-l", "-n", "-i", "eth0", "-Q", "in", between]
    with subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, *listen], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as capture:
        try:
            assert capture.stdout is not None
            assert capture.stderr is not None
            assert any(b"listening on" in line for line in capture.stderr)
            yield Lines(capture.stdout)
        finally:
            capture.terminate()


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_segmented_datagrams_arrive_as_they_were_sent(pair: tuple[Host, Host], family: int) -> None:
    alpha, beta = pair
    content = random.Random(2).randbytes(1200 * 30 + 77)
    with subprocess.Popen(
        ["ip", "netns", "exec", beta.namespace, "python3", "-c", _RECEIVE, beta.addresses[family], "31"],
        stdout=subprocess.PIPE, text=True,
    ) as receiver:  # fmt: skip
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        alpha.run("python3", "-c", _SEND_SEGMENTS, beta.addresses[family], "1200", content.hex())
        received = [bytes.fromhex(line) for line in receiver.stdout]
    assert received == [content[at : at + 1200] for at in range(0, len(content), 1200)]


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_an_underlay_narrower_than_a_sealed_packet(pair: tuple[Host, Host], family: int) -> None:
    """Then the kernel cannot segment for us, and fragments."""
    alpha, beta = pair
    for host in pair:
        host.run("ip", "link", "set", "eth0", "mtu", "1400")
    content = random.Random(3).randbytes(2 << 20)
    assert transfer(alpha, beta, beta.addresses[family], content) == content


def test_without_its_device_the_agent_ends(pair: tuple[Host, Host]) -> None:
    alpha, _beta = pair
    assert alpha.agent is not None
    alpha.run("ip", "link", "del", "sennit0")
    assert alpha.agent.wait(20) == 1
    alpha.agent = None
    alpha.log.wait_for("the interface sennit0 is gone")
    alpha.start()
    assert alpha.status()["listen_port"] == PORT
