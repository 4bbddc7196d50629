"""Agents in network namespaces, joined by one wire each to a switch: a mesh without machines."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tests.interop.processes import children_of, ending, name_of

from sennit import api
from sennit.key import ensure_private_key
from sennit.netmap.model import KIND_NODE, Netmap, Network, Node
from sennit.netmap.signing import generate_signing_key, sign, verify_key_of
from sennit.wireguard.constants import REKEY_AFTER_TIME

PACKAGE_ROOT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48"))
PORT = 51820
# Seconds until what is waited for is given up: an emulated machine on a busy one is slow.
PATIENCE = 120.0
_numbers = itertools.count()
_ANSWER = r"icmp_seq=(\d+) .*time="


def run(*command: str, check: bool = True) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def wait(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Ask again and again, where no log says when."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.05)


def unit_environment() -> dict[str, str]:
    """What the systemd unit puts into the agent's environment, without the place of the package."""
    unit = (PACKAGE_ROOT / "sennit/sennit.service").read_text()
    lines = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("Environment=")]
    variables = dict(setting.split("=", 1) for line in lines for setting in line.split())
    return {name: value for name, value in variables.items() if name != "PYTHONPATH"}


class Lines:
    """What a process writes, line by line, to be waited for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: list[str] = []
        self._open = True
        self._grown = threading.Condition()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            with self._grown:
                self._lines.append(line.decode().rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._open = False
            self._grown.notify_all()
        stream.close()

    def __str__(self) -> str:
        with self._grown:
            return "\n".join(self._lines)

    def wait_for(self, text: str, times: int = 1, timeout: float = PATIENCE) -> None:
        """Until this many lines have the text in them."""

        def there() -> bool:
            return sum(text in line for line in self._lines) >= times or not self._open

        with self._grown:
            self._grown.wait_for(there, timeout)
            found = sum(text in line for line in self._lines)
        if found < times:
            raise AssertionError(f"{text!r} was there {found} times of {times}\n{self}")


class Notifications:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait_for(self, wanted: str, process: subprocess.Popen[bytes], timeout: float = PATIENCE) -> str:
        """The first notification that begins so. Fails when the process ends or the time is over."""
        deadline = time.monotonic() + timeout
        ended = os.pidfd_open(process.pid)
        try:
            while True:
                ready, _, _ = select.select([self._socket, ended], [], [], max(0.0, deadline - time.monotonic()))
                if self._socket in ready:
                    message = self._socket.recv(4096).decode()
                    if message.startswith(wanted):
                        return message
                elif ended in ready:
                    raise AssertionError(f"the agent ended before {wanted}")
                else:
                    raise AssertionError(f"no {wanted} within {timeout:g} s")
        finally:
            os.close(ended)

    def next(self) -> tuple[str, list[int]]:
        """The next notification, with the descriptors that came with it."""
        if not select.select([self._socket], [], [], PATIENCE)[0]:
            raise AssertionError("no notification")
        message, descriptors, _flags, _sender = socket.recv_fds(self._socket, 4096, 4)
        return message.decode(), descriptors

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


class Host:
    """A network namespace with one interface to the switch, a directory for the agent's files, and perhaps an agent."""

    def __init__(self, mesh: Mesh, name: str, number: int) -> None:
        self.mesh = mesh
        self.name = name
        self.number = number
        self.namespace = f"{mesh.prefix}-{name}"
        self.directory = mesh.directory / name
        self.underlay = (f"192.0.2.{number}", f"2001:db8::{number}")
        self.addresses = (f"100.64.0.{number}", f"fd5e::{number}")
        self.agent: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.descriptors: tuple[int, ...] = ()  # that the agent inherits
        self.python = sys.executable
        self.wrapper: list[str] = []
        """What the agent is started with, before its own command."""
        self.directory.mkdir()
        self.notifications = Notifications(self.directory / "notify")
        (self.directory / "state").mkdir(mode=0o700)
        self.public_key = ensure_private_key(str(self.directory / "state/private.key"))
        self.configure()

    def configure(self, **values: Any) -> None:
        config = {
            "network": NETWORK.name,
            "signing_key": verify_key_of(self.mesh.signing_key),
            "state_dir": str(self.directory / "state"),
            "runtime_dir": str(self.directory / "run"),
            # Namespaces of networks share the machine's files: an agent must not touch its resolv.conf.
            "resolv_conf": str(self.directory / "resolv.conf"),
            **values,
        }
        (self.directory / "agent.json").write_text(json.dumps(config))

    def plug_in(self) -> None:
        switch = f"{self.mesh.prefix}-sw"
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        ipv6 = Path("/proc/net/if_inet6").exists()
        if ipv6:
            # Addresses are as they are to be at once, and not tentative for a second or two.
            self.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        run("ip", "-n", self.namespace, "link", "add", "eth0", "type", "veth",
            "peer", "name", self.name, "netns", switch)  # fmt: skip
        run("ip", "-n", switch, "link", "set", self.name, "master", "br0", "up")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.underlay[0]}/24", "dev", "eth0")
        if ipv6:
            run("ip", "-n", self.namespace, "addr", "add", f"{self.underlay[1]}/64", "dev", "eth0", "nodad")

    def node(self, **changes: Any) -> Node:
        values = {"endpoint": f"{self.underlay[0]}:{PORT}", **changes}
        return Node(self.name, KIND_NODE, self.public_key, self.addresses, **values)

    # --- the agent

    def launch(self) -> subprocess.Popen[bytes]:
        """Start an agent, whatever comes of it."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PACKAGE_ROOT),
            "NOTIFY_SOCKET": str(self.notifications.path),
            **unit_environment(),
            **self.environment,
        }
        command = ["ip", "netns", "exec", self.namespace, *self.wrapper, self.python, "-m", "sennit.service"]
        agent = subprocess.Popen(
            [*command, "--config", str(self.directory / "agent.json")],
            env=environment, stderr=subprocess.PIPE, pass_fds=self.descriptors,
        )  # fmt: skip
        if agent.stderr is None:
            raise AssertionError("there is a pipe")
        self.log = Lines(agent.stderr)
        return agent

    def start(self) -> None:
        """Start the agent, and return when it says that it is ready."""
        if self.agent is not None:
            raise AssertionError(f"an agent runs already on {self.name}")
        self.agent = self.launch()
        try:
            self.notifications.wait_for("READY=1", self.agent)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the agent and return its exit status, when its workers have ended too."""
        if self.agent is None:
            raise AssertionError(f"no agent runs on {self.name}")
        with ending(*self.workers()):
            self.agent.send_signal(number)
            status = self.agent.wait(PATIENCE)
            self.agent = None
        return status

    def workers(self) -> list[int]:
        """The agent's child processes."""
        if self.agent is None:
            return []
        return children_of(self.agent.pid)

    def called(self, name: str) -> list[int]:
        """The agent's child processes of this name. One that was begun a moment ago has the agent's until it runs."""
        if self.agent is None:
            raise AssertionError(f"no agent runs on {self.name}")
        agents_own = name_of(self.agent.pid)
        names: dict[int, str] = {}

        def all_named() -> bool:
            names.clear()
            names.update((pid, name_of(pid)) for pid in self.workers())
            return agents_own not in names.values()

        wait(all_named, "the names of the agent's processes")
        return [pid for pid, found in names.items() if found == name]

    def call(self, method: str, **params: Any) -> Any:
        return api.call(str(self.directory / "run/control.sock"), method, params)

    def apply(self, signed: bytes) -> dict[str, Any]:
        return self.call("netmap.apply", netmap=base64.b64encode(signed).decode())  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        return self.call("status")  # type: ignore[no-any-return]

    def peer(self, name: str) -> dict[str, Any]:
        return next(peer for peer in self.status()["peers"] if peer["name"] == name)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command sennit on this host."""
        return subprocess.run(**self._cli(*arguments), capture_output=True, text=True, check=False)

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The command sennit on this host, as a process that goes on."""
        return subprocess.Popen(**self._cli(*arguments), stdout=subprocess.PIPE)

    def _cli(self, *arguments: str) -> dict[str, Any]:
        return {
            "args": ["ip", "netns", "exec", self.namespace, sys.executable, "-m", "sennit.launcher",
                     "--socket", str(self.directory / "run/control.sock"), *arguments],
            "env": {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        }  # fmt: skip

    # --- the host

    def run(self, *command: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.namespace, *command, check=check)

    def traces(self) -> dict[str, Any]:
        """What an agent leaves on its host: interface, rules and routes; empty when there is none."""
        links = json.loads(self.run("ip", "-j", "link"))
        rules = [
            rule
            for family in ("-4", "-6")
            for rule in json.loads(self.run("ip", "-j", family, "rule"))
            if rule.get("table") == "21472"
        ]
        routes = [
            route["dst"]
            for family in ("-4", "-6")
            for route in json.loads(self.run("ip", "-j", family, "route", "show", "table", "all"))
            if route.get("table") == "21472"
        ]
        found = {"links": [link["ifname"] for link in links if link["ifname"] == "sennit0"]}
        return {what: value for what, value in {**found, "rules": rules, "routes": routes}.items() if value}


class Mesh:
    """Hosts on one switch, and the key that signs their netmap."""

    def __init__(self, directory: Path, *names: str) -> None:
        # The mesh of a module and that of a test in it are there at once.
        self.prefix = f"sag{os.getpid() % 100000}x{next(_numbers)}"  # of interfaces, too: 15 characters are the most
        self.directory = directory
        self.signing_key = generate_signing_key()
        self.hosts = [Host(self, name, number) for number, name in enumerate(names, start=1)]
        self.namespaces: list[str] = []
        """Those besides the switch's and the hosts'."""

    def __enter__(self) -> Mesh:
        switch = f"{self.prefix}-sw"
        try:
            run("ip", "netns", "add", switch)
            run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", switch, "link", "set", "br0", "up")
            for host in self.hosts:
                host.plug_in()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            for host in self.hosts:
                if host.agent is not None:
                    host.stop(signal.SIGKILL)
                host.notifications.close()
        finally:
            for namespace in (f"{self.prefix}-sw", *(host.namespace for host in self.hosts), *self.namespaces):
                run("ip", "netns", "del", namespace, check=False)

    def narrow(self, host: Host, mtu: int) -> None:
        """Have the switch lose what is larger on its way to this host, silently."""
        run("ip", "-n", f"{self.prefix}-sw", "link", "set", host.name, "mtu", str(mtu))

    def netmap(self, version: int, *nodes: Node) -> bytes:
        """A signed netmap of these nodes."""
        payload = Netmap(NETWORK, version, nodes, {node.name: node.addresses for node in nodes}).to_bytes()
        return sign(payload, self.signing_key)


def same_session(before: float, after: float) -> bool:
    """Whether two times of the latest handshake are of one session, or of one that was renewed when it was old."""
    return after == before or after - before >= REKEY_AFTER_TIME


@contextlib.contextmanager
def steady_ping(host: Host, address: str, interval: float = 0.1) -> Iterator[list[int]]:
    """Pings every so many seconds while the block runs; then the list holds the sequence numbers that were lost."""
    lost: list[int] = []
    process = subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, "ping", "-n", "-O", "-i", str(interval), address],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    if process.stdout is None:
        raise AssertionError("there is a pipe")
    lines = Lines(process.stdout)

    def numbers(pattern: str) -> set[int]:
        return set(map(int, re.findall(pattern, str(lines))))

    try:
        lines.wait_for("time=", times=2)
        yield lost
        # On a busy machine several requests are on their way: the answer to one that is sent from now on tells.
        last = max(numbers(r"icmp_seq=(\d+)"))
        wait(lambda: max(numbers(_ANSWER)) > last, f"an answer\n{lines}")
        lost += sorted(set(range(1, last + 1)) - numbers(_ANSWER))
    finally:
        process.kill()
        process.wait()
