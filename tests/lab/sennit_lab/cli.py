"""The command line: `lab [--lab NAME] up TOPOLOGY.yml | down | list | exec HOST -- CMD... | ...`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from . import lab as labs
from . import machine, topology
from .commands import require_commands
from .errors import LabError
from .lab import Lab

NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def main() -> int:
    """Run one command; returns its exit status."""
    arguments = _parser().parse_args()
    try:
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes namespaces, mounts and machines")
        require_commands()
        status: int = arguments.run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell tells that a command was interrupted
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Real hosts on one machine, to run Sennit on.")
    parser.add_argument(
        "--lab",
        metavar="NAME",
        default=os.environ.get("SENNIT_LAB") or None,
        help="which lab; $SENNIT_LAB, else for `up` the topology's file name, else the only one that is up",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start a lab; nothing to do when it is up with the same topology")
    up.add_argument("topology", metavar="TOPOLOGY.yml", type=Path)
    up.add_argument(
        "--suite",
        choices=topology.SUITES,
        default=os.environ.get("SENNIT_LAB_SUITE") or None,
        help="the Debian release of hosts that name none; $SENNIT_LAB_SUITE, else the topology's",
    )
    up.set_defaults(run=_up)

    commands.add_parser("down", help="end a lab and remove everything it made").set_defaults(run=_down)
    commands.add_parser("list", help="the labs, their hosts and how they are").set_defaults(run=_list)
    commands.add_parser("inventory", help="print the path of the lab's inventory").set_defaults(run=_inventory)

    execute = commands.add_parser("exec", help="run a command on a host or router, with its streams and exit status")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER)
    execute.set_defaults(run=_exec)

    reboot = commands.add_parser("reboot", help="reboot a host and wait until it is up again")
    reboot.add_argument("host", metavar="HOST")
    reboot.set_defaults(run=_reboot)

    supervise = commands.add_parser("supervise")  # what `up` starts for every host; not for people
    supervise.add_argument("name")
    supervise.add_argument("host")
    supervise.set_defaults(run=lambda arguments: machine.supervise(Lab(arguments.name).machine(arguments.host)))
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _up(arguments: argparse.Namespace) -> int:
    wanted = topology.load(arguments.topology)
    name = arguments.lab or arguments.topology.stem
    if arguments.suite not in (None, *topology.SUITES):
        raise LabError(f"SENNIT_LAB_SUITE: no such suite: {arguments.suite!r}")
    Lab(_checked(name)).up(wanted, arguments.suite or wanted.suite, _say)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    _chosen(arguments).down(_say)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    for lab in labs.labs():
        if arguments.lab in (None, lab.name):
            print(lab.name)
            for host in lab.hosts():
                state = lab.state(host)
                interfaces = machine.interfaces(lab.machine(host)) if state else {}
                addresses = "  ".join(f"{name} {' '.join(found)}" for name, found in interfaces.items())
                print(f"  {host:<16} {state.state if state else 'dead':<8} {addresses}".rstrip())
    return 0


def _inventory(arguments: argparse.Namespace) -> int:
    print(_chosen(arguments).inventory)
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise LabError("exec: which command?")
    line = _chosen(arguments).command(arguments.host, command)
    os.execvp(line[0], line)  # noqa: S606


def _reboot(arguments: argparse.Namespace) -> int:
    _chosen(arguments).reboot(arguments.host, _say)
    return 0


def _chosen(arguments: argparse.Namespace) -> Lab:
    if arguments.lab:
        return Lab(_checked(arguments.lab))
    there = labs.labs()
    if len(there) != 1:
        names = ", ".join(lab.name for lab in there) or "none"
        raise LabError(f"which lab? Say --lab NAME or set SENNIT_LAB; there is: {names}")
    return there[0]


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot name a lab: {NAME.pattern}")
    return name
