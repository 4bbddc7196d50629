"""One host of a lab: what is written into its overlay, and the supervisor that keeps it booted.

The supervisor is a process of its own for every host. It makes the host's network namespace, runs systemd-nspawn in
it, and does both again when the host reboots, so that a reboot is a real one: only what is on disk comes back. It
tells its state to whoever connects to its socket, one JSON object a line, the current state first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import cgroup, network
from .commands import run
from .errors import LabError
from .mounts import remove_tree
from .network import Cable
from .resolver import RESOLVERS
from .topology import IFUPDOWN, NETWORK_MANAGER, NETWORKD, Host, Interface, Topology

BOOTING, READY, STOPPED, FAILED = "booting", "ready", "stopped", "failed"

# systemd-nspawn's exit status when the machine asked for a reboot (with --keep-unit it leaves that to its caller).
REBOOT = 133


@dataclass(frozen=True)
class State:
    """What a supervisor tells: how far its machine is, how often it has booted, and its PID 1 as seen from outside."""

    state: str
    boots: int
    leader: int | None


@dataclass(frozen=True)
class Machine:
    """A host of a lab and where its files are."""

    lab: str
    name: str
    directory: Path

    @property
    def namespace(self) -> Path:
        """The host's network namespace; a new one at every boot, under the same path."""
        return network.NETNS / network.namespace(self.lab, self.name)

    @property
    def identity(self) -> str:
        """The host's machine ID: 128 bits in hexadecimal, the same in every run."""
        return hashlib.sha256(f"{self.lab}/{self.name}".encode()).hexdigest()[:32]

    @property
    def root(self) -> Path:
        """The host's file system, an overlay."""
        return self.directory / "root"

    @property
    def console(self) -> Path:
        """What the host wrote to its console, over all boots."""
        return self.directory / "console.log"

    @property
    def socket(self) -> Path:
        """Where the supervisor tells the host's state."""
        return self.directory / "supervisor.sock"

    @property
    def plan(self) -> Path:
        """What the supervisor, and `lab list`, need to know: {"cables", "interfaces"}."""
        return self.directory / "machine.json"


# Where a host's sshd looks for the keys of its root user.
_KEYS = "root/.ssh"


def prepare(machine: Machine, tree: Path, topology: Topology, cables: list[Cable], key: str) -> None:
    """Mount a host's overlay over the suite's tree and write what makes it this host. `key` is the lab's public key."""
    host = topology.hosts[machine.name]
    upper, work = machine.directory / "overlay/upper", machine.directory / "overlay/work"
    for directory in (upper, work, machine.root):
        directory.mkdir(parents=True)
    options = f"lowerdir={tree},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", f"sennit-lab-{machine.lab}", "-o", options, str(machine.root))
    manager, resolver = _MANAGERS[host.manager], RESOLVERS[host.resolver]
    packages = [package for package in (manager.package, resolver.package) if package is not None]
    packages += [f"{package}-" for package in resolver.replaced if _is_installed(machine.root, package)]
    if packages:
        _install(machine.root, packages)
    files = {
        "/etc/hostname": f"{host.name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost ip6-loopback\n",
        "/etc/machine-id": f"{machine.identity}\n",
        f"/{_KEYS}/authorized_keys": key,
        **manager.files(topology, host),
        **resolver.files(host),
        **host.files,
    }
    for path, content in files.items():
        _write(machine.root / path.lstrip("/"), content)
    (machine.root / _KEYS).chmod(0o700)
    for verb, units in (
        ("mask", (*manager.disabled, *resolver.disabled, *(() if host.firewalld else ("firewalld.service",)))),
        ("enable", (*manager.enabled, *host.services)),
    ):
        if units:
            run("systemctl", "--root", str(machine.root), verb, *units)
    plan = {
        "cables": [asdict(cable) for cable in cables],
        "interfaces": {interface.name: [str(a.ip) for a in interface.addresses] for interface in host.interfaces},
    }
    machine.plan.write_text(json.dumps(plan), encoding="utf-8")


