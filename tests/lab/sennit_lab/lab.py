"""A whole lab: up, down, reboot. Its state is the directory /run/sennit-lab/NAME, and nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from . import cgroup, limits, machine, network, rootfs
from .commands import run
from .errors import LabError
from .machine import BOOTING, READY, Machine, State
from .mounts import remove_tree
from .topology import Host, Topology

STATE = Path("/run/sennit-lab")
BOOT_TIMEOUT = 180.0  # seconds; a boot takes about one, but the machine may be busy with other things

Say = Callable[[str], None]


@dataclass(frozen=True)
class Lab:
    """A lab by its name, up or not."""

    name: str

    @property
    def directory(self) -> Path:
        return STATE / self.name

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yml"

    def machine(self, host: str) -> Machine:
        return Machine(self.name, host, self.directory / "hosts" / host)

    def hosts(self) -> list[str]:
        """The names of the hosts that the lab was started with."""
        return sorted(path.name for path in (self.directory / "hosts").glob("*"))

    def state(self, host: str) -> State | None:
        """What a host's supervisor says, or None when there is no supervisor."""
        return machine.current(self.machine(host))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no second `up`, `down` or `reboot` work on the same lab meanwhile."""
        STATE.mkdir(parents=True, exist_ok=True)
        path = STATE / f"{self.name}.lock"
        while True:
            with path.open("w", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # A `down` that held it before may have removed the file, and another may hold a new one.
                if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    yield
                    return

    def up(self, topology: Topology, suite: str, say: Say) -> None:
        """Start the lab; nothing to do when it is up with the same topology. `suite` is for hosts that name none."""
        with self.locked():
            suites = {name: host.suite or suite for name, host in topology.hosts.items()}
            trees = {wanted: rootfs.tree(wanted, say) for wanted in sorted(set(suites.values()))}
            description = _digest(topology, {host: trees[wanted] for host, wanted in suites.items()})
            if self._is_up(description):
                say(f"lab {self.name} is up already")
                return
            self._clean(say)
            # What this starts (apt-get on a host, a supervisor) is of the lab, and ends with it if this is killed.
            cgroup.enter(self.name, cgroup.UP)
            limits.raise_limits(say)
            say(f"starting lab {self.name}: {len(topology.hosts)} hosts, {len(topology.routers)} routers")
            started = time.monotonic()
            key = self._prepare_directory()
            plan = network.cables(self.name, topology)
            network.add_switches(self.name, topology)
            for router in topology.routers.values():
                network.add_router(self.name, topology, router, plan[router.name])
            with ThreadPoolExecutor() as pool:
                boots = [
                    pool.submit(self._boot, topology, host, trees[suites[host.name]], plan[host.name], key)
                    for host in topology.hosts.values()
                ]
                for boot in as_completed(boots):
                    say(f"  {boot.result()} is up ({time.monotonic() - started:.1f} s)")
            self._write_inventory(topology)
            # The last thing written: a lab without it was never whole.
            self._description.write_text(description, encoding="ascii")
            say(f"lab {self.name} is up after {time.monotonic() - started:.1f} s; inventory: {self.inventory}")

    def down(self, say: Say) -> None:
        """End the lab and everything it made."""
        with self.locked():
            if not self._clean(say):
                say(f"lab {self.name} is not up")
            (STATE / f"{self.name}.lock").unlink(missing_ok=True)

    def reboot(self, host: str, say: Say) -> None:
        """Reboot one host and wait until it is up again."""
        with self.locked():
            before = self.state(host)
            if before is None or before.state != READY or before.leader is None:
                raise LabError(f"{host} is not up in lab {self.name}")
            started = time.monotonic()
            # As `systemctl reboot`, which the machine's shutdown may end before it can tell that all is well.
            os.kill(before.leader, signal.SIGRTMIN + 5)
            self._wait_ready(host, boots=before.boots + 1)
            say(f"{host} is up again after {time.monotonic() - started:.1f} s")

    def command(self, name: str, command: list[str]) -> list[str]:
        """The command line that runs a command on a host or a plain router of this lab."""
        if name in self.hosts():
            state = self.state(name)
            if state is None or state.leader is None:
                raise LabError(f"{name} is not up in lab {self.name}")
            return machine.inside(state.leader, command)
        namespace = network.namespace(self.name, name)
        if not (network.NETNS / namespace).exists():
            raise LabError(f"lab {self.name} has no host or router {name}")
        return ["ip", "netns", "exec", namespace, *command]

    @property
    def _description(self) -> Path:
        return self.directory / "topology.sha256"

    def _is_up(self, description: str) -> bool:
        if not self._description.exists() or self._description.read_text(encoding="ascii") != description:
            return False
        now = [self.state(host) for host in self.hosts()]
        return all(state is not None and state.state == READY for state in now)

    def _clean(self, say: Say) -> bool:
        """Remove what there is of the lab, whole or in pieces; returns whether there was anything."""
        there = self.directory.exists() or cgroup.exists(self.name) or network.exists(self.name)
        if there:
            say(f"taking down lab {self.name}")
            cgroup.kill(self.name)
            network.remove(self.name)
            for host in self.hosts():
                machine.forget(self.machine(host))
            remove_tree(self.directory)
        return there

    def _prepare_directory(self) -> str:
        """Make the state directory and the key to the hosts; returns the public key."""
        self.directory.mkdir(mode=0o700)
        # The hosts' overlays are in memory: a throw-away host neither waits for a disk nor wears one.
        hosts = self.directory / "hosts"
        hosts.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=80%,mode=0755", f"sennit-lab-{self.name}", str(hosts))
        key = self.directory / "ssh_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"sennit-lab-{self.name}", "-f", str(key))
        return key.with_suffix(".pub").read_text(encoding="ascii")

    def _boot(self, topology: Topology, host: Host, tree: Path, cables: list[network.Cable], key: str) -> str:
        machine.prepare(self.machine(host.name), tree, topology, cables, key)
        supervisor = machine.start(self.machine(host.name), Path(__file__).parent.parent / "lab")
        self._wait_ready(host.name, boots=1, supervisor=supervisor.poll)
        return host.name

    def _wait_ready(self, host: str, boots: int, supervisor: Callable[[], int | None] = lambda: None) -> None:
        """Wait until a host's boot number `boots` is done and its sshd answers; raise LabError if it fails."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        # Python's start is all that this waits for, and it has no event to tell it.
        while (connection := machine.connect(self.machine(host))) is None:
            if supervisor() is not None or time.monotonic() > deadline:
                raise self._failure(host, "its supervisor does not run")
            time.sleep(0.02)
        try:
            for state in machine.states(connection, timeout=BOOT_TIMEOUT):
                if state.state == READY and state.boots >= boots:
                    break
                if state.state not in (BOOTING, READY):
                    raise self._failure(host, f"it is {state.state}")
            else:
                raise self._failure(host, "its supervisor ended")
        except TimeoutError:
            raise self._failure(host, f"it was not up after {BOOT_TIMEOUT:.0f} s") from None
        if not machine.answers_ssh(self.machine(host)):
            raise self._failure(host, "its sshd does not answer")

    def _failure(self, host: str, problem: str) -> LabError:
        console = self.machine(host).console
        tail = console.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return LabError("\n  ".join([f"{host} does not boot: {problem}; its console ({console}):", *tail]))

    def _write_inventory(self, topology: Topology) -> None:
        """Connection variables only: the groups and the collection's own variables are in the user's inventory."""
        hosts = {}
        for name in topology.hosts:
            proxy = f"nsenter --net={self.machine(name).namespace} socat - TCP:127.0.0.1:22"
            hosts[name] = {
                # A name, not an address: ProxyCommand leads to the host, and SSH's shared connections go by this name.
                "ansible_host": f"{self.name}-{name}",
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(self.directory / "ssh_key"),
                "ansible_ssh_common_args": (
                    f"-o ProxyCommand='{proxy}' -o IdentitiesOnly=yes "
                    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
                ),
                "ansible_python_interpreter": "/usr/bin/python3",
            }
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}, width=200), encoding="utf-8")


def labs() -> list[Lab]:
    """Every lab that has state on this machine."""
    return [Lab(path.name) for path in sorted(STATE.glob("*")) if path.is_dir()]


def _digest(topology: Topology, trees: dict[str, Path]) -> str:
    text = json.dumps([repr(topology), {host: str(tree) for host, tree in sorted(trees.items())}])
    return hashlib.sha256(text.encode()).hexdigest()
