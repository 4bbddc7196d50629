# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mesh as text for Mermaid (https://mermaid.js.org/syntax/flowchart.html). Every name is in quotes, and escaped."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.cli.display import milliseconds

from .drawing import lans, shown_links
from .mesh import BROKEN, RELAY, STATIC, UP, Link, Mesh, MeshNode

# Mermaid draws no more than 500 (maxEdges).
MOST_LINKS = 490

_STYLES = (
    "classDef up fill:#dcfce7,stroke:#15803d,color:#14532d",
    "classDef beacon fill:#fef3c7,stroke:#b45309,color:#78350f",
    "classDef static fill:#f1f5f9,stroke:#64748b,color:#334155",
    "classDef trouble fill:#fee2e2,stroke:#b91c1c,color:#7f1d1d,stroke-dasharray:4 3",
    "classDef site fill:#eff6ff,stroke:#1d4ed8,color:#1e3a8a",
)


def mermaid(mesh: Mesh) -> str:
    """A flowchart, with a newline at its end."""
    return "\n".join(_lines(mesh)) + "\n"


def quoted(text: str) -> str:
    """Text as a label: in quotes, all but letters, digits and some signs as entity codes."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character.isalnum() or character in " .,:/_-()[]":
        return character
    return f"#{ord(character)};" if character.isprintable() else " "


def _lines(mesh: Mesh) -> Iterator[str]:
    yield "flowchart LR"
    ids = {node.name: f"n{index}" for index, node in enumerate(mesh.nodes)}
    for number, group in enumerate(lans(mesh)):
        if len(group) > 1:
            yield f'  subgraph lan{number}["one LAN"]'
        for node in group:
            yield f"  {_node(node, ids[node.name])}"
        if len(group) > 1:
            yield "  end"
    sites = 0
    for node in mesh.nodes:
        for route in node.routes:
            yield f"  s{sites}{{{{{quoted(route)}}}}}:::site --- {ids[node.name]}"
            sites += 1
    links = shown_links(mesh)
    drawn = links[: max(0, MOST_LINKS - sites)]
    for link in drawn:
        yield f"  {_link(link, ids)}"
    for left, why in ((len(mesh.links) - len(links), "as they should be"), (len(links) - len(drawn), "too many")):
        if left:
            yield f"  %% {left} links are not drawn, {why}"
    yield from (f"  {style}" for style in _STYLES)


def _node(node: MeshNode, identity: str) -> str:
    words = [node.name]
    if node.beacon:
        words.append("beacon")
    if node.exit_node:
        words.append("exit node")
    if node.state not in (UP, STATIC):
        words.append(node.state.replace("-", " "))
    text = "<br/>".join(quoted(word)[1:-1] for word in words)
    style = "beacon" if node.beacon and node.state == UP else node.state if node.state in (UP, STATIC) else "trouble"
    return f'{identity}["{text}"]:::{style}'


def _link(link: Link, ids: dict[str, str]) -> str:
    worst = next(way for way in link.ways if way.kind == link.kind)
    words = worst.words if link.rtt is None else f"{worst.words}, {milliseconds(link.rtt)}"
    arrow = {BROKEN: "x-.-x", RELAY: "-.-"}.get(link.kind, "---")
    return f"{ids[link.ends[0]]} {arrow}|{quoted(words)}| {ids[link.ends[1]]}"