def _write(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a link would lead into this machine, not that one
    target.write_text(content, encoding="utf-8")
    if target.suffix == ".nmconnection":
        target.chmod(0o600)  # NetworkManager reads no profile that others may read


def _networkd(topology: Topology, host: Host) -> dict[str, str]:
    """systemd-networkd's files: static addresses, and the default routes on the interface that leads to the gateway."""
    files = {}
    for interface in host.interfaces:
        lines = ["[Match]", f"Name={interface.name}", "", "[Network]", "LinkLocalAddressing=ipv6", "IPv6AcceptRA=no"]
        # The topology rules duplicates out, so that no address has to wait until their detection is over.
        lines += ["IPv6DuplicateAddressDetection=0"]
        lines += [f"Address={address}" for address in interface.addresses]
        lines += [f"Gateway={hop}" for hop in _hops(topology, host, interface)]
        lines += [f"DNS={server}" for server in host.nameservers if interface is host.interfaces[0]]
        files[f"/etc/systemd/network/10-{interface.name}.network"] = "\n".join(lines) + "\n"
    return files


def _network_manager(topology: Topology, host: Host) -> dict[str, str]:
    """The same as profiles of NetworkManager."""
    files = {}
    for interface in host.interfaces:
        lines = ["[connection]", f"id={interface.name}", "type=ethernet", f"interface-name={interface.name}"]
        for version in (4, 6):
            addresses = [address for address in interface.addresses if address.version == version]
            lines += ["", f"[ipv{version}]", f"method={'manual' if addresses else 'disabled'}"]
            lines += [f"address{number}={address}" for number, address in enumerate(addresses, start=1)]
            lines += [f"gateway={hop}" for hop in _hops(topology, host, interface) if hop.version == version][:1]
            if interface is host.interfaces[0]:
                servers = [str(server) for server in host.nameservers if server.version == version]
                lines += [f"dns={';'.join(servers)};"] if servers else []
        files[f"/etc/NetworkManager/system-connections/{interface.name}.nmconnection"] = "\n".join(lines) + "\n"
    return files


def _ifupdown(topology: Topology, host: Host) -> dict[str, str]:
    """The same for ifupdown."""
    lines = ["auto lo", "iface lo inet loopback"]
    for interface in host.interfaces:
        lines += ["", f"auto {interface.name}"]
        for address in interface.addresses:
            lines += [f"iface {interface.name} {'inet' if address.version == 4 else 'inet6'} static"]
            lines += [f"    address {address}"]
            lines += ["    dad-attempts 0"] if address.version == 6 else []
            hops = [hop for hop in _hops(topology, host, interface) if hop in address.network]
            lines += [f"    gateway {hop}" for hop in hops[:1]]
            if address is host.interfaces[0].addresses[0] and host.nameservers:
                lines += [f"    dns-nameservers {' '.join(map(str, host.nameservers))}"]
    return {"/etc/network/interfaces": "\n".join(lines) + "\n"}


def _hops(topology: Topology, host: Host, interface: Interface) -> list[Any]:
    """The host's default routes by this interface."""
    on_link = [address.network for address in interface.addresses]
    return [hop for hop in topology.gateways(host) if any(hop in prefix for prefix in on_link)]


@dataclass(frozen=True)
class Manager:
    """What configures a host's interfaces: its package, its files, and the units that it needs and that it replaces."""

    package: str | None
    files: Callable[[Topology, Host], dict[str, str]]
    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


_NETWORKD_UNITS = ("systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service")
_MANAGERS = {
    NETWORKD: Manager(None, _networkd),
    NETWORK_MANAGER: Manager(
        "network-manager",
        _network_manager,
        ("NetworkManager.service", "NetworkManager-wait-online.service"),
        _NETWORKD_UNITS,
    ),
    IFUPDOWN: Manager("ifupdown", _ifupdown, ("networking.service",), _NETWORKD_UNITS),
}


def _is_installed(root: Path, package: str) -> bool:
    return (root / f"var/lib/dpkg/info/{package}.list").exists()


def _install(root: Path, packages: list[str]) -> None:
    """Install packages from the tree's own repository; remove those with a '-' at the end."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "APT::Sandbox::User=root", *packages]
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8"]
    run("chroot", str(root), *environment, *command)


def start(machine: Machine, program: Path) -> subprocess.Popen[bytes]:
    """Start a host's supervisor; it is up when its socket answers."""
    with machine.console.open("ab") as console:
        return subprocess.Popen(
            [sys.executable, str(program), "supervise", machine.lab, machine.name],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,  # it outlives this terminal
        )


def forget(machine: Machine) -> None:
    """Remove what systemd-nspawn, killed, leaves in /run: its lock on the root, and where it would pass mounts on."""
    nspawn = Path("/run/systemd/nspawn")
    if machine.root.exists():
        root = machine.root.stat()
        (nspawn / f"locks/inode-{root.st_dev}:{root.st_ino}").unlink(missing_ok=True)
    for path in nspawn.glob(f"*/{machine.identity}"):
        remove_tree(path)


def interfaces(machine: Machine) -> dict[str, list[str]]:
    """A host's addresses, by interface."""
    found: dict[str, list[str]] = json.loads(machine.plan.read_text(encoding="utf-8"))["interfaces"]
    return found


def connect(machine: Machine) -> socket.socket | None:
    """A connection to a host's supervisor, or None when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(machine.socket))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def states(connection: socket.socket, timeout: float | None = None) -> Iterator[State]:
    """What a supervisor tells, until it ends. Raises TimeoutError after `timeout` seconds without news."""
    connection.settimeout(timeout)
    # A connection that a supervisor had not accepted when it was killed is reset.
    with connection, connection.makefile("r", encoding="ascii") as lines, contextlib.suppress(ConnectionResetError):
        for line in lines:
            yield State(**json.loads(line))


def current(machine: Machine) -> State | None:
    """A host's state now, or None without a supervisor."""
    connection = connect(machine)
    return None if connection is None else next(states(connection, timeout=60), None)


class Supervisor:
    """Boots a host, and boots it again whenever it asks for that."""

    def __init__(self, machine: Machine) -> None:
        plan = json.loads(machine.plan.read_text(encoding="utf-8"))
        self.machine = machine
        self.cables = [Cable(**cable) for cable in plan["cables"]]
        self.state = State(BOOTING, 0, None)
        self.listeners: list[socket.socket] = []
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Run the host until it powers off; returns the supervisor's exit status."""
        cgroup.enter(self.machine.lab, self.machine.name)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(self.machine.socket))
        server.listen()
        self.selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
        status = REBOOT
        while status == REBOOT:
            status = self._boot()
        self._tell(State(STOPPED if status == 0 else FAILED, self.state.boots, None))
        return status

    def _boot(self) -> int:
        """One boot, from an empty network namespace to the end of the machine; returns nspawn's exit status."""
        self._tell(State(BOOTING, self.state.boots + 1, None))
        network.add_host(self.machine.lab, self.machine.name, self.cables)
        notifications = self._listen_for_notifications()
        nspawn = subprocess.Popen(
            self._nspawn(),
            stdin=subprocess.DEVNULL,
            env={
                "PATH": os.environ["PATH"],
                "NOTIFY_SOCKET": str(self._notify_path),
                # The machine's network namespace is its own, so it may set its sysctls and see its interfaces in /sys.
                "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
                # Recent systemd refuses the older cgroup layout, which the machine outside may still have.
                "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            },
        )
        end = os.pidfd_open(nspawn.pid)
        self.selector.register(end, selectors.EVENT_READ, None)
        ended = False
        while not ended:
            for key, _ in self.selector.select():
                if key.data is None:
                    ended = True
                else:
                    key.data()
        self.selector.unregister(end)
        os.close(end)
        self.selector.unregister(notifications)
        notifications.close()
        return nspawn.wait()

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",  # there may be no systemd outside
            "--keep-unit",
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--console=read-only",
            "--notify-ready=yes",
            f"--machine={self.machine.identity}",
            f"--hostname={self.machine.name}",
            f"--directory={self.machine.root}",
            f"--network-namespace-path={self.machine.namespace}",
            "--capability=CAP_NET_ADMIN",
            "--bind=/dev/net/tun",
        ]

    @property
    def _notify_path(self) -> Path:
        return self.machine.directory / "notify.sock"

    def _listen_for_notifications(self) -> socket.socket:
        self._notify_path.unlink(missing_ok=True)
        notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notifications.bind(str(self._notify_path))
        self.selector.register(notifications, selectors.EVENT_READ, lambda: self._notified(notifications.recv(4096)))
        return notifications

    def _notified(self, message: bytes) -> None:
        """sd_notify's protocol: assignments, one a line."""
        fields = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
        leader = int(fields.get("X_NSPAWN_LEADER_PID", self.state.leader or 0)) or None
        self._tell(State(READY if fields.get("READY") == "1" else self.state.state, self.state.boots, leader))

    def _accept(self, server: socket.socket) -> None:
        listener, _ = server.accept()
        self.listeners.append(listener)
        self._send(listener)

    def _tell(self, state: State) -> None:
        if state != self.state:
            self.state = state
            for listener in list(self.listeners):
                self._send(listener)

    def _send(self, listener: socket.socket) -> None:
        try:
            listener.send(json.dumps(asdict(self.state)).encode() + b"\n", socket.MSG_DONTWAIT)
        except OSError:  # it went away, or does not read
            self.listeners.remove(listener)
            listener.close()


def supervise(machine: Machine) -> int:
    """The supervisor's process; its output goes to the host's console log."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return Supervisor(machine).run()
    except LabError as error:
        print(f"supervisor: {error}", file=sys.stderr, flush=True)
        return 1


def inside(leader: int, command: list[str]) -> list[str]:
    """The command that runs another inside a machine, with its streams and exit status."""
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = ["env", "-i", path, "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
    # Only a child is in the PID namespace. It is the shell's, as nsenter stops for ever when its own has been stopped,
    # and a machine that shuts down stops all for a moment (systemd-shutdown).
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    enter = ["nsenter", "--target", str(leader), *namespaces, "--no-fork", "--root", "--wdns=/root"]
    return [*enter, *environment, *shell, *command]


def answers_ssh(machine: Machine) -> bool:
    """Whether the host's sshd greets on its loopback, where Ansible's connections arrive."""
    command = ["nsenter", f"--net={machine.namespace}", "socat", "-T60", "-", "TCP:127.0.0.1:22"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        greeting: Any = client.stdout.read(4)
        client.kill()
    return bool(greeting == b"SSH-")
