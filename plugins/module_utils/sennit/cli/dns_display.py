# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `sennit dns status` and `sennit dns query` show a person in a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from .display import table

_MODES = {
    "split": "the mesh's names and its split domains; all others stay with this host's own nameservers",
    "all": "all names",
}
_OWNERS = {None: "not known", "file": "nobody"}


def dns_overview(status: dict[str, Any]) -> str:
    """The whole of `dns.status`."""
    parts = [table(list(_facts(status))), _rules(status)]
    if status["queries"]:
        counts = sorted(status["queries"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(table([["queries", "number"]] + [[what, f"{count}"] for what, count in counts]))
    return "\n\n".join(part for part in parts if part)


def dns_answer(result: dict[str, Any]) -> str:
    """The result of `dns.query`."""
    facts = [
        ["name", f"{result['name'] or '.'} {result['type']}"],
        ["rule", _rule(result["rule"])],
        ["answered by", _answered_by(result)],
        ["time", _milliseconds(result["seconds"])],
        ["result", result["rcode"] if result["answers"] else f"{result['rcode']}, no records"],
    ]
    facts += [["tried", f"{each['server']}: {each['result']}, {_milliseconds(each['seconds'])}"]
              for each in result["tried"]]  # fmt: skip
    if result["problem"]:
        facts.append(["PROBLEM", result["problem"]])
    return "\n".join([table(facts), *([""] if result["answers"] else []), *result["answers"]])


def _facts(status: dict[str, Any]) -> Iterator[list[str]]:
    resolver = status["resolver"]
    if not status["accepted"]:
        yield ["names", "not taken from the mesh: no netmap yet, or accept_dns is off"]
    else:
        yield ["answering", "  ".join(status["answering"]) or "nowhere"]
        yield ["domain", status["domain"]]
        yield ["search", "  ".join(status["search"]) or "-"]
    owner = _OWNERS.get(resolver["owner"], resolver["owner"])
    yield ["resolver of", f"{owner} ({resolver['path']})"]
    yield ["asked for", _MODES.get(resolver["mode"], "nothing: this host's programs do not ask the mesh")]
    yield ["host's own", "  ".join(resolver["nameservers"]) or "no nameservers"]
    if status["override"]:
        yield ["override", "on: the network's nameservers instead of the host's own"]
    for problem in status["problems"]:
        yield ["PROBLEM", problem]


def _rules(status: dict[str, Any]) -> str:
    if not status["accepted"]:
        return ""
    rows = [["names", "nameserver", "state", "time", "queries", "failures", "last error"]]
    rows.append([f"{status['domain']} (mesh)", "this host", "-", "-", "-", "-", "-"])
    for rule in status["rules"]:
        suffix = rule["suffix"] or "all others"
        rows += [
            [
                suffix,
                server["address"],
                server["state"],
                "-" if server["rtt"] is None else _milliseconds(server["rtt"]),
                f"{server['queries']}",
                f"{server['failures']}",
                server["last_error"] or "-",
            ]
            for server in rule["nameservers"]
        ] or [[suffix, "none", "-", "-", "-", "-", "-"]]
    return table(rows)


def _rule(rule: str) -> str:
    return {"mesh": "the mesh's own names", "default": "none: all others"}.get(rule, rule)


def _answered_by(result: dict[str, Any]) -> str:
    if result["rule"] == "mesh":
        return "this host, from the netmap"
    server: Optional[str] = result["server"]
    return f"{server}{' by TCP' if result['tcp'] else ''}" if server else "nobody"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
