# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes on trial in plays of two hosts, and connections that break: all hosts keep a change, or none does."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from tests.unit.action.agents import CONNECTION, as_status, preferences, running
from tests.unit.action.playing import ROOT, Control
from tests.unit.netmap.inventories import SEED, VERIFY_KEY, node

from sennit.netmap.compile import compile_netmap
from sennit.netmap.signing import sign

NETMAP = compile_netmap([node("alpha"), node("beta")], None, VERIFY_KEY).netmap
SIGNED = base64.b64encode(sign(NETMAP.to_bytes(), SEED)).decode()

DELIVER = {
    "sennit.mesh.netmap": {"state": "delivered", "netmap": SIGNED, "confirm": False, "config": "{{ config }}"},
    "register": "delivery",
    "any_errors_fatal": True,
}


@pytest.fixture
def control(tmp_path):
    (tmp_path / "connection_plugins").mkdir()
    (tmp_path / "connection_plugins/breakable.py").write_text(CONNECTION)
    return Control(tmp_path)


@pytest.fixture
def agents(tmp_path):
    with running(tmp_path / "alpha") as alpha, running(tmp_path / "beta") as beta:
        yield {"alpha": alpha, "beta": beta}


def play(control, agents, tasks, *arguments, statuses=None):
    hosts = {
        name: {
            "ansible_connection": "breakable",
            "ansible_pipelining": True,
            "config": str(agent.config),
            **({"sennit_status": statuses[name]} if statuses else {}),
        }
        for name, agent in agents.items()
    }
    inventory = {"sennit": {"children": {"sennit_nodes": {"hosts": hosts}}}}
    (control.directory / "connections").unlink(missing_ok=True)
    played = control.play(inventory, tasks, *arguments)
    return dataclasses.replace(played, output=" ".join(played.output.split()))


def connections(control):
    log = control.directory / "connections"
    return log.read_text().split("\n")[:-1] if log.exists() else []


def keep(variable):
    """The role's tasks that keep what is on trial."""
    trial = f"{{{{ {variable}.trial | default({{}}) }}}}"
    return [
        {"sennit.mesh.trial": {"state": state, "trial": trial, "config": "{{ config }}"}, "any_errors_fatal": True}
        for state in ("reached", "confirmed")
    ]


def test_a_map_is_kept_by_all_when_all_can_be_reached_anew(control, agents):
    played = play(control, agents, [DELIVER, *keep("delivery")])
    assert played.code == 0, played.output
    for name, agent in agents.items():
        assert agent.asked == ["status", "netmap.apply", "status", "trial.confirm"]
        assert agent.file.exists() and agent.trial is None
        # The change, the look and the confirmation.
        assert [line for line in connections(control) if line.startswith(name)].count(f"{name} new") >= 2


def test_a_host_that_a_map_cuts_off_is_told_of_and_nobody_keeps_it(control, agents):
    agents["beta"].on_apply = (control.directory / "beta.cut").touch
    played = play(control, agents, [DELIVER, *keep("delivery")])
    assert played.code != 0
    assert "beta: the connection was lost when netmap version 1 came into force on trial. Within 60 s" in played.output
    assert "no answer" in played.output
    assert "trial.confirm" not in agents["alpha"].asked
    assert not any(agent.file.exists() for agent in agents.values())


def test_a_host_that_cannot_be_reached_anew_is_told_of_and_nobody_keeps_it(control, agents):
    agents["beta"].on_apply = (control.directory / "beta.closed").touch
    played = play(control, agents, [DELIVER, *keep("delivery")])
    assert played.code != 0
    assert (
        "beta: cannot be reached any more since netmap version 1 came into force on trial. Within 60 s" in played.output
    )
    assert not any("trial.confirm" in agent.asked for agent in agents.values())


def test_a_host_without_a_trial_counts_too(control, agents):
    play(control, agents, [DELIVER, *keep("delivery")])
    statuses = {"alpha": {"netmap": None}, "beta": as_status(agents["beta"])}
    agents["alpha"].fall_back()
    agents["alpha"].file.unlink()
    agents["alpha"].on_apply = (control.directory / "beta.closed").touch
    agents["beta"].asked.clear()
    played = play(control, agents, [DELIVER, *keep("delivery")], statuses=statuses)
    assert played.code != 0
    assert "beta: cannot be reached any more since a change came into force on trial on other hosts" in played.output
    assert agents["beta"].asked == [] and not agents["alpha"].file.exists()


