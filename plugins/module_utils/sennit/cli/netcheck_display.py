# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `sennit netcheck` has found, as a person reads it in a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics.nat import INDEPENDENT, NONE, SYMMETRIC, UNKNOWN
from ..netmap.endpoint import join_endpoint
from .display import milliseconds, path_words, table

_NATS = {
    NONE: "no NAT",
    INDEPENDENT: "one outside port for all destinations: others reach it directly",
    SYMMETRIC: "another outside port for each destination (symmetric): a relay is needed, or an end without NAT",
    UNKNOWN: "not known",
}


def netcheck_overview(result: dict[str, Any]) -> str:
    """All of it."""
    parts = [table(list(_facts(result)))]
    if result["beacons"]:
        parts.append(table(_beacons(result)))
    return "\n\n".join(parts)


def _facts(result: dict[str, Any]) -> Iterator[list[str]]:
    yield ["node", result["node"] or "-"]
    yield ["own addresses", "  ".join(result["own_addresses"]) or "-"]
    yield ["UDP port", f"{result['listen_port']}"]
    for family, words in (("ipv4", "NAT (IPv4)"), ("ipv6", "NAT (IPv6)")):
        nat = result["nat"][family]
        # Most hosts have no IPv6 NAT, and many no IPv6: that it is not seen is told below.
        if family == "ipv4" or nat["outside"]:
            yield [words, _NATS[nat["kind"]]]
            yield ["", nat["reason"]]
            if nat["outside"]:
                yield ["", "seen as " + ", ".join(join_endpoint(*endpoint) for endpoint in nat["outside"])]
    ipv6 = result["ipv6"]
    works = {True: "yes", False: "no", None: "not known"}[ipv6["works"]]
    yield ["IPv6", f"{works}: {ipv6['reason']}" + (f" (from {ipv6['address']})" if ipv6["address"] else "")]
    yield ["relays", ", ".join(result["relays"]) or "none attached"]
    for problem in result["problems"]:
        yield ["PROBLEM", problem]


def _beacons(result: dict[str, Any]) -> list[list[str]]:
    rows = [["beacon", "stream", "in the mesh", "path", "address", "answers in", "path MTU", "sees this node at"]]
    for beacon in result["beacons"]:
        paths = beacon["underlay"]
        seen = [f"{where} ({by})" for by, where in _seen(beacon["seen_as"])]
        rows.append(
            [
                beacon["name"],
                "connected" if beacon["connected"] else "no",
                milliseconds(beacon["tunnel_rtt"]),
                path_words(beacon["path"]),
                "\n".join(path["address"] for path in paths) or "-",
                "\n".join(_answer(path) for path in paths) or "-",
                "\n".join(_mtu(path) for path in paths) or "-",
                "\n".join(seen) or "-",
            ]
        )
    return rows


def _seen(seen_as: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, by in (("observed", "WireGuard"), ("by_relay", "relay")):
        if seen_as[key]:
            yield by, seen_as[key]


def _answer(path: dict[str, Any]) -> str:
    return str(path["problem"]) if path["rtt"] is None else milliseconds(path["rtt"])


def _mtu(path: dict[str, Any]) -> str:
    if path["mtu"] is not None:
        return f"{path['mtu']}"
    return f"not known; the kernel reckons with {path['kernel_mtu']}" if path["kernel_mtu"] else "-"
