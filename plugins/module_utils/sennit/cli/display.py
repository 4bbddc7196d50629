# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's status as a person reads it in a terminal. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from ..preferences import Preferences

try:
    from tabulate import tabulate
except ImportError as error:
    TABULATE_IMPORT_ERROR: Optional[ImportError] = error
else:
    TABULATE_IMPORT_ERROR = None


_PATHS = {"lan": "LAN", "ipv6": "IPv6"}


def overview(status: dict[str, Any], now: float) -> str:
    """The whole status; ``now`` in seconds since the epoch."""
    parts = [table(_facts(status, now)), _peers(status, now)]
    if status["drops"]:
        drops = sorted(status["drops"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(table([["dropped", "packets"]] + [[reason, f"{count}"] for reason, count in drops]))
    return "\n\n".join(part for part in parts if part)


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def size(count: int) -> str:
    """A number of bytes, in the units that wg(8) uses."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def path_words(path: Optional[dict[str, Any]]) -> str:
    """How packets go to a peer, from its "path"; "-" if it is not known."""
    if path is None:
        return "-"
    if path["kind"] == "relay":
        # By one that the map has lost meanwhile, it may be.
        return f"relayed by {path['relay']}" if path["relay"] else "relayed"
    return _PATHS.get(path["kind"], str(path["kind"]))


def milliseconds(seconds: Optional[float]) -> str:
    """A round-trip time; "-" if there is none."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.{2 if seconds < 0.1 else 0}f} ms"


def _facts(status: dict[str, Any], now: float) -> list[list[str]]:
    netmap = status["netmap"]
    version = "none yet; waiting for one"
    if netmap["version"] is not None:
        version = f"version {netmap['version']}, from {netmap['origin']}"
    facts = [
        ["network", status["network"]],
        ["node", status["node"] or "(not known before there is a netmap)"],
        ["addresses", "  ".join(status["addresses"]) or "-"],
        ["public key", status["public_key"]],
        ["interface", f"{status['interface']}, {_datapath(status)}, UDP port {status['listen_port']}"],
        ["netmap", version],
    ]
    refused = netmap["refused"]
    if refused:
        facts.append(["", f"REFUSED {age(now - refused['at'])} ({refused['reason']}): {refused['message']}"])
    facts += _ways_of_maps(status, now)
    facts += _choices(status)
    facts += [["PROBLEM", problem] for problem in status["problems"]]
    return facts


def _ways_of_maps(status: dict[str, Any], now: float) -> Iterator[list[str]]:
    """The beacons, this node's own service as one, and the URL: what each has, and what was refused of it."""
    for beacon in status["beacons"]:
        if beacon["since"] is not None:
            text = f"{beacon['name']}, connected {age(now - beacon['since'])}, has version {beacon['version'] or '-'}"
            seen = beacon["seen_as"]["observed"]
            text += f", answers in {milliseconds(beacon['rtt'])}" if beacon["rtt"] is not None else ""
            text += f", sees this node at {seen}" if seen else ""
        else:
            text = f"{beacon['name']}, not connected" + (f": {beacon['problem']}" if beacon["problem"] else "")
        yield ["beacon", text]
        if beacon["refused"]:
            yield ["", _refused_of(beacon["name"], beacon["refused"], now)]
    own = status["beacon"]
    if own:
        clients = "1 node is" if len(own["clients"]) == 1 else f"{len(own['clients'])} nodes are"
        yield ["beacon", f"this node, TCP port {own['port']}; {clients} connected"]
        for name, refused in sorted(own["refused"].items()):
            yield ["", _refused_of(name, refused, now)]
        if own["relay"]:
            yield ["relay", _relay(own["relay"])]
    poll = status["netmap_url"]
    if poll:
        looked = "not yet looked at" if poll["looked_at"] is None else f"looked at {age(now - poll['looked_at'])}"
        yield ["netmap URL", f"{poll['url']}, {looked}" + (f"; {poll['problem']}" if poll["problem"] else "")]


def _refused_of(name: str, refused: dict[str, Any], now: float) -> str:
    times = "" if refused["count"] == 1 else f", {refused['count']} times by now"
    return f"REFUSED of {name} {age(now - refused['at'])} ({refused['reason']}): {refused['message']}{times}"


def _datapath(status: dict[str, Any]) -> str:
    return f"{status['datapath']} ({status['core']})" if status["core"] else str(status["datapath"])


def _relay(relay: dict[str, Any]) -> str:
    nodes = "1 node is" if relay["attached"] == 1 else f"{relay['attached']} nodes are"
    dropped = sum(relay["drops"].values())
    text = f"this node, UDP port {relay['port']}; {nodes} attached, {size(relay['forwarded_bytes'])} forwarded"
    return text + (f", {dropped} packets dropped" if dropped else "")


def _choices(status: dict[str, Any]) -> list[list[str]]:
    """What this host decided for itself, and what the network did not approve of it."""
    facts = []
    exit_node, trial = status["exit_node"], status["trial"]
    if exit_node:
        facts.append(["exit node", f"{exit_node['name']} ({exit_node['state']})"])
    changed = Preferences().changed(status["preferences"]).not_default()
    others = [f"{key} {_word(value)}" for key, value in changed.items() if key != "exit_node"]
    if others:
        facts.append(["preferences", ", ".join(others)])
    if status["unapproved_routes"]:
        facts.append(["unapproved", "  ".join(status["unapproved_routes"])])
    if trial and trial["state"] == "running":
        facts.append(["ON TRIAL", f"the {trial['what']}, for {trial['remaining']:.0f} s more ({trial['id']})"])
    elif trial:
        facts.append(["TRIAL ENDED", trial["message"]])
    return facts


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value))


def _peers(status: dict[str, Any], now: float) -> str:
    if not status["peers"]:
        return "no peers" if status["node"] else ""
    states = {(route["via"], route["prefix"]): route["state"] for route in status["routes"]}
    rows = [["peer", "address", "path", "endpoint", "handshake", "RTT", "received", "sent", "routes"]]
    for peer in status["peers"]:
        handshake = peer["latest_handshake"]
        rows.append(
            [
                peer["name"],
                "\n".join(peer["addresses"]),
                path_words(peer["path"]),
                peer["endpoint"] or "-",
                "never" if handshake is None else age(now - handshake),
                milliseconds(peer["rtt"]),
                size(peer["rx_bytes"]),
                size(peer["tx_bytes"]),
                "\n".join(_routes(peer, states)) or "-",
            ]
        )
    return table(rows)


def _routes(peer: dict[str, Any], states: dict[tuple[str, str], str]) -> Iterator[str]:
    for prefix in peer["routes"]:
        yield _route(prefix, states.get((peer["name"], prefix)))
    for prefix in peer["unapproved_routes"]:
        yield f"{prefix} (unapproved)"
    if peer["exit_node"]:
        yield "exit node"


def _route(prefix: str, state: Optional[str]) -> str:
    return prefix if state in (None, "installed") else f"{prefix} ({state})"


def table(rows: list[list[str]]) -> str:
    return str(tabulate(rows, tablefmt="plain", disable_numparse=True))
