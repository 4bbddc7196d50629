# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where everything is in the drawing of a mesh: nodes on a circle, those of one LAN beside each other, links as chords.

Pure geometry, in units of the drawing; the template page.html.j2 makes SVG of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.cli.display import milliseconds

from .mesh import BROKEN, LAN, RELAY, STATIC, UP, Link, Mesh, MeshNode

# From so many nodes on, links that are as they should be are left out: hundreds of lines show nothing.
CROWDED = 32
# Up to so many, there is room for times beside the lines, and for names that lie flat.
ROOMY = 5
FLAT = 20

_CHARACTER = 6.6
_CHIP_HEIGHT = 17.0
_LINE = 20.0


@dataclass(frozen=True)
class Chip:
    """A word in a box below a node's name. ``kind``: route, exit, beacon, static or trouble."""

    x: float
    y: float
    width: float
    kind: str
    text: str


@dataclass(frozen=True)
class Dot:
    """A node. The label is turned by ``turn`` degrees around the dot, in a crowd."""

    index: int
    node: MeshNode
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str
    turn: float
    small: bool
    chips: tuple[Chip, ...]


@dataclass(frozen=True)
class Line:
    """A link. ``nodes``: the dots that it belongs to, the relay's too. ``label`` is empty where there is no room."""

    link: Link
    nodes: tuple[int, ...]
    path: str
    label: str
    label_x: float
    label_y: float
    title: str


@dataclass(frozen=True)
class Arc:
    """The dots of one LAN."""

    path: str


@dataclass(frozen=True)
class Drawing:
    """All of it, in a frame; ``left_out``: how many links are not drawn since they are as they should be."""

    x: float
    y: float
    width: float
    height: float
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    arcs: tuple[Arc, ...]
    left_out: int


def draw(mesh: Mesh) -> Drawing:
    """The drawing of all nodes, and of all links or, in a crowd, of those that are relayed or broken."""
    groups = lans(mesh)
    order = [node for group in groups for node in group]
    radius = max(230.0, 46.0 * len(order) / (2 * math.pi) if len(order) <= FLAT else 17.0 * len(order) / (2 * math.pi))
    places = {node.name: _place(index, len(order), radius) for index, node in enumerate(order)}
    dots = tuple(_dot(index, node, places[node.name], len(order)) for index, node in enumerate(order))
    shown = shown_links(mesh)
    indices = {node.name: index for index, node in enumerate(order)}
    arcs = tuple(Arc(_arc(places[group[0].name], places[group[-1].name], radius)) for group in groups if len(group) > 1)
    x, y, width, height = _frame(dots)
    return Drawing(
        x, y, width, height,
        dots=dots,
        # The better ones first: what is worth looking at lies on top.
        lines=tuple(
            _line(link, indices, places, len(order) <= ROOMY)
            for link in sorted(shown, key=lambda link: (link.kind == BROKEN, link.kind == RELAY))
        ),
        arcs=arcs if len(arcs) > 1 or any(len(group) == 1 for group in groups) else (),
        left_out=len(mesh.links) - len(shown),
    )  # fmt: skip


def shown_links(mesh: Mesh) -> list[Link]:
    """All links or, in a crowd, those that are relayed or broken."""
    if len(mesh.nodes) <= CROWDED:
        return list(mesh.links)
    return [link for link in mesh.links if link.kind in (RELAY, BROKEN)]


