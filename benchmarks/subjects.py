"""What is measured: pairs of tunnel ends in network namespaces on one switch (MTU 1500), all of them up at once.

They are measured in turns, so that whatever else the machine does meets all of them alike. An end without traffic
costs the others nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.interop.agents import Host, Mesh, run
from tests.interop.stock import StockPeer

DISTRIBUTION_PYTHON = "/usr/bin/python3"


class Subject:
    """Two hosts with a tunnel between them, under the name in the records."""

    def __init__(self, name: str, near: Host, far: Host) -> None:
        self.name = name
        self.near = near
        self.far = far

    @property
    def address(self) -> str:
        """The far end, through the tunnel."""
        return self.far.addresses[0]

    def up(self) -> None:
        """Bring the tunnel up, as far as a first packet through it."""
        raise NotImplementedError

    def processes(self) -> list[int]:
        """All processes of the near end."""
        raise NotImplementedError

    def _first_packet(self) -> None:
        self.near.run("ping", "-n", "-c", "1", "-W", "10", self.address)


class Sennit(Subject):
    """Two agents with a netmap."""

    def __init__(self, name: str, near: Host, far: Host, python: str) -> None:
        super().__init__(name, near, far)
        near.python = far.python = python

    def up(self) -> None:
        signed = self.near.mesh.netmap(1, self.near.node(), self.far.node())
        for host in (self.near, self.far):
            host.start()
            host.apply(signed)
        self._first_packet()

    def processes(self) -> list[int]:
        if self.near.agent is None:
            return []
        # Besides the datapath's workers, an agent has children for a moment now and then.
        return [self.near.agent.pid, *(pid for pid in self.near.workers() if _name(pid).startswith("sennit-"))]


class WireguardGo(Subject):
    """Two processes of wireguard-go, driven by wg."""

    def __init__(self, name: str, near: Host, far: Host, stack: contextlib.ExitStack) -> None:
        super().__init__(name, near, far)
        self._stack = stack

    def up(self) -> None:
        ends = [self._stack.enter_context(StockPeer(host)) for host in (self.near, self.far)]
        for end, other in zip(ends, reversed(ends), strict=True):
            end.know(other.host, "endpoint", f"{other.host.underlay[0]}:51820")
        self._first_packet()

    def processes(self) -> list[int]:
        pids = run("ip", "netns", "pids", self.near.namespace).split()
        return [int(pid) for pid in pids if _name(int(pid)) == "wireguard-go"]


@contextlib.contextmanager
def running(directory: Path):  # type: ignore[no-untyped-def]
    """All subjects this machine can run, up."""
    names = ["pure-a", "pure-b", "go-a", "go-b", "dist-a", "dist-b"]
    with Mesh(directory, *names) as mesh, contextlib.ExitStack() as stack:
        hosts = {host.name: host for host in mesh.hosts}
        subjects: list[Subject] = [
            Sennit("sennit-pure", hosts["pure-a"], hosts["pure-b"], sys.executable),
            WireguardGo("wireguard-go-2022", hosts["go-a"], hosts["go-b"], stack),
        ]
        if _has_libraries(DISTRIBUTION_PYTHON):
            subjects.insert(1, Sennit("sennit-pure-debian", hosts["dist-a"], hosts["dist-b"], DISTRIBUTION_PYTHON))
        for subject in subjects:
            subject.up()
        yield subjects
        for host in mesh.hosts:
            if host.agent is not None:
                host.stop()


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
