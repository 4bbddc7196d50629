"""Real nameservers, and the stub resolver's process, in the network namespace that the test or benchmark is in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.interop.agents import PATIENCE, Lines, wait
from tests.interop.namespaces import add_address
from tests.interop.processes import children_of, named

from sennit.dns.process import StubResolver
from sennit.dns.settings import Settings
from sennit.netmap.names import DnsView, Rule

PROBE = b"\x00\x01" + bytes((1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + b"\x05ready\x04test\x00\x00\x01\x00\x01"


@contextlib.contextmanager
def dnsmasq(
    directory: Path, address: str, names: Mapping[str, str] = {}, servers: Sequence[str] = (), *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """dnsmasq at this address, with these names, and these servers for all others."""
    hosts = directory / f"hosts-{address}"
    hosts.write_text("".join(f"{value} {name}\n" for name, value in names.items()))
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-",
        "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", "--bind-interfaces", f"--listen-address={address}",
        *(f"--server={server}" for server in servers), *options,
    ]  # fmt: skip
    with _process(address, command) as process:
        yield process


@contextlib.contextmanager
def unbound(
    directory: Path, address: str, names: Mapping[str, str] = {}, servers: Sequence[str] = (), *lines: str
) -> Iterator[subprocess.Popen[bytes]]:
    """unbound at this address, with these names, and these servers for all others."""
    configuration = directory / f"unbound-{address}.conf"
    forward = [f"  forward-addr: {server}" for server in servers]
    configuration.write_text(
        "\n".join([
            "server:", f"  interface: {address}", "  do-daemonize: no", '  username: ""', '  chroot: ""',
            '  pidfile: ""', "  use-syslog: no", "  access-control: 0.0.0.0/0 allow", "  access-control: ::/0 allow",
            "  do-not-query-localhost: no", '  module-config: "iterator"', "  num-threads: 1",
            '  local-zone: "test." nodefault', *lines,
            *(f'  local-data: "{name} 0 IN A {value}"' for name, value in names.items()),
            *(['forward-zone:', '  name: "."', *forward] if forward else []),
        ]) + "\n"
    )  # fmt: skip
    with _process(address, ["unbound", "-d", "-p", "-c", str(configuration)]) as process:
        yield process


@contextlib.contextmanager
def _process(address: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.stdout is None:
        raise AssertionError("there is a pipe")
    lines = Lines(process.stdout)
    try:
        wait_for_answer(address, process, lines)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def wait_for_answer(address: str, process: subprocess.Popen[bytes], lines: Lines) -> None:
    """Until whatever answers at this address answers."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.connect((address, 53))

        def answers() -> bool:
            # Refused at once where nobody listens yet.
            with contextlib.suppress(OSError):
                client.send(PROBE)
                client.recv(512)
                return True
            if process.poll() is not None:
                raise AssertionError(f"what was to answer at {address} has ended\n{lines}")
            return False

        wait(answers, f"an answer from {address}\n{lines}")


# --- the stub resolver


def settings(
    names: Mapping[str, str | Sequence[str]],
    rules: Mapping[str, Sequence[str]] | None = None,
    default: Sequence[str] = (),
    **values: Any,
) -> Settings:
    """What the agent would tell the resolver. names: each with its address or addresses."""
    addresses = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in names.items()}
    view: dict[str, Any] = {
        "domain": "demo.internal",
        "addresses": addresses,
        "aliases": {},
        "pools": ("100.64.0.0/10", "fd5e::/48"),
        "pointers": {address: name for name, each in addresses.items() for address in each},
        "rules": tuple(Rule(suffix, tuple(nameservers)) for suffix, nameservers in (rules or {}).items()),
        "search": ("demo.internal",),
        "nameservers": (),
        "override": False,
        "stub": ("100.100.100.100", "fd5e::24:6464"),
    }
    return Settings(DnsView(**{**view, **values}), tuple(default))


class Resolver:
    """The agent's handle of the stub resolver, with an event loop of its own in the namespace of the caller."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._changed = threading.Event()
        self.handle = StubResolver(self._changed.set)

    def __enter__(self) -> Resolver:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._do(self.handle.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def configure(self, wanted: Settings) -> None:
        self._do(self.handle.configure(wanted))

    def status(self) -> dict[str, Any]:
        return self._do(self.handle.status())  # type: ignore[no-any-return]

    def query(self, name: str, type_name: str = "A") -> dict[str, Any]:
        return self._do(self.handle.query(name, type_name))  # type: ignore[no-any-return]

    def problem(self, text: str) -> str:
        """The first problem with this text in it, awaited."""
        self._wait(lambda: any(text in problem for problem in self.handle.problems), f"a problem with {text!r}")
        return next(problem for problem in self.handle.problems if text in problem)

    def wait_for_another(self, pid: int) -> None:
        """Until a process other than this one answers."""
        # In this order: when there is another one, what the first listened at is forgotten.
        self._wait(lambda: self.pids not in ([], [pid]) and bool(self.handle.listening), "another process")

    def _wait(self, there: Callable[[], bool], what: str) -> None:
        while True:
            self._changed.clear()
            if there():
                return
            if not self._changed.wait(PATIENCE):
                raise AssertionError(f"not there: {what}; {self.handle.problems}, {self.handle.listening}")

    @property
    def pids(self) -> list[int]:
        """The resolver's processes."""
        return named("sennit-dns", children_of(os.getpid()))


@contextlib.contextmanager
def stub(names: Mapping[str, str | Sequence[str]], **values: Any) -> Iterator[Resolver]:
    """The stub resolver with these settings; its addresses are on the loopback device for the length of the block."""
    wanted = settings(names, **values)
    for address in wanted.view.stub:
        add_address(address, "lo")
    with Resolver() as resolver:
        resolver.configure(wanted)
        yield resolver
