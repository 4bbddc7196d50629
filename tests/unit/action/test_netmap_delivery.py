# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.netmap delivering: real plays, and at the socket an agent of a few lines that keeps the contract."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import socketserver
import threading

import pytest
from tests.unit.action.playing import Control
from tests.unit.netmap.inventories import SEED, VERIFY_KEY, key, node

from sennit.netmap.admit import admit
from sennit.netmap.compile import compile_netmap
from sennit.netmap.model import Netmap, NetmapError
from sennit.netmap.signing import sign

NETMAP = compile_netmap([node("alpha"), node("beta")], None, VERIFY_KEY).netmap
FIRST = sign(NETMAP.to_bytes(), SEED)
SECOND = sign(
    compile_netmap([node("alpha"), node("beta", sennit_endpoint="192.0.2.2")], NETMAP, VERIFY_KEY).netmap.to_bytes(),
    SEED,
)


class Agent(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Admits maps as the real one does, and notes what it was asked."""

    daemon_threads = True

    def __init__(self, directory):
        self.file = directory / "netmap"
        self.current: Netmap | None = None
        self.asked: list[str] = []
        super().__init__(str(directory / "control.sock"), Connection)

    def answer(self, method, params):
        self.asked.append(method)
        if method == "netmap.apply":
            signed = base64.b64decode(params["netmap"])
            self.current = admit(signed, VERIFY_KEY, "sennit", self.current)
            self.file.write_bytes(signed)
        return {"netmap": {"version": self.current.version if self.current else None}}


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        request = json.loads(self.rfile.readline())
        try:
            reply = {"result": self.server.answer(request["method"], request["params"])}
        except NetmapError as error:
            reply = {"error": {"code": error.reason, "message": str(error)}}
        self.wfile.write(json.dumps(reply).encode() + b"\n")


@pytest.fixture
def control(tmp_path):
    directories = {"state_dir": str(tmp_path), "runtime_dir": str(tmp_path)}
    config = {"network": "sennit", "signing_key": VERIFY_KEY, **directories}
    (tmp_path / "agent.json").write_text(json.dumps(config))
    return Control(tmp_path)


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def deliver(control, signed, *arguments, status=None):
    arguments_of_task = {"state": "delivered", "netmap": base64.b64encode(signed).decode()}
    arguments_of_task["config"] = str(control.directory / "agent.json")
    hosts = {"alpha": {"sennit_status": status} if status else {}}
    inventory = {"sennit": {"children": {"sennit_nodes": {"hosts": hosts}}}}
    task = {"sennit.mesh.netmap": arguments_of_task, "register": "delivery", "ignore_errors": True}
    played = control.play(inventory, [task], *arguments)
    assert played.code == 0, played.output
    return played, played.result("delivery")


def test_a_map_is_delivered_and_the_second_time_nothing_changes(control, agent):
    played, result = deliver(control, FIRST, "--diff")
    assert result["changed"] is True and result["version"] == 1
    assert "+  beta:\n+    kind: node\n" in played.output
    assert agent.file.read_bytes() == FIRST
    assert base64.b64encode(FIRST).decode() not in played.output

    played, result = deliver(control, FIRST, "--diff")
    assert result["changed"] is False and "diff" not in result
    assert agent.asked == ["status", "netmap.apply", "status"]

    played, result = deliver(control, SECOND, "--diff")
    assert result["changed"] is True and result["version"] == 2
    assert "+    endpoint: 192.0.2.2:51820\n" in played.output
    assert "-version: 1\n+version: 2\n" in played.output


def test_check_mode_shows_and_delivers_nothing(control, agent):
    played, result = deliver(control, FIRST, "--check", "--diff")
    assert result["changed"] is True
    assert "+  beta:\n" in played.output
    assert agent.asked == ["status"] and not agent.file.exists()


def test_check_mode_before_there_is_an_agent(control):
    (control.directory / "agent.json").unlink()
    _played, result = deliver(control, FIRST, "--check", "--diff")
    assert result["changed"] is True and not result["failed"]


def test_a_host_that_said_it_has_this_map_is_not_asked_again(control, agent):
    in_force = {"version": 1, "sha256": hashlib.sha256(FIRST).hexdigest()}
    status = {"netmap": base64.b64encode(FIRST).decode(), "agent": {"netmap": in_force}}
    _played, result = deliver(control, FIRST, status=status)
    assert result["changed"] is False and result["version"] == 1
    assert agent.asked == []
    # The file is there, but the agent follows none: it is asked, and given the map.
    _played, result = deliver(control, FIRST, status={**status, "agent": None})
    assert result["changed"] is True
    assert agent.asked == ["status", "netmap.apply"]


def test_a_refusal_names_the_host_and_the_reason(control, agent):
    deliver(control, SECOND)
    _played, result = deliver(control, FIRST)
    assert result["failed"] and result["reason"] == "older"
    assert result["msg"] == "alpha: the agent refused netmap version 1 (older): version 1; version 2 is here"
    assert agent.file.read_bytes() == SECOND

    forged = sign(dataclasses.replace(NETMAP, version=9).to_bytes(), key("another seed"))
    _played, result = deliver(control, forged)
    assert result["failed"] and result["reason"] == "bad-signature"
    assert agent.file.read_bytes() == SECOND


def test_what_keeps_a_map_from_being_delivered_is_told(control):
    _played, result = deliver(control, FIRST)
    assert result["failed"] and result["reason"] == "not-running"
    assert result["msg"].startswith("alpha: the agent does not run")
    _played, result = deliver(control, b"no netmap")
    assert result["failed"] and "no netmap" in result["msg"]
    (control.directory / "agent.json").unlink()
    _played, result = deliver(control, FIRST)
    assert result["failed"] and f"{control.directory}/agent.json" in result["msg"]


def test_a_damaged_file_on_the_host_is_replaced(control, agent):
    agent.file.write_bytes(FIRST[:200])
    played, result = deliver(control, FIRST, "--diff")
    assert result["changed"] is True
    assert "(not a netmap:" in played.output
    assert agent.file.read_bytes() == FIRST
