# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mesh as its hosts report it: nodes, and what is between every two of them. Pure functions of the reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.cli.display import path_words
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.diagnostics.rtt import has_session

# What is known of a node: it reports; Ansible cannot reach it; it has no agent that answers; it was not asked; it is
# a static peer, which nobody can ask.
UP, UNREACHABLE, NO_AGENT, NOT_ASKED, STATIC = "up", "unreachable", "no-agent", "not-asked", "static"

LAN, IPV6, DIRECT, RELAY, UNKNOWN = "lan", "ipv6", "direct", "relay", "unknown"
# Nothing passes, though both are up and one has tried.
BROKEN = "broken"
# From the best to the worst.
KINDS = (LAN, IPV6, DIRECT, UNKNOWN, RELAY, BROKEN)


class ReportError(Exception):
    """What is given is not what sennit.mesh.status_info tells of hosts."""


@dataclass(frozen=True)
class MeshNode:
    """A node or a static peer. ``status`` is its own, if it reports; ``reason``: why it does not."""

    name: str
    state: str
    reason: str = ""
    status: Mapping[str, Any] | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    unapproved_routes: tuple[str, ...] = ()
    exit_node: bool = False
    beacon: bool = False


@dataclass(frozen=True)
class Way:
    """How one node sends to another, as that one says. ``rtt`` in seconds; None if there was no answer."""

    source: str
    target: str
    kind: str
    relay: str | None
    endpoint: str | None
    rtt: float | None

    @property
    def words(self) -> str:
        if self.kind == BROKEN:
            return "no answer"
        if self.kind == UNKNOWN:
            return "by an unknown path"
        return path_words({"kind": self.kind, "relay": self.relay})


@dataclass(frozen=True)
class Link:
    """What is between two nodes, by the words of both: never better than either says."""

    ends: tuple[str, str]
    ways: tuple[Way, ...]

    @property
    def kind(self) -> str:
        return max((way.kind for way in self.ways), key=KINDS.index)

    @property
    def relay(self) -> str | None:
        return next((way.relay for way in self.ways if way.relay), None)

    @property
    def rtt(self) -> float | None:
        return min((way.rtt for way in self.ways if way.rtt is not None), default=None)


@dataclass(frozen=True)
class Mesh:
    """All of it. ``at``: when, in seconds since the epoch. ``problems``: (whose, what) for a person to read."""

    network: str
    version: int | None
    at: float
    nodes: tuple[MeshNode, ...]
    links: tuple[Link, ...]
    problems: tuple[tuple[str, str], ...] = ()

    @cached_property
    def ways(self) -> dict[tuple[str, str], Way]:
        """By source and target; only those with a session, and those that are broken."""
        return {(way.source, way.target): way for link in self.links for way in link.ways}


