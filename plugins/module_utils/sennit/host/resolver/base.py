# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every way has: where it works, what is wanted, what it found, and how it runs the host's own commands."""

from __future__ import annotations

import dataclasses
import ipaddress
import subprocess
from collections.abc import Iterable, Sequence
from typing import Protocol

RESOLV_CONF = "/etc/resolv.conf"

# Seconds for one command of the host; all of them answer at once, or hang.
COMMAND_TIMEOUT = 10.0
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

# systemd-resolved's own stubs. What they know comes from the servers that they are given: from us, if we asked them.
_RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")


class ResolverError(Exception):
    """The host's resolver cannot be read or set; the message is one line for the user."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where on the host: the file that programs read, the tunnel's interface, and the file that remembers."""

    path: str
    interface: str
    record_path: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """stub: the addresses to ask. search: domains for short names, ours first. routed: suffixes whose names the stub
    has to be asked for, besides `search`. everything: whether it has to be asked for all others, too, where an owner
    can tell them apart.
    """

    stub: tuple[str, ...]
    search: tuple[str, ...]
    routed: tuple[str, ...]
    everything: bool


@dataclasses.dataclass(frozen=True)
class Found:
    """What the host would use without us: nameservers by address, in its order, and search domains."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class Way(Protocol):
    """One owner's way. All methods raise ResolverError and OSError."""

    name: str

    def found(self, stub: Sequence[str]) -> Found:
        """What there is besides ours; `stub` are the addresses that are ours."""

    def apply(self, wanted: Wanted) -> list[str]:
        """Make the host ask the stub. Returns what was changed, in words; nothing if all was so already."""

    def undo(self) -> list[str]:
        """As if we had never been there. Nothing to do is no error."""

    def watched(self) -> list[str]:
        """The files whose change is worth another look."""


def run(*command: str, text: str = "", directory: str = "/") -> str:
    """What a command of the host prints that is given this text. Raises ResolverError if there is none, or it fails."""
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            cwd=directory,
            # What they write is for every user's programs; the agent's own files are not.
            umask=0o022,
            env=_ENVIRONMENT,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ResolverError(f"{command[0]}: no answer within {COMMAND_TIMEOUT:g} s") from error
    except OSError as error:
        raise ResolverError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise ResolverError(f"{command[0]}: {said[-1]}")
    return done.stdout.decode("utf-8", "replace")


def is_nameserver(text: str) -> bool:
    """Whether this is an address, with a scope (fe80::1%eth0) if need be."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def others(addresses: Iterable[str], stub: Sequence[str]) -> tuple[str, ...]:
    """The nameservers that are not we ourselves, nor lead back to us; each once."""
    own = {*stub, *map(mapped, stub), *_RESOLVED_STUBS}
    return tuple(dict.fromkeys(address for address in addresses if address not in own))


def mapped(address: str) -> str:
    """An IPv4 address as IPv6 programs write it (RFC 4291, section 2.5.5.2); any other as it is."""
    return address if ":" in address else f"::ffff:{address}"
