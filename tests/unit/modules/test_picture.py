# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a mesh: what it says of whom, that it is one good page, and that no name gets out of its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.sennit.mesh.plugins.filter.status_mermaid import status_mermaid
from ansible_collections.sennit.mesh.plugins.filter.status_page import status_page
from ansible_collections.sennit.mesh.plugins.plugin_utils._picture.drawing import draw
from ansible_collections.sennit.mesh.plugins.plugin_utils._picture.mermaid import MOST_LINKS, quoted
from ansible_collections.sennit.mesh.plugins.plugin_utils._picture.mesh import (
    BROKEN,
    DIRECT,
    LAN,
    NO_AGENT,
    NOT_ASKED,
    RELAY,
    STATIC,
    UNREACHABLE,
    UP,
    Mesh,
    read,
)
from hypothesis import given
from hypothesis import strategies as st

from . import reports

HOSTILE = [
    '<script>alert("x")</script>',
    '"><img src=x onerror=alert(1)>',
    "'); DROP TABLE nodes; --",
    "</style></svg><!--",
    "{{ 7 * 7 }}{% raw %}",
    '"] --> n0; click n0 "javascript:alert(1)"',
    "%%{init: {'securityLevel': 'loose'}}%%",
    "line\nbreak\r\x00\u202e",
    "&lt;b&gt; `markdown`",
]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in its turn, and keeps what there is."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _attributes in self.elements)


def mesh_of(found: dict[str, dict[str, Any]], everyone: bool = True) -> Mesh:
    return read(found, reports.NOW, everyone)


def states(mesh: Mesh) -> dict[str, str]:
    return {node.name: node.state for node in mesh.nodes}


def test_who_is_there() -> None:
    found = reports.example()
    found["bare"] = {"installed": False, "agent": None}
    found["stopped"] = {"installed": True, "agent": None}
    found["odd"] = {"failed": False, "msg": "no Python\nthere"}
    mesh = mesh_of(found)
    assert states(mesh) == {
        **dict.fromkeys(found, UP),
        "old": UNREACHABLE,
        "phone": STATIC,
        **dict.fromkeys(("bare", "stopped", "odd"), NO_AGENT),
    }
    reasons = {node.name: node.reason for node in mesh.nodes if node.state != UP}
    assert reasons["old"] == "Ansible cannot reach it: Connection timed out"
    assert reasons["stopped"] == "its agent does not answer"
    assert "no Python" in reasons["odd"]


def test_a_host_that_was_not_asked_is_there_by_the_words_of_others() -> None:
    found = reports.reports(["a", "b", "c"], {("a", "b"): ("lan", None, 0.001)}, silent={"c": None})  # type: ignore[dict-item]
    mesh = mesh_of(found)
    assert states(mesh) == {"a": UP, "b": UP, "c": NOT_ASKED}
    assert next(node for node in mesh.nodes if node.name == "c").addresses == ("100.64.0.3", "fd5e::3")
    assert [link.ends for link in mesh.links] == [("a", "b")]


def test_what_is_between_two() -> None:
    mesh = mesh_of(reports.example())
    links = {link.ends: link for link in mesh.links}
    assert links["alpha", "beta"].kind == LAN
    assert links["alpha", "laptop"].kind == RELAY
    assert links["alpha", "laptop"].relay == "harbor"
    assert links["gateway-berlin", "laptop"].rtt == 0.0333
    assert links["beta", "warehouse"].kind == BROKEN
    # Nobody can say of the phone whether it ought to have answered.
    assert [link.ends for link in mesh.links if "phone" in link.ends] == [("mole", "phone")]
    assert mesh.ways["mole", "phone"].kind == DIRECT
    assert ("phone", "mole") not in mesh.ways


def test_silence_is_a_fault_only_if_everyone_has_tried() -> None:
    mesh = mesh_of(reports.example(), everyone=False)
    assert ("beta", "warehouse") not in {link.ends for link in mesh.links}
    assert not any("no answer" in what for _whose, what in mesh.problems)