def read(reports: Mapping[str, Mapping[str, Any]], at: float, everyone: bool) -> Mesh:
    """The mesh, from what sennit.mesh.status_info (or the failure to run it) has told of each host, by its name.

    everyone: whether every host has tried to reach every other, so that silence is a fault. Raises ReportError.
    """
    try:
        nodes = {node.name: node for node in _nodes(reports)}
        links = tuple(_links(nodes, everyone))
        statuses = [node.status for node in nodes.values() if node.status]
        versions = [status["netmap"]["version"] for status in statuses if status["netmap"]["version"] is not None]
        newest = max(versions, default=None)
        return Mesh(
            network=next((status["network"] for status in statuses), "sennit"),
            version=newest,
            at=at,
            nodes=tuple(nodes.values()),
            links=links,
            problems=tuple(_problems(nodes.values(), links, newest)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReportError(f"this is not what sennit.mesh.status_info tells of hosts: {error!r}") from error


def _nodes(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[MeshNode]:
    """By name: those that report, those that do not, and those that only others speak of."""
    statuses: dict[str, Mapping[str, Any]] = {}
    silent: dict[str, tuple[str, str]] = {}
    for host, report in reports.items():
        status = report.get("agent")
        if status:
            statuses[status["node"] or host] = status
        else:
            silent[host] = _why_silent(report)
    told: dict[str, list[Mapping[str, Any]]] = {}
    beacons = {name for name, status in statuses.items() if status["beacon"]}
    for status in statuses.values():
        beacons.update(beacon["name"] for beacon in status["beacons"])
        for peer in status["peers"]:
            told.setdefault(peer["name"], []).append(peer)
    for name in sorted({*statuses, *silent, *told}):
        peers, own = told.get(name, []), statuses.get(name)
        state, reason = (UP, "") if own else silent.get(name, (NOT_ASKED, "not asked in this run"))
        if state == NOT_ASKED and any(peer["kind"] != "node" for peer in peers):
            state, reason = STATIC, "a static peer"
        yield MeshNode(
            name=name,
            state=state,
            reason=reason,
            status=own,
            addresses=tuple(own["addresses"] if own else peers[0]["addresses"] if peers else ()),
            routes=_union(peer["routes"] for peer in peers),
            unapproved_routes=_union(
                [*(peer["unapproved_routes"] for peer in peers), *([own["unapproved_routes"]] if own else [])]
            ),
            exit_node=any(peer["exit_node"] for peer in peers),
            beacon=name in beacons,
        )


def _why_silent(report: Mapping[str, Any]) -> tuple[str, str]:
    message = str(report.get("msg", "")).strip()
    if report.get("unreachable"):
        return UNREACHABLE, f"Ansible cannot reach it: {message}"
    if "installed" not in report:
        return NO_AGENT, f"it cannot be asked: {message}"
    if report.get("installed"):
        return NO_AGENT, "its agent does not answer"
    return NO_AGENT, "no agent is installed on it"


def _union(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for each in lists for item in each))


def _links(nodes: Mapping[str, MeshNode], everyone: bool) -> Iterator[Link]:
    ways: dict[tuple[str, str], list[Way]] = {}
    for node in nodes.values():
        for peer in node.status["peers"] if node.status else ():
            way = _way(node, peer, nodes[peer["name"]], everyone)
            if way is not None:
                first, second = sorted((way.source, way.target))
                ways.setdefault((first, second), []).append(way)
    for ends, both in sorted(ways.items()):
        yield Link(ends, tuple(both))


def _way(node: MeshNode, peer: Mapping[str, Any], target: MeshNode, everyone: bool) -> Way | None:
    status, rtt = node.status or {}, peer["rtt"]
    if rtt is None and everyone and target.state == UP:
        # It has an agent that runs, and yet does not answer.
        return Way(node.name, target.name, BROKEN, None, peer["endpoint"], None)
    if rtt is None and not has_session(peer, status["time"]):
        return None
    path = peer["path"] or {"kind": UNKNOWN, "relay": None}
    kind = path["kind"] if path["kind"] in KINDS else UNKNOWN
    return Way(node.name, target.name, kind, path["relay"], peer["endpoint"], rtt)


def _problems(nodes: Iterable[MeshNode], links: Iterable[Link], newest: int | None) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if node.state in (UNREACHABLE, NO_AGENT):
            yield node.name, node.reason
        if node.unapproved_routes:
            yield node.name, f"advertises what is not approved: {', '.join(node.unapproved_routes)}"
        if node.status:
            for problem in _problems_of(node.status, newest):
                yield node.name, problem
    for link in links:
        broken = [way for way in link.ways if way.kind == BROKEN]
        if len(broken) == len(link.ways):
            yield " and ".join(link.ends), "get no answer from each other"
        elif broken:
            yield broken[0].source, f"gets no answer from {broken[0].target}, which gets some from it"


def _problems_of(status: Mapping[str, Any], newest: int | None) -> Iterator[str]:
    netmap, exit_node, trial = status["netmap"], status["exit_node"], status["trial"]
    if netmap["version"] is None:
        yield "has no netmap yet"
    elif newest is not None and netmap["version"] < newest:
        yield f"has netmap version {netmap['version']}; the newest is {newest}"
    if netmap["refused"]:
        yield f"refused a netmap ({netmap['refused']['reason']}): {netmap['refused']['message']}"
    if exit_node and exit_node["state"] == "down":
        yield f"its exit node {exit_node['name']} is down"
    if trial and trial["state"] == "expired":
        yield str(trial["message"])
    for beacon in status["beacons"]:
        if beacon["since"] is None:
            yield f"is not connected to beacon {beacon['name']}: {beacon['problem'] or 'no reason known'}"
    yield from map(str, status["problems"])
