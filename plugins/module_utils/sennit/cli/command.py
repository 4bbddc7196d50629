# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `sennit`: what the mesh looks like from this host, and what the host decides for itself.

Exit status: 0, 1 when an answer is missing, 2 for a wrong argument, 3 when no agent is running, 4 without the
permission to ask it, 5 when it could not answer.
"""

# This is a command, not part of a module: it prints.
# pylint: disable=ansible-bad-function

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional, TypeVar

from .. import __version__
from ..api import DEFAULT_SOCKET, ApiError, call
from ..diagnostics.rtt import measure
from ..preferences import Preferences
from .display import TABULATE_IMPORT_ERROR, overview
from .dns_display import dns_answer, dns_overview
from .error import (
    EXIT_AGENT,
    EXIT_NO_ANSWER,
    EXIT_NO_PERMISSION,
    EXIT_NOT_RUNNING,
    EXIT_USAGE,
    PROGRAM,
    CliError,
)
from .ping import ping

_HELP = {
    "accept_routes": "take the routes to the subnets of others",
    "exit_node_allow_lan_access": "reach this host's own LANs directly in spite of an exit node",
    "exit_node_fail_open": "let leave by the LAN what the exit node cannot carry",
    "snat_subnet_routes": "hide the mesh's addresses from subnets routed here (the firewall follows at the next play)",
    "accept_dns": "have this host's programs find names as the network has it",
}
Number = TypeVar("Number", int, float)


def _number(parse: Callable[[str], Number], least: Number, most: Number, what: str) -> Callable[[str], Number]:
    """For argparse, which tells the user ``what`` it ought to be."""

    def check(text: str) -> Number:
        with contextlib.suppress(ValueError):
            number = parse(text)
            if least <= number <= most:
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return check


_count = _number(int, 1, sys.maxsize, "a number from 1 on")
_port = _number(int, 1, 65535, "a port from 1 to 65535")
_seconds = _number(float, 0.001, 3600.0, "a number of seconds up to 3600")

_EXITS = {"not-running": EXIT_NOT_RUNNING, "no-permission": EXIT_NO_PERMISSION}
_HINTS = {
    "not-running": "see: systemctl status sennit",
    "no-permission": f"try: sudo {PROGRAM} ...",
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except CliError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_status
    except ApiError as error:
        hint = _HINTS.get(error.code)
        print(f"{PROGRAM}: {error.message}" + (f" ({hint})" if hint else ""), file=sys.stderr)
        return _EXITS.get(error.code, EXIT_AGENT)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what Python flushes at exit has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="What the Sennit mesh looks like from this host.")
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help="the agent's control socket (default: %(default)s)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    status = commands.add_parser("status", help="this node, its netmap and its peers")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    status.add_argument("--no-rtt", action="store_true", help="send nothing to measure round-trip times")
    status.set_defaults(run=_status)

    _add_sight(commands)

    change = commands.add_parser("set", help="what this host decides for itself; the next play may decide otherwise")
    for key, default in Preferences().to_mapping().items():
        if isinstance(default, bool):
            words = _HELP[key]
            option = key.replace("_", "-")
            toggle = change.add_mutually_exclusive_group()
            toggle.add_argument(f"--{option}", dest=key, action="store_const", const=True, help=words)
            toggle.add_argument(f"--no-{option}", dest=key, action="store_const", const=False, help=f"not: {words}")
    change.add_argument(
        "--exit-node", metavar="NODE", help="send what is not for the mesh through it; none: through none"
    )
    change.add_argument(
        "--trial",
        type=_seconds,
        metavar="SECONDS",
        help="go back after this long, unless `sennit confirm` says to stay",
    )
    change.set_defaults(run=_set)

    confirm = commands.add_parser("confirm", help="keep what is on trial")
    confirm.add_argument("id", metavar="TRIAL", nargs="?", help="which (default: the one that runs)")
    confirm.set_defaults(run=_confirm)

    dns = commands.add_parser("dns", help="how names are found on this host").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    dns_status = dns.add_parser("status", help="who owns the resolver, which rules there are, how nameservers answer")
    dns_status.add_argument("--json", action="store_true", help="everything, for programs")
    dns_status.set_defaults(run=_dns_status)
    dns_query = dns.add_parser("query", help="ask as this host's programs do, and tell who answered")
    dns_query.add_argument("name", metavar="NAME", help="a name, full or short")
    dns_query.add_argument(
        "type", metavar="TYPE", nargs="?", default="A", help="A, AAAA, PTR ... (default: %(default)s)"
    )
    dns_query.add_argument("--json", action="store_true", help="the result, for programs")
    dns_query.set_defaults(run=_dns_query)

    # launcher.py does not let it come this far; it is here to be found.
    wireguard = commands.add_parser("wireguard", help="a WireGuard interface in userspace, configured with wg")
    wireguard.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="see: wireguard --help")
    wireguard.set_defaults(run=_wireguard)

    version = commands.add_parser("version", help="the version installed, and the one that runs")
    version.set_defaults(run=_version)
    return parser


def _add_sight(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What looks at the paths to others."""
    ping = commands.add_parser("ping", help="ask a node for an answer through the mesh")
    ping.add_argument("node", metavar="NODE", help="a node's name, or an address in the mesh")
    ping.add_argument("-c", "--count", type=_count, default=3, help="requests to each address (default: %(default)s)")
    ping.add_argument("-W", "--timeout", type=_seconds, default=6.0, help="seconds to wait (default: %(default)g)")
    family = ping.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    ping.add_argument("--json", action="store_true", help="the result, for programs")
    ping.set_defaults(run=_ping)

    netcheck = commands.add_parser("netcheck", help="NAT, IPv6, the beacons, and the MTU of the paths to them")
    netcheck.add_argument("--json", action="store_true", help="everything, for programs")
    netcheck.set_defaults(run=_netcheck)

    metrics = commands.add_parser("metrics", help="the status for Prometheus")
    where = metrics.add_mutually_exclusive_group()
    where.add_argument("--textfile", metavar="PATH", help="write them there at once, for node_exporter's textfiles")
    where.add_argument("--listen", metavar="PORT", type=_port, help="serve them at this node's mesh addresses alone")
    metrics.add_argument("--rtt", action="store_true", help="measure round-trip times, each time that they are read")
    metrics.set_defaults(run=_metrics)


