# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mesh as one HTML page, which needs nothing but itself. The template escapes whatever a host has said."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.cli.display import age, milliseconds, size
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .drawing import CROWDED, draw, lans
from .mesh import BROKEN, DIRECT, IPV6, LAN, RELAY, UNKNOWN, UP, Mesh

_KINDS = {
    LAN: "LAN",
    IPV6: "IPv6",
    DIRECT: "direct",
    UNKNOWN: "path not known",
    RELAY: "relayed",
    BROKEN: "no answer",
}


def page(mesh: Mesh) -> str:
    """The page, as text of UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ms=milliseconds, size=size, brief=_brief)
    template = environment.get_template("page.html.j2")
    return template.render(mesh=mesh, drawing=draw(mesh), **_context(mesh)) + "\n"


def _context(mesh: Mesh) -> dict[str, Any]:
    members = [node for node in mesh.nodes if node.state != "static"]
    counts = {kind: sum(link.kind == kind for link in mesh.links) for kind in _KINDS}
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(mesh.at)),
        "members": members,
        "up": sum(node.state == UP for node in members),
        "kinds": _KINDS,
        "counts": counts,
        "crowded": CROWDED,
        "lans": [group for group in lans(mesh) if len(group) > 1],
        "beacons": [node for node in mesh.nodes if node.beacon],
        "routes": _routes(mesh),
        "sources": [node for node in mesh.nodes if node.status],
        "age": age,
    }


def _routes(mesh: Mesh) -> list[dict[str, Any]]:
    """Each prefix with its router, and what the others make of it."""
    states: dict[tuple[str, str], dict[str, list[str]]] = {}
    for node in mesh.nodes:
        for route in node.status["routes"] if node.status else ():
            by_state = states.setdefault((route["prefix"], route["via"]), {})
            by_state.setdefault(route["state"], []).append(node.name)
    found = [
        {"prefix": prefix, "via": node.name, "approved": approved, "states": states.get((prefix, node.name), {})}
        for node in mesh.nodes
        for prefixes, approved in ((node.routes, True), (node.unapproved_routes, False))
        for prefix in prefixes
    ]
    return sorted(found, key=lambda route: (route["prefix"], route["via"]))


def _brief(seconds: float | None) -> str:
    """A time in milliseconds for a cell of a table, without its unit."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.{1 if seconds < 0.01 else 0}f}"