def test_a_trial_that_is_over_is_not_confirmed(control, agents):
    played = play(control, agents, [DELIVER])
    trials = {name: agent.trial["id"] for name, agent in agents.items()}
    agents["beta"].fall_back()
    late = {"sennit.mesh.trial": {"state": "reached", "trial": {"id": trials["beta"]}, "config": "{{ config }}"}}
    played = play(control, agents, [late], "--limit", "beta")
    assert played.code != 0 and "beta: a change: the trial is over" in played.output
    late["sennit.mesh.trial"]["state"] = "confirmed"
    played = play(control, agents, [late], "--limit", "beta")
    assert played.code != 0 and "no-such-trial" in played.output


SET = {
    "sennit.mesh.preferences": {"exit_node": "alpha", "accept_routes": False, "config": "{{ config }}"},
    "register": "set",
}


def test_preferences_are_set_kept_and_silent_the_second_time(control, agents):
    played = play(control, agents, [SET], "--diff", "--limit", "beta")
    assert played.code == 0, played.output
    wanted = preferences(exit_node="alpha", accept_routes=False)
    assert played.result("set")["changed"] and played.result("set")["preferences"] == wanted
    assert "-accept_routes: true -exit_node: none +accept_routes: false +exit_node: alpha" in played.output
    assert agents["beta"].preferences.to_mapping() == wanted
    assert agents["beta"].asked == ["preferences.get", "preferences.set", "trial.confirm"]

    played = play(control, agents, [SET], "--diff", "--limit", "beta")
    assert played.result("set")["changed"] is False and "+++" not in played.output

    # What the play has read already is not asked for again.
    agents["beta"].asked.clear()
    statuses = {name: as_status(agent) for name, agent in agents.items()}
    played = play(control, agents, [SET], "--limit", "beta", statuses=statuses)
    assert played.result("set")["changed"] is False and played.result("set")["preferences"] == wanted
    assert agents["beta"].asked == []

    none = {"sennit.mesh.preferences": {"exit_node": "", "config": "{{ config }}"}, "register": "set"}
    played = play(control, agents, [none], "--limit", "beta")
    assert played.result("set")["preferences"] == preferences(accept_routes=False)


def test_preferences_in_check_mode_are_only_shown(control, agents):
    played = play(control, agents, [SET], "--check", "--diff", "--limit", "beta")
    assert played.result("set")["changed"] is True and "+exit_node: alpha" in played.output
    assert agents["beta"].asked == ["preferences.get"]
    agents["beta"].config.unlink()
    played = play(control, agents, [SET], "--check", "--limit", "beta")
    assert played.result("set")["changed"] is True


def test_preferences_that_cut_the_host_off_are_not_kept(control, agents):
    agents["beta"].on_apply = (control.directory / "beta.closed").touch
    played = play(control, agents, [SET], "--limit", "beta")
    assert played.code != 0
    assert (
        "beta: cannot be reached any more since the preferences accept_routes=false, exit_node=alpha" in played.output
    )
    assert agents["beta"].trial is not None


def test_what_is_on_trial_is_kept_by_the_role_too(control, agents):
    """The tasks of roles/agent/tasks/keep.yml, as they stand there."""
    include = {
        "ansible.builtin.include_tasks": str(ROOT / "roles/agent/tasks/keep.yml"),
        "vars": {"_sennit_trials": "delivery"},
    }
    # Its tasks find the agent where it usually is; nothing is on trial, so nobody is asked.
    statuses = {}
    play(control, agents, [DELIVER, *keep("delivery")])
    for name, agent in agents.items():
        statuses[name] = as_status(agent)
        agent.asked.clear()
    played = play(control, agents, [DELIVER, include], statuses=statuses)
    assert played.code == 0, played.output
    assert not any(agent.asked for agent in agents.values())
    assert not any(line.endswith("new") for line in connections(control))
