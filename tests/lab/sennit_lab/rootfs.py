"""One Debian file system a suite, built by mmdebstrap from the machine's own package sources and kept.

A tree is named by a digest of its recipe, so changing the recipe builds another one. It is built beside its final
place and renamed when it is whole; a build that was killed leaves nothing that a later one could take for a tree.

Hosts of a lab have no internet. What the collection installs on them (the agent's libraries, WireGuard's stock
tools) waits in an APT repository inside the tree, so that a role's package task does real work. So does what only some
hosts are made with.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import run
from .errors import LabError
from .mounts import remove_tree
from .sources import sources

CACHE = Path("/var/cache/sennit-lab")

# What a small server has when it is handed over: enough for Ansible, a firewall, and looking around.
INSTALLED = [
    "curl",
    "dbus",
    "firewalld",
    "iproute2",
    "iputils-ping",
    "netbase",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tcpdump",
]
INSTALLED_IN_SUITE = {
    "bullseye": [],  # there systemd-resolved is part of systemd
    "bookworm": ["systemd-resolved"],
    "trixie": ["systemd-resolved"],
}

# What can be installed later, without a network.
OFFERED = [
    "bind9-dnsutils",
    "dnsmasq",
    "ifupdown",
    "iperf3",
    "network-manager",
    "python3-cryptography",
    "python3-dnspython",
    "python3-nacl",
    "python3-prometheus-client",
    "python3-pyroute2",
    "python3-tabulate",
    "unbound",
    "wireguard-tools",
]
# Offered as well; each is in place of another, so APT cannot plan for all of them at once.
EXCLUSIVE = ["openresolv", "resolvconf"]
OFFERED_IN_SUITE = {
    "bullseye": [],  # Debian 11 has no wireguard-go
    "bookworm": ["wireguard-go"],
    "trixie": ["wireguard-go"],
}

ENABLED = ["ssh.service", "systemd-networkd.service", "systemd-resolved.service"]
# Chores of a long-lived machine: they cost boot time here, or look for the internet.
MASKED = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
]
LEFT_OUT = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"]

REPOSITORY = "srv/apt"


def tree(suite: str, say: Callable[[str], None]) -> Path:
    """The suite's file system, built first if it is not there yet. `say` gets a line of progress.

    Concurrent callers wait for one build. Raises LabError when the machine's package sources do not have the suite
    or a package.
    """
    path = CACHE / f"{suite}-{_recipe(suite)}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _locked(CACHE / f"{suite}.lock") as lock:
            if not path.exists():  # another lab may have built it while this one waited
                _build(suite, path, lock, say)
    return path


def _recipe(suite: str) -> str:
    # Both the packages and how the tree is finished are in this file, so the file is the recipe.
    return hashlib.sha256(suite.encode() + Path(__file__).read_bytes()).hexdigest()[:12]


def _installed(suite: str) -> list[str]:
    return sorted(INSTALLED + INSTALLED_IN_SUITE[suite])


def _offered(suite: str) -> list[str]:
    return sorted(OFFERED + OFFERED_IN_SUITE[suite])


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _build(suite: str, path: Path, lock: int, say: Callable[[str], None]) -> None:
    say(f"building the {suite} file system, once ({path})")
    started = time.monotonic()
    unfinished = path.parent / f"{suite}.unfinished"
    remove_tree(unfinished)
    log = path.parent / f"{suite}.log"
    # Everything that mmdebstrap mounts is in a mount namespace that ends with it. It also holds the lock: should this
    # process be killed, a second one waits for it instead of building in the same place.
    command = ["unshare", "--mount", "--propagation", "private", *_mmdebstrap(suite, unfinished)]
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            pass_fds=(lock,),
        )
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise LabError("\n  ".join([f"mmdebstrap could not build the {suite} file system ({log}):", *tail]))
    _finish(unfinished)
    unfinished.rename(path)
    say(f"built the {suite} file system in {time.monotonic() - started:.0f} s")


def _mmdebstrap(suite: str, target: Path) -> list[str]:
    fetch = f'mkdir -p "$1/{REPOSITORY}/partial"'
    for packages in (_offered(suite), *([package] for package in EXCLUSIVE)):
        fetch += (
            ' && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only '
            f'-o Dir::Cache::Archives="$1/{REPOSITORY}" install {" ".join(packages)}'
        )
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(_installed(suite))}",
        "--aptopt=APT::Install-Recommends false",
        "--dpkgopt=force-unsafe-io",  # a throw-away host has nothing to lose in a power cut
        *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
        f"--customize-hook={fetch}",
        suite,
        str(target),
        *sources(suite),
    ]


def _finish(root: Path) -> None:
    """What is the same on every host, beyond its packages."""
    repository = root / REPOSITORY
    shutil.rmtree(repository / "partial")
    (repository / "lock").unlink(missing_ok=True)
    _index(repository)
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:/{REPOSITORY} ./\n", encoding="utf-8")
    for path in (root / "etc/apt/sources.list.d").iterdir():
        path.unlink()
    run("chroot", str(root), "apt-get", "update")
    run("systemctl", "--root", str(root), "enable", *ENABLED)
    run("systemctl", "--root", str(root), "mask", *MASKED)
    # A host that has booted has its addresses.
    run("systemctl", "--root", str(root), "add-wants", "multi-user.target", "network-online.target")
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for name in ("etc/hostname", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)


def _index(repository: Path) -> None:
    """Write the repository's Packages file."""
    entries = []
    for package in sorted(repository.glob("*.deb")):
        content = package.read_bytes()
        entries.append(
            run("dpkg-deb", "--field", str(package)).rstrip("\n")
            + f"\nFilename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    (repository / "Packages").write_text("\n".join(entries), encoding="utf-8")
