# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The native batch core (module_utils/sennit/datapath/native), built on the control node for a host's architecture."""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile
from typing import Optional

SOURCE = pathlib.Path(__file__).parent.parent / "module_utils" / "sennit" / "datapath" / "native"

IN_PACKAGE = "sennit/datapath/native/batch.so"
"""Where the agent looks for it."""

# Nothing is linked but what any C library has, and by no version: so the library fits all distributions.
FLAGS = [
    "-std=c11", "-O3", "-fPIC", "-shared", "-nostdlib", "-fvisibility=hidden", "-U_FORTIFY_SOURCE",
    "-Wl,--build-id=none", "-Wl,-z,relro", "-Wl,-z,noexecstack", "-s",
]  # fmt: skip

# What `uname -m` says, where a cross compiler has another name.
TRIPLETS = {
    "armv7l": "arm-linux-gnueabihf",
    "i686": "i686-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu",
}


class BuildError(Exception):
    """There is no library for this architecture. The message is one line."""


def compiler(architecture: str) -> list[str]:
    """The command of a C compiler for what `uname -m` says on the host. Raises BuildError."""
    if architecture == platform.machine():
        if os.environ.get("CC"):
            return shlex.split(os.environ["CC"])
        names = ["cc", "gcc", "clang"]
    else:
        names = [f"{TRIPLETS.get(architecture, f'{architecture}-linux-gnu')}-gcc"]
    for name in names:
        path = shutil.which(name)
        if path:
            return [path]
    raise BuildError(f"the control node has no C compiler for {architecture} ({' or '.join(names)})")


def library(architecture: str, cache: Optional[pathlib.Path] = None) -> bytes:
    """The shared library for this architecture, built unless it was before. Raises BuildError."""
    command = [*compiler(architecture), *FLAGS]
    units = sorted(path.name for path in SOURCE.glob("*.c"))
    source = [path.read_bytes() for path in sorted(SOURCE.glob("*.[ch]"))]
    version = _run([command[0], "--version"])
    digest = hashlib.sha256(b"\0".join([*source, "\0".join(command).encode(), version])).hexdigest()
    if cache is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        cache = pathlib.Path(home) / "sennit"
    kept = cache / f"batch-{architecture}-{digest[:24]}.so"
    try:
        return kept.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BuildError(f"{kept}: {error.strerror}") from error
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            built = pathlib.Path(directory) / "batch.so"
            # By their names alone, so that no path of the control node gets into the library.
            _run([*command, "-o", str(built), *units], SOURCE)
            os.replace(built, kept)
        return kept.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot build in {cache}: {error.strerror}") from error


def _run(command: list[str], directory: Optional[pathlib.Path] = None) -> bytes:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        reasons = done.stderr.decode(errors="replace").strip().splitlines() or ["it fails and says nothing"]
        raise BuildError(f"{command[0]}: {next((line for line in reasons if 'error' in line), reasons[-1])}")
    return done.stdout
