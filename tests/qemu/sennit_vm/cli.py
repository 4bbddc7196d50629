"""The command line: `vm [--suite SUITE] [--append ARGUMENT] -- COMMAND...`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from sennit_lab.errors import LabError
from sennit_lab.topology import DEFAULT_SUITE, SUITES

from .kernel import kernel
from .machine import BUSYBOX, VIRTIOFSD, Vm

# What this calls, and the Debian package that has it.
PACKAGES = {
    BUSYBOX: "busybox-static",
    "depmod": "kmod",
    "qemu-system-x86_64": "qemu-system-x86",
    VIRTIOFSD: "qemu-system-common",
}


def main() -> int:
    """Run one command; returns its exit status."""
    arguments = _parser().parse_args()
    # So that the scratch directory is removed then, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    try:
        if not command:
            raise LabError("which command?")
        if os.geteuid() != 0:
            raise LabError("a virtual machine that has this machine's file system needs root")
        missing = sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})
        if missing:
            raise LabError(f"Debian packages are not installed: apt-get install {' '.join(missing)}")
        with tempfile.TemporaryDirectory(prefix="sennit-vm-") as scratch:
            vm = Vm(kernel(arguments.suite, _say), Path(scratch))
            return vm.run(command, Path.cwd(), arguments.append, arguments.timeout, sys.stdout.buffer)
    except LabError as error:
        _say(f"vm: {error}")
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell tells that a command was interrupted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vm", description="Run a command under another kernel, in this directory; what it writes is gone with it."
    )
    parser.add_argument("--suite", choices=SUITES, default=DEFAULT_SUITE, help="the Debian release of the kernel")
    parser.add_argument("--append", metavar="ARGUMENT", action="append", default=[], help="an argument of the kernel")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds (default: %(default)s)")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
