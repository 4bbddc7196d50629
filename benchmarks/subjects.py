"""What is measured: pairs of tunnel ends in network namespaces on one switch (MTU 1500), all of them up at once.

They are measured in turns, so that whatever else the machine does meets all of them alike. An end without traffic
costs the others nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import debian
from tests.interop.agents import Host, Lines, Mesh, run
from tests.interop.stock import StockPeer
from tests.native import library

DISTRIBUTION_PYTHON = "/usr/bin/python3"
INSTALLED_WIREGUARD_GO = "wireguard-go-2022"  # Debian 12's
WORKERS = ("sennit-outbound", "sennit-inbound")
PURE, NATIVE, VETH = "sennit-pure", "sennit-native", "veth"


MTU = 1420
"""Inside, of all of them."""


class Subject:
    """Two hosts with a way between them, under the name in the records."""

    tunnel = True
    silent = True  # it sends nothing until there is something to send

    def __init__(self, name: str, near: Host, far: Host) -> None:
        self.name = name
        self.near = near
        self.far = far

    @property
    def address(self) -> str:
        """The far end, through the tunnel."""
        return self.far.addresses[0]

    def up(self) -> None:
        """Bring it up, without sending anything."""
        raise NotImplementedError

    def down(self) -> None:
        """End what up() started, so that it can be brought up again."""
        raise NotImplementedError

    def processes(self, host: Host) -> list[int]:
        """All processes of the tunnel's end on this host."""
        raise NotImplementedError

    def first_packet(self) -> None:
        self.near.run("ping", "-n", "-c", "1", "-W", "10", self.address)


class Sennit(Subject):
    """Two agents with a netmap. library: of the native core; without one, Python's runs."""

    def __init__(
        self, name: str, near: Host, far: Host, python: str = sys.executable, library: Path | None = None
    ) -> None:
        super().__init__(name, near, far)
        for host in (near, far):
            host.python = python
            host.configure(mtu=MTU)
            host.environment["SENNIT_NATIVE"] = str(library or "none")
        self._version = 0

    def up(self) -> None:
        self._version += 1
        signed = self.near.mesh.netmap(self._version, self.near.node(), self.far.node())
        for host in (self.near, self.far):
            host.start()
            host.apply(signed)

    def down(self) -> None:
        for host in (self.near, self.far):
            host.stop()

    def processes(self, host: Host) -> list[int]:
        if host.agent is None:
            return []
        # Without the resolver and other children of the agent, which have no part in the datapath.
        return [host.agent.pid, *(pid for pid in host.workers() if _name(pid) in WORKERS)]


class WireguardGo(Subject):
    """Two processes of wireguard-go, driven by wg."""

    def __init__(self, name: str, near: Host, far: Host, program: str) -> None:
        super().__init__(name, near, far)
        self._ends = [StockPeer(host, program) for host in (near, far)]
        self._up = contextlib.ExitStack()

    def up(self) -> None:
        for end in self._ends:
            self._up.enter_context(end)
        for end, other in zip(self._ends, reversed(self._ends), strict=True):
            end.know(other.host, "endpoint", f"{other.host.underlay[0]}:51820")

    def down(self) -> None:
        self._up.close()

    @property
    def interface(self) -> str:
        """The near end's."""
        return self._ends[0].interface

    def processes(self, host: Host) -> list[int]:
        return _named("wireguard-go", host)