def test_a_link_is_never_better_than_either_end_says() -> None:
    found = reports.reports(["a", "b"], {("a", "b"): ("direct", None, 0.02)})
    found["b"]["agent"]["peers"][0].update(path={"kind": "relay", "relay": "c"}, rtt=0.03)
    (link,) = mesh_of(found).links
    assert (link.kind, link.relay, link.rtt) == (RELAY, "c", 0.02)


def test_a_path_that_no_agent_knows() -> None:
    found = reports.reports(["a", "b"], {("a", "b"): ("direct", None, 0.02)})
    for host in found.values():
        host["agent"]["peers"][0]["path"] = None
    (link,) = mesh_of(found).links
    assert link.kind == "unknown"
    assert "by an unknown path" in status_page(found, True, reports.NOW)


def test_problems() -> None:
    found = reports.example()
    laptop = found["laptop"]["agent"]
    laptop["exit_node"] = {"name": "gateway-berlin", "state": "down"}
    laptop["netmap"]["refused"] = {"reason": "older", "message": "version 6", "at": reports.NOW}
    laptop["beacons"] = [{"name": "mole", "since": None, "version": None, "refused": None, "problem": "refused"}]
    laptop["problems"] = ["the disk is full"]
    laptop["trial"] = {
        "id": "1",
        "what": "netmap",
        "state": "expired",
        "reason": "x",
        "message": "version 8: not confirmed",
    }
    # One hears the other, but not the other way round.
    for peer in found["wharf"]["agent"]["peers"]:
        if peer["name"] == "alpha":
            peer["rtt"] = None
    problems = mesh_of(found).problems
    for problem in (
        ("laptop", "its exit node gateway-berlin is down"),
        ("laptop", "refused a netmap (older): version 6"),
        ("laptop", "is not connected to beacon mole: refused"),
        ("laptop", "the disk is full"),
        ("laptop", "version 8: not confirmed"),
        ("wharf", "advertises what is not approved: 10.0.0.0/8"),
        ("wharf", "has netmap version 6; the newest is 7"),
        ("old", "Ansible cannot reach it: Connection timed out"),
        ("beta and warehouse", "get no answer from each other"),
        ("wharf", "gets no answer from alpha, which gets some from it"),
    ):
        assert problem in problems


def test_the_page_shows_what_there_is() -> None:
    page = Page(status_page(reports.example(), True, reports.NOW))
    for words in ("2027-01-15 08:00 UTC", "netmap version 7", "9 of 10", "192.168.50.0/24", "fd50:5e9:a::/64",
                  "alpha → laptop: relayed by harbor, 61.20 ms", "Connection timed out", "10.0.0.0/8, not approved",
                  "gateway-berlin (active)", "70.0 MiB forwarded", "3: alpha, beta, laptop", "exit node"):  # fmt: skip
        assert words in page.text
    # Each node has its dot, and each link its line to point at.
    assert sum(attributes.get("class") == "hit" for _tag, attributes in page.elements) == 46


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 21, 33, 200])
def test_any_number_of_nodes(count: int) -> None:
    found = reports.large(count)
    page = Page(status_page(found, True, reports.NOW))
    for name in (f"node-{number:03}.example" for number in range(count)):
        assert name in page.text
    drawing = draw(mesh_of(found))
    assert len({(round(dot.x), round(dot.y)) for dot in drawing.dots}) == count
    for dot in drawing.dots:
        assert drawing.x < dot.x < drawing.x + drawing.width
        assert drawing.y < dot.y < drawing.y + drawing.height
    assert drawing.left_out + len(drawing.lines) == count * (count - 1) / 2
    assert (drawing.left_out > 0) == (count > 32)


def test_a_mesh_of_nobody() -> None:
    assert "0 of 0" in Page(status_page({}, True, reports.NOW)).text
    assert status_mermaid({}, True, reports.NOW).startswith("flowchart LR\n")