def lans(mesh: Mesh) -> list[list[MeshNode]]:
    """Nodes that reach each other by a LAN, together; by name, as are the groups by their first."""
    group = {node.name: node.name for node in mesh.nodes}

    def first(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for link in mesh.links:
        if link.kind == LAN:
            one, other = sorted(map(first, link.ends))
            group[other] = one
    found: dict[str, list[MeshNode]] = {}
    for node in mesh.nodes:
        found.setdefault(first(node.name), []).append(node)
    return [found[name] for name in sorted(found)]


def link_title(link: Link) -> str:
    """All that is known of a link, in a line for each direction."""
    lines = []
    for way in link.ways:
        rtt = "" if way.rtt is None else f", {milliseconds(way.rtt)}"
        by = f" ({way.endpoint})" if way.endpoint else ""
        lines.append(f"{way.source} → {way.target}: {way.words}{rtt}{by}")
    return "\n".join(lines)


def _place(index: int, count: int, radius: float) -> tuple[float, float, float]:
    """x, y and the angle; the first is at the top, or at the left of two."""
    if count == 1:
        return 0.0, 0.0, -math.pi / 2
    angle = 2 * math.pi * index / count + (math.pi if count == 2 else -math.pi / 2)
    return radius * math.cos(angle), radius * math.sin(angle), angle


def _dot(index: int, node: MeshNode, place: tuple[float, float, float], count: int) -> Dot:
    x, y, angle = place
    flat = count <= FLAT
    cosine, sine = math.cos(angle), math.sin(angle)
    words = list(_chip_words(node))
    if not flat:
        left = cosine < -1e-9
        turn = math.degrees(angle) + (180 if left else 0)
        return Dot(index, node, x, y, x - 20 if left else x + 20, y + 4, "end" if left else "start", turn, True, ())
    # The height of the label: above the dot at the top, below it at the bottom, beside it else.
    height = _LINE * (1 + len(words))
    if abs(cosine) < 0.25:
        label_x, anchor = x, "middle"
        label_y = y - 22 - height + _LINE if sine < 0 else y + 36
    else:
        anchor = "start" if cosine > 0 else "end"
        label_x = x + (26 if cosine > 0 else -26)
        label_y = y + 5 - (height - _LINE) / 2
    chips = []
    for row, (kind, text) in enumerate(words, start=1):
        width = _CHARACTER * len(text) + 14
        left_edge = {"start": label_x, "middle": label_x - width / 2, "end": label_x - width}[anchor]
        chips.append(Chip(left_edge, label_y + row * _LINE - 13, width, kind, text))
    return Dot(index, node, x, y, label_x, label_y, anchor, 0.0, node.state == STATIC, tuple(chips))


def _chip_words(node: MeshNode) -> Iterable[tuple[str, str]]:
    if node.beacon:
        yield "beacon", "beacon"
    if node.exit_node:
        yield "exit", "exit node"
    for route in node.routes[:4]:
        yield "route", route
    if len(node.routes) > 4:
        yield "route", f"and {len(node.routes) - 4} more"
    if node.state == STATIC:
        yield "static", "no agent"
    elif node.state != UP:
        yield "trouble", node.state.replace("-", " ")


def _line(link: Link, indices: dict[str, int], places: dict[str, tuple[float, float, float]], labelled: bool) -> Line:
    stops = [link.ends[0], link.ends[1]]
    if link.kind == RELAY and link.relay in places and link.relay not in link.ends:
        stops.insert(1, link.relay)
    # Not as the links to the relay itself are.
    path, label = _chords([places[stop][:2] for stop in stops], 0.3 if len(stops) == 2 else 0.16)
    return Line(
        link,
        tuple(indices[stop] for stop in stops),
        path,
        milliseconds(link.rtt) if labelled and link.rtt is not None else "",
        *label,
        link_title(link),
    )


def _chords(stops: Sequence[tuple[float, float]], bend: float) -> tuple[str, tuple[float, float]]:
    """A curve from each to the next, bent towards the middle of the drawing, and a point near the middle of the first.

    bend: how far from the middle its middle is pulled; 1 is a straight line.
    """
    path = "M{:.1f} {:.1f}".format(*stops[0])
    labels = []
    for (x, y), (next_x, next_y) in zip(stops, stops[1:]):
        control_x, control_y = bend * (x + next_x) / 2, bend * (y + next_y) / 2
        path += f"Q{control_x:.1f} {control_y:.1f} {next_x:.1f} {next_y:.1f}"
        # Not at the half, where those of four nodes cross.
        labels.append((0.36 * x + 0.48 * control_x + 0.16 * next_x, 0.36 * y + 0.48 * control_y + 0.16 * next_y))
    return path, labels[0]


def _arc(start: tuple[float, float, float], end: tuple[float, float, float], radius: float) -> str:
    large = 1 if end[2] - start[2] > math.pi else 0
    return f"M{start[0]:.1f} {start[1]:.1f}A{radius:.1f} {radius:.1f} 0 {large} 1 {end[0]:.1f} {end[1]:.1f}"


def _frame(dots: Sequence[Dot]) -> tuple[float, float, float, float]:
    """x, y, width and height that hold all dots with their labels."""
    left, top, right, bottom = -60.0, -60.0, 60.0, 60.0
    for dot in dots:
        width = max([_CHARACTER * 1.25 * len(dot.node.name), *(chip.width for chip in dot.chips)])
        if dot.turn or not dot.chips:
            reach = width + 30
            angle = math.atan2(dot.y, dot.x)
            xs = [dot.x + reach * math.cos(angle), dot.label_x - width, dot.label_x + width]
            ys = [dot.y + reach * math.sin(angle) if dot.turn else dot.label_y + 12, dot.label_y - 18]
        else:
            xs = [dot.label_x - width, dot.label_x + width]
            ys = [dot.label_y - 18, *(chip.y + _CHIP_HEIGHT for chip in dot.chips)]
        left, right = min(left, dot.x - 30, *xs), max(right, dot.x + 30, *xs)
        top, bottom = min(top, dot.y - 30, *ys), max(bottom, dot.y + 30, *ys)
    # As far to the one side as to the other.
    half = max(-left, right)
    return -half - 20, top - 20, 2 * half + 40, bottom - top + 40
