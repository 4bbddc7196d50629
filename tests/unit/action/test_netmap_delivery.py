# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.netmap delivering to one host, in real plays."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from tests.unit.action.agents import as_status, running
from tests.unit.action.playing import Control
from tests.unit.netmap.inventories import SEED, VERIFY_KEY, key, node

from sennit.netmap.compile import compile_netmap
from sennit.netmap.signing import sign

NETMAP = compile_netmap([node("alpha"), node("beta")], None, VERIFY_KEY).netmap
FIRST = sign(NETMAP.to_bytes(), SEED)
SECOND = sign(
    compile_netmap([node("alpha"), node("beta", sennit_endpoint="192.0.2.2")], NETMAP, VERIFY_KEY).netmap.to_bytes(),
    SEED,
)


@pytest.fixture
def control(tmp_path):
    return Control(tmp_path)


@pytest.fixture
def agent(tmp_path):
    with running(tmp_path / "agent") as server:
        yield server


def deliver(control, signed, *arguments, status=None, **options):
    arguments_of_task = {"state": "delivered", "netmap": base64.b64encode(signed).decode(), **options}
    arguments_of_task["config"] = str(control.directory / "agent/agent.json")
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
    assert agent.asked == ["status", "netmap.apply", "trial.confirm", "status"]

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
    _played, result = deliver(control, FIRST, "--check", "--diff")
    assert result["changed"] is True and not result["failed"]


def test_a_host_that_said_it_has_this_map_is_not_asked_again(control, agent):
    deliver(control, FIRST)
    status = as_status(agent)
    agent.asked.clear()
    _played, result = deliver(control, FIRST, status=status)
    assert result["changed"] is False and result["version"] == 1
    assert agent.asked == []
    # The file is there, but the agent did not answer: it is asked again.
    _played, result = deliver(control, FIRST, status={**status, "agent": None})
    assert result["changed"] is False
    assert agent.asked == ["status"]


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


def test_what_keeps_a_map_from_being_delivered_is_told(control, agent):
    (agent.directory / "control.sock").unlink()
    _played, result = deliver(control, FIRST)
    assert result["failed"] and result["reason"] == "not-running"
    assert result["msg"].startswith("alpha: the agent does not run")
    _played, result = deliver(control, b"no netmap")
    assert result["failed"] and "no netmap" in result["msg"]
    agent.config.unlink()
    _played, result = deliver(control, FIRST)
    assert result["failed"] and str(agent.config) in result["msg"]


def test_a_damaged_file_on_the_host_is_replaced(control, agent):
    agent.file.write_bytes(FIRST[:200])
    played, result = deliver(control, FIRST, "--diff")
    assert result["changed"] is True
    assert "(not a netmap:" in played.output
    assert agent.file.read_bytes() == FIRST


def test_without_a_trial_the_map_is_for_good_at_once(control, agent):
    _played, result = deliver(control, FIRST, trial=0)
    assert result["changed"] is True and "trial" not in result
    assert agent.asked == ["status", "netmap.apply"]
    assert agent.file.read_bytes() == FIRST


def test_a_trial_that_another_task_confirms(control, agent):
    _played, result = deliver(control, FIRST, confirm=False, trial=30)
    assert result["trial"] == {"id": "trial 2", "deadline": 30, "what": "netmap version 1"}
    assert agent.current is not None and not agent.file.exists()
