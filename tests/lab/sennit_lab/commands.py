"""Running the system's own commands (ip, mount, systemctl ...), and what to say when one fails."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from .errors import LabError

# What the lab calls, and the Debian package that has it.
PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "socat": "socat",
    "ssh-keygen": "openssh-client",
    "sysctl": "procps",
    "systemd-nspawn": "systemd-container",
}


def require_commands() -> None:
    """Raise LabError when a command that the lab needs is not installed."""
    missing = sorted({package for command, package in PACKAGES.items() if shutil.which(command) is None})
    if missing:
        raise LabError(f"the lab needs Debian packages that are not installed: apt-get install {' '.join(missing)}")


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command and return its standard output; raise LabError with its standard error."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def ip_batch(namespace: str, lines: Iterable[str]) -> None:
    """Run several `ip` commands inside one network namespace."""
    script = "".join(f"{line}\n" for line in lines)
    if script:
        run("ip", "-n", namespace, "-batch", "-", stdin=script)