class Nebula(Subject):
    """Two nodes of Nebula; the far one is the near one's lighthouse."""

    silent = False
    _CONFIG = """
pki: {{ca: {ca}.crt, cert: {name}.crt, key: {name}.key}}
static_host_map: {{"{lighthouse}": ["{endpoint}:4242"]}}
lighthouse: {{am_lighthouse: {is_lighthouse}, hosts: [{hosts}]}}
listen: {{host: 0.0.0.0, port: 4242}}
tun: {{dev: nebula0, mtu: {mtu}}}
firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}
"""

    def __init__(self, name: str, near: Host, far: Host, programs: Path) -> None:
        super().__init__(name, near, far)
        self._programs = programs
        self._running: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        authority = self.near.mesh.directory / self.name
        if not authority.with_suffix(".crt").exists():
            self._certify(authority)
        for host in (self.far, self.near):
            config = self._CONFIG.format(
                ca=authority,
                name=host.directory / "nebula",
                lighthouse=self.address,
                endpoint=self.far.underlay[0],
                is_lighthouse=str(host is self.far).lower(),
                mtu=MTU,
                hosts="" if host is self.far else f'"{self.address}"',
            )
            (host.directory / "nebula.yml").write_text(config)
            process = subprocess.Popen(
                ["ip", "netns", "exec", host.namespace,
                 self._programs / "nebula", "-config", host.directory / "nebula.yml"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._running.append(process)
            if process.stdout is None:
                raise AssertionError("there is a pipe")
            Lines(process.stdout).wait_for("Nebula interface is active")

    def _certify(self, authority: Path) -> None:
        certify = [str(self._programs / "nebula-cert")]
        run(*certify, "ca", "-name", "bench", "-out-crt", f"{authority}.crt", "-out-key", f"{authority}.key")
        for host in (self.near, self.far):
            own = host.directory / "nebula"
            run(*certify, "sign", "-ca-crt", f"{authority}.crt", "-ca-key", f"{authority}.key", "-name", host.name,
                "-ip", f"{host.addresses[0]}/10", "-out-crt", f"{own}.crt", "-out-key", f"{own}.key")  # fmt: skip

    def down(self) -> None:
        for process in self._running:
            process.terminate()
            process.wait()
        self._running.clear()

    def processes(self, host: Host) -> list[int]:
        return _named("nebula", host)


class Veth(Subject):
    """No tunnel: what the wire below all of them carries."""

    tunnel = False

    @property
    def address(self) -> str:
        return self.far.underlay[0]

    def up(self) -> None:
        pass

    def down(self) -> None:
        pass

    def processes(self, host: Host) -> list[int]:
        return []


Make = Callable[[Host, Host], Subject]


def available() -> dict[str, Make]:
    """What this machine can run, by name."""
    core = library()
    makers: dict[str, Make] = {
        PURE: lambda near, far: Sennit(PURE, near, far),
        NATIVE: lambda near, far: Sennit(NATIVE, near, far, library=core),
        INSTALLED_WIREGUARD_GO: lambda near, far: WireguardGo(INSTALLED_WIREGUARD_GO, near, far, "wireguard-go"),
        VETH: lambda near, far: Veth(VETH, near, far),
    }
    if _has_libraries(DISTRIBUTION_PYTHON):
        name = f"{PURE}-debian"
        makers[name] = lambda near, far: Sennit(name, near, far, DISTRIBUTION_PYTHON)
    newest = debian.unpacked("wireguard-go")
    if newest is not None:
        program = str(newest[0] / "usr/bin/wireguard-go")
        current = f"wireguard-go-{_year(newest[1])}"
        makers.setdefault(current, lambda near, far: WireguardGo(current, near, far, program))
    nebula = debian.unpacked("nebula")
    if nebula is not None:
        programs = nebula[0] / "usr/bin"
        makers["nebula"] = lambda near, far: Nebula("nebula", near, far, programs)
    return makers


@contextlib.contextmanager
def running(directory: Path) -> Iterator[list[Subject]]:
    """All subjects this machine can run, up, and with a first packet through each."""
    makers = available()
    names = [f"{side}{number}" for number in range(len(makers)) for side in ("near", "far")]
    with Mesh(directory, *names) as mesh, contextlib.ExitStack() as stack:
        subjects = []
        for number, make in enumerate(makers.values()):
            subject = make(*mesh.hosts[2 * number : 2 * number + 2])
            subject.up()
            stack.callback(subject.down)
            subject.first_packet()
            subjects.append(subject)
        yield subjects


@contextlib.contextmanager
def alone(make: Make) -> Iterator[Subject]:
    """One subject on hosts of its own, not up."""
    with tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory, Mesh(Path(directory), "near", "far") as mesh:
        yield make(*mesh.hosts)


def _year(version: str) -> str:
    """Of wireguard-go's 0.0.20260522-1."""
    return version.split(".")[2][:4]


def _named(name: str, host: Host) -> list[int]:
    return [int(pid) for pid in run("ip", "netns", "pids", host.namespace).split() if _name(int(pid)) == name]


def _name(pid: int) -> str:
    """Of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _has_libraries(python: str) -> bool:
    """Whether the distribution's packages of what the agent needs are installed."""
    command = [python, "-c", "import nacl, pyroute2, tabulate"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
