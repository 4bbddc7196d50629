# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `sennit ping`: whether a node answers through the mesh, how fast, and by which path."""

# This is part of a command, not of a module: it prints.
# pylint: disable=ansible-bad-function

from __future__ import annotations

import argparse
import dataclasses
import difflib
import ipaddress
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from ..api import ApiError
from ..diagnostics.echo import Answer, Pinger
from .display import path_words
from .error import EXIT_AGENT, EXIT_NO_ANSWER, EXIT_USAGE, CliError, without_icmp

Ask = Callable[..., Any]
"""The agent: given a method of its API, and the parameters by name. Raises ApiError."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What became of one request, and where the agent sent to the node before it and after it.

    A way is a peer's status, of which "path" and "endpoint" count; None for this node itself.
    """

    answer: Answer
    before: Optional[Mapping[str, Any]]
    after: Optional[Mapping[str, Any]]


def ping(options: argparse.Namespace, ask: Ask) -> int:
    """Ask each of the node's addresses, and print. Returns the exit status; raises CliError, ApiError."""
    status = ask("status")
    name, addresses = find_target(status, options.node)
    addresses = [address for address in addresses if options.family in (None, 6 if ":" in address else 4)]
    if not addresses:
        raise CliError(f"{name} has no IPv{options.family} address", EXIT_USAGE)
    own = name == status["node"]
    replies: list[Reply] = []
    try:
        pinger = Pinger(addresses)
    except OSError as error:
        raise without_icmp(error) from error
    with pinger:
        for sequence in range(1, options.count + 1):
            next_round = time.monotonic() + 1.0
            before = None if own else _way(ask, name)
            for answer in pinger.round(sequence, options.timeout):
                # An answer moves the endpoint to where it came from, as every authenticated packet does.
                reply = Reply(answer, before, None if own else _way(ask, name))
                replies.append(reply)
                if not options.json:
                    print(_line(name, reply), flush=True)
            if sequence < options.count:
                time.sleep(max(0.0, next_round - time.monotonic()))
    last = None if own else _way(ask, name)
    lost = sum(reply.answer.rtt is None for reply in replies)
    if options.json:
        print(json.dumps(_result(name, last, addresses, replies), indent=2))
    else:
        by = f", by {last['endpoint']}" if last and last["endpoint"] else ""
        print(f"{name}: {len(replies) - lost} of {len(replies)} answered{by}")
    return EXIT_NO_ANSWER if lost else 0


def _way(ask: Ask, name: str) -> Optional[Mapping[str, Any]]:
    try:
        return ask("peer.status", name=name)  # type: ignore[no-any-return]
    except ApiError as error:
        if error.code not in ("bad-request", "unknown-method"):
            raise
        # A new netmap has come meanwhile, and the peer is not in it; or the agent is still of an older version.
        return None


def find_target(status: dict[str, Any], target: str) -> tuple[str, list[str]]:
    """Name of the node and the addresses to ask, for a node's name or an address that it has or routes.

    Raises CliError, with names that are near.
    """
    nodes = {peer["name"]: peer["addresses"] for peer in status["peers"]}
    if status["node"] is None:
        raise CliError("there is no netmap yet, so there is nobody to ask", EXIT_AGENT)
    nodes[status["node"]] = status["addresses"]
    for name, addresses in nodes.items():
        if target.lower() == name.lower():
            return name, list(addresses)
    try:
        address = ipaddress.ip_address(target)
    except ValueError:
        near = difflib.get_close_matches(target, nodes, n=3, cutoff=0.5) or sorted(nodes)[:10]
        raise CliError(f"no node is called {target}; there are {', '.join(near)}", EXIT_USAGE) from None
    for name, addresses in nodes.items():
        if str(address) in addresses:
            return name, [str(address)]
    for peer in status["peers"]:
        if any(address in ipaddress.ip_network(prefix) for prefix in peer["routes"]):
            return peer["name"], [str(address)]
    raise CliError(f"no node has the address {address} or a route to it", EXIT_USAGE)


def _line(name: str, reply: Reply) -> str:
    answer = reply.answer
    if answer.rtt is None:
        return f"{name} {answer.address} ({answer.sequence}): {answer.problem}"
    return f"{name} {answer.address} ({answer.sequence}): {1000 * answer.rtt:.2f} ms{_taken(reply)}"


def _taken(reply: Reply) -> str:
    """Which path it was; both, when it changed while the packet was on its way."""
    words = [_words(way) for way in (reply.before, reply.after) if way and way["endpoint"]]
    if len(words) == 2 and words[0] != words[1]:
        return f", {words[1]}, asked {words[0]}"
    return f", {words[-1]}" if words else ""


def _words(way: Mapping[str, Any]) -> str:
    path = f"{path_words(way['path'])}, " if way["path"] else ""
    return f"{path}{way['endpoint']}"


def _result(
    name: str, last: Optional[Mapping[str, Any]], addresses: Sequence[str], replies: Sequence[Reply]
) -> dict[str, Any]:
    return {
        "node": name,
        "endpoint": last["endpoint"] if last else None,
        "path": last["path"] if last else None,
        "addresses": [
            _of_address(address, [r for r in replies if r.answer.address == address]) for address in addresses
        ],
    }


def _of_address(address: str, replies: Sequence[Reply]) -> dict[str, Any]:
    answers = [reply.answer for reply in replies]
    return {
        "address": address,
        "family": 6 if ":" in address else 4,
        "sent": len(answers),
        "rtt_ms": [round(1000 * answer.rtt, 3) for answer in answers if answer.rtt is not None],
        "replies": [
            {
                "sequence": reply.answer.sequence,
                "rtt_ms": round(1000 * reply.answer.rtt, 3),
                "asked_by": _brief(reply.before),
                "answered_by": _brief(reply.after),
            }
            for reply in replies
            if reply.answer.rtt is not None
        ],
        "problems": [answer.problem for answer in answers if answer.problem],
    }


def _brief(way: Optional[Mapping[str, Any]]) -> Optional[dict[str, Any]]:
    return {"path": way["path"], "endpoint": way["endpoint"]} if way else None
