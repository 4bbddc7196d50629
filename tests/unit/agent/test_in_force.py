"""Proposals, trials and what is written down, with a clock of the test's own."""

import base64
import dataclasses

import pytest

from sennit.api import ApiError
from sennit.beacon.messages import Kept
from sennit.config import Config
from sennit.in_force import InForce
from sennit.netmap.model import KIND_NODE, Netmap, NetmapError, Network, Node
from sennit.netmap.signing import generate_signing_key, sign, verify_key_of
from sennit.preferences import PreferencesError
from sennit.state import StateError

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10",))
KEY = generate_signing_key()
OWN = bytes([1] * 32)
ALPHA = Node("alpha", KIND_NODE, OWN, ("100.64.0.1",), exit_node="approved")
BETA = Node("beta", KIND_NODE, bytes([2] * 32), ("100.64.0.2",), exit_node="approved")
GAMMA = Node("gamma", KIND_NODE, bytes([3] * 32), ("100.64.0.3",), exit_node="offered")


def signed(version, *nodes):
    return sign(Netmap(NETWORK, version, nodes or (ALPHA, BETA, GAMMA)).to_bytes(), KEY)


@pytest.fixture
def config(tmp_path):
    return Config("demo", verify_key_of(KEY), state_dir=str(tmp_path))


@pytest.fixture
def in_force(config):
    in_force = InForce(config, OWN)
    in_force.adopt(in_force.propose_netmap(signed(1), "ansible"), None, 0)
    return in_force


def after_a_crash(config):
    """What is in force after a restart, as if it had come from there before."""
    again = InForce(config, OWN)
    again.load_preferences()
    again.load_netmap()
    return dataclasses.replace(again.state, origin="ansible" if again.state.netmap else None)


def test_what_is_adopted_for_good_comes_back(in_force, config):
    in_force.adopt(in_force.propose_preferences({"accept_dns": False}), None, 0)
    assert after_a_crash(config) == in_force.state


def test_a_trial_comes_back_only_when_it_was_confirmed(in_force, config):
    before = in_force.state
    assert in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), 60, 1000)
    assert in_force.state.netmap.version == 2
    assert in_force.trial.ends_at == 1060
    assert after_a_crash(config) == before
    in_force.confirm(in_force.trial.id)
    assert in_force.trial is None
    assert after_a_crash(config) == in_force.state
    assert in_force.state.netmap.version == 2


def test_a_trial_falls_back(in_force, config):
    before = in_force.state
    in_force.adopt(in_force.propose_preferences({"exit_node": "beta"}), 60, 1000)
    identity = in_force.trial.id
    in_force.fall_back()
    assert in_force.state == before
    assert in_force.expired.id == identity
    in_force.fall_back()
    assert in_force.state == before
    with pytest.raises(ApiError, match="not confirmed in time"):
        in_force.confirm(identity)
    assert not in_force.adopt(in_force.propose_preferences({}), 60, 2000)
    assert in_force.expired is not None
    assert in_force.adopt(in_force.propose_preferences({"exit_node": "beta"}), None, 2000)
    assert in_force.expired is None


@pytest.mark.parametrize("identity", [None, "", "0123", 7, [], {}])
def test_another_trial_is_not_confirmed(in_force, identity):
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            in_force.confirm(identity)
        assert caught.value.code == "no-such-trial"
        in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), 60, 0)
    assert in_force.trial is not None


def test_a_disk_that_does_not_take_it_leaves_all_as_it_was(in_force, config, monkeypatch):
    before = in_force.state
    in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), 60, 0)
    trial = in_force.trial

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sennit.files.replace", full)
    with pytest.raises(StateError):
        in_force.confirm(trial.id)
    assert in_force.trial is trial
    in_force.fall_back()
    with pytest.raises(StateError):
        in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), None, 0)
    assert in_force.state == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nobody", "exit-node-unknown"),
        ("alpha", "exit-node-self"),
        ("gamma", "exit-node-not-approved"),
        ("a/b", "bad-preference"),
    ],
)
def test_an_exit_node_has_to_be_one(in_force, name, reason):
    with pytest.raises(PreferencesError, match=f'exit_node: "{name}"') as caught:
        in_force.propose_preferences({"exit_node": name})
    assert (caught.value.key, caught.value.value, caught.value.reason) == ("exit_node", name, reason)


def test_an_exit_node_that_was_taken_away_does_not_block_other_preferences(in_force):
    in_force.adopt(in_force.propose_preferences({"exit_node": "beta"}), None, 0)
    in_force.adopt(in_force.propose_netmap(signed(2, ALPHA), "ansible"), None, 0)
    assert in_force.propose_preferences({"accept_dns": False}).state.preferences.exit_node == "beta"
    assert in_force.propose_preferences({"exit_node": ""}).state.preferences.exit_node is None
    with pytest.raises(PreferencesError):
        in_force.propose_preferences({"exit_node": "beta"})


def test_without_a_map_there_is_no_exit_node(config):
    with pytest.raises(PreferencesError) as caught:
        InForce(config, OWN).propose_preferences({"exit_node": "beta"})
    assert caught.value.reason == "exit-node-unknown"


def test_an_older_map_than_the_one_on_trial_is_refused(in_force):
    in_force.adopt(in_force.propose_netmap(signed(3), "ansible"), 60, 0)
    with pytest.raises(NetmapError):
        in_force.propose_netmap(signed(2), "ansible")
    in_force.fall_back()
    in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), 60, 0)
    assert base64.b64encode(in_force.trial.proposal.content) == base64.b64encode(signed(2))


def test_only_what_is_kept_is_passed_on(in_force, config):
    assert in_force.kept == Kept.of(signed(1), 1)
    in_force.adopt(in_force.propose_netmap(signed(2), "ansible"), 60, 0)
    assert in_force.kept.version == 1
    assert (in_force.state.origin, in_force.trial.before.origin) == ("ansible", "ansible")
    in_force.confirm(in_force.trial.id)
    assert in_force.kept == Kept.of(signed(2), 2)
    again = InForce(config, OWN)
    again.load_netmap()
    assert again.kept == in_force.kept
    assert again.state.origin == "this host's disk"


@pytest.mark.parametrize("seconds", [None, 60])
def test_what_a_full_disk_does_not_take_is_kept_in_memory_until_it_does(in_force, config, monkeypatch, seconds):
    def full(_path, _content, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sennit.files.replace", full)
    in_force.adopt(in_force.propose_netmap(signed(2), "beacon beta"), seconds, 0, must_save=False)
    if seconds is not None:
        in_force.confirm(in_force.trial.id, must_save=False)
    assert in_force.kept.version == in_force.state.netmap.version == 2
    assert "No space left" in in_force.unsaved
    assert after_a_crash(config).netmap.version == 1
    in_force.save_again()
    assert in_force.unsaved is not None
    monkeypatch.undo()
    in_force.save_again()
    assert in_force.unsaved is None
    assert after_a_crash(config).netmap.version == 2