def _status(options: argparse.Namespace) -> int:
    status = call(options.socket, "status")
    if not options.no_rtt:
        try:
            status = measure(status, time.time())
        except OSError as error:
            print(f"{PROGRAM}: round-trip times are not measured: {error.strerror}", file=sys.stderr)
    _show(options, status, lambda: overview(status, time.time()))
    return 0


def _show(options: argparse.Namespace, result: Any, text: Callable[[], str]) -> None:
    if options.json:
        print(json.dumps(result, indent=2))
        return
    if TABULATE_IMPORT_ERROR is not None:
        raise CliError("the Python library tabulate is not installed; --json works without it", EXIT_AGENT)
    print(text())


def _dns_status(options: argparse.Namespace) -> int:
    status = call(options.socket, "dns.status")
    _show(options, status, lambda: dns_overview(status))
    return 0


def _dns_query(options: argparse.Namespace) -> int:
    try:
        result = call(options.socket, "dns.query", {"name": options.name, "type": options.type})
    except ApiError as error:
        if error.code == "bad-request":
            raise CliError(error.message, EXIT_USAGE) from error
        raise
    _show(options, result, lambda: dns_answer(result))
    return 0 if result["answers"] else EXIT_NO_ANSWER


def _set(options: argparse.Namespace) -> int:
    keys = Preferences().to_mapping()
    changes = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    if not changes:
        raise CliError("nothing to set; see: sennit set --help", EXIT_USAGE)
    if changes.get("exit_node") == "none":
        changes["exit_node"] = None
    params = {"preferences": changes, **({"trial": options.trial} if options.trial else {})}
    result = call(options.socket, "preferences.set", params)
    if not result["changed"]:
        print("nothing to change")
    elif "trial" in result:
        trial = result["trial"]
        print(f"on trial for {trial['deadline']:g} s; to keep it: {PROGRAM} confirm {trial['id']}")
    return 0


def _confirm(options: argparse.Namespace) -> int:
    identity = options.id
    if identity is None:
        trial = call(options.socket, "status")["trial"]
        if not trial or trial["state"] != "running":
            raise CliError("nothing is on trial", EXIT_USAGE)
        identity = trial["id"]
    call(options.socket, "trial.confirm", {"id": identity})
    return 0


def _wireguard(options: argparse.Namespace) -> int:
    from .. import standalone  # noqa: PLC0415

    return standalone.main(options.arguments)


def _version(options: argparse.Namespace) -> int:
    print(f"{PROGRAM} {__version__}")
    try:
        running = call(options.socket, "version")
    except ApiError as error:
        if error.code not in _EXITS:
            raise
        return 0
    if running != __version__:
        print(f"the agent that is running is {running}; restart it: systemctl restart sennit")
    return 0


def _netcheck(options: argparse.Namespace) -> int:
    from .netcheck import run  # noqa: PLC0415

    return run(options, _show)


def _metrics(options: argparse.Namespace) -> int:
    # It takes a web server and a library, which no other command needs.
    from .metrics import metrics  # noqa: PLC0415

    return metrics(options)


def _ping(options: argparse.Namespace) -> int:
    return ping(options, lambda method, **params: call(options.socket, method, params))