def test_nothing_is_fetched() -> None:
    text = status_page(reports.example(), True, reports.NOW)
    page = Page(text)
    assert not {tag for tag, _attributes in page.elements} & {"script", "link", "img", "iframe", "object", "embed"}
    assert not [
        name for _tag, attributes in page.elements for name in attributes if name in ("src", "href", "xlink:href")
    ]
    assert "url(" not in text
    assert "@import" not in text


def hostile() -> dict[str, dict[str, Any]]:
    """Hosts that say such things wherever they can say anything."""
    names = ["good", *HOSTILE]
    paths: Any = {(one, other): ("relay", one, 0.01) for one in names for other in names if one != other}
    facts = {name: {"routes": [name], "unapproved_routes": [name]} for name in names}
    statuses = {
        name: {
            "network": name,
            "problems": [name],
            "core": name,
            "datapath": name,
            "exit_node": {"name": name, "state": name},
            "beacon": {"port": 1, "clients": [name], "refused": {}, "problem": None},
            "routes": [{"prefix": name, "via": "good", "state": name}],
        }
        for name in names
    }
    found = reports.reports(names, paths, facts, statuses)
    found["lost"] = {"unreachable": True, "msg": "".join(HOSTILE)}
    return found


def test_no_name_gets_out_of_its_place_on_the_page() -> None:
    found = hostile()
    good = Page(status_page(reports.reports(["a", "b"], {("a", "b"): ("relay", "a", 0.01)}), True, reports.NOW))
    page = Page(status_page(found, True, reports.NOW))
    assert {tag for tag, _attributes in page.elements} <= {tag for tag, _attributes in good.elements} | {
        "rect", "code", "br", "b", "section", "span",
    }  # fmt: skip
    assert not [name for _tag, attributes in page.elements for name in attributes if name.startswith("on")]
    for name in HOSTILE[:5]:
        assert name in page.text


QUOTED = r'"(?:[^"\\`<>{}|%;]|#\d+;|<br/>)*"'
NODE = re.compile(rf" *n\d+\[{QUOTED}\]:::(up|beacon|static|trouble)")
SITE = re.compile(rf" *s\d+\{{\{{{QUOTED}\}}\}}:::site --- n\d+")
LINK = re.compile(rf" *n\d+ (---|-\.-|x-\.-x)\|{QUOTED}\| n\d+")
OTHER = re.compile(
    r'flowchart LR| *subgraph lan\d+\["one LAN"\]| *end| *%% \d+ links are not drawn, [a-z ]+| *classDef [a-z]+ [^;]+'
)


@pytest.mark.parametrize("found", [reports.example(), hostile(), reports.large(3), reports.large(40)], ids=str)
def test_the_flowchart_is_of_these_lines_alone(found: dict[str, dict[str, Any]]) -> None:
    lines = status_mermaid(found, True, reports.NOW).splitlines()
    for line in lines:
        assert any(form.fullmatch(line) for form in (NODE, SITE, LINK, OTHER)), line
    ids = [line.split("[")[0].strip() for line in lines if NODE.fullmatch(line)]
    assert len(ids) == len(set(ids)) == len(mesh_of(found).nodes)


def test_the_flowchart_of_a_crowd_stays_within_what_mermaid_draws() -> None:
    text = status_mermaid(reports.large(260), True, reports.NOW)
    assert sum(bool(LINK.fullmatch(line)) for line in text.splitlines()) == MOST_LINKS
    assert "links are not drawn, as they should be" in text
    assert "links are not drawn, too many" in text


@given(st.text())
def test_a_label_is_one_string_of_mermaid(text: str) -> None:
    assert re.fullmatch(QUOTED, quoted(text))
    assert "\n" not in quoted(text)


@pytest.mark.parametrize("wrong", [{"a": {"agent": {"node": "a"}}}, {"a": 3}, {"a": {"agent": [1]}}, [1], "text"])
def test_what_is_no_report_is_refused(wrong: Any) -> None:
    for convert in (status_page, status_mermaid):
        with pytest.raises(AnsibleFilterError, match=r"not what sennit\.mesh\.status_info tells"):
            convert(wrong)
