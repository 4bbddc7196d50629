"""A change on trial is in force at once, and is kept only when it is confirmed in time."""

from __future__ import annotations

import base64
import signal

import pytest
from tests.interop.agents import Mesh

from sennit.api import ApiError


@pytest.fixture
def mesh(tmp_path):
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha = mesh.hosts[0]
        alpha.start()
        alpha.apply(both(mesh, 1))
        yield mesh


@pytest.fixture
def alpha(mesh):
    return mesh.hosts[0]


def both(mesh, version):
    return mesh.netmap(version, *(host.node(exit_node="approved") for host in mesh.hosts))


def cutting(mesh, version):
    """A map that takes the only peer away."""
    return mesh.netmap(version, mesh.hosts[0].node())


def try_map(host, signed, seconds):
    return host.call("netmap.apply", netmap=base64.b64encode(signed).decode(), trial=seconds)


def stored(host):
    return (host.directory / "state/netmap").read_bytes()


def test_a_map_that_is_not_confirmed_falls_back(mesh, alpha):
    before = alpha.traces()
    result = try_map(alpha, cutting(mesh, 2), 60)
    assert result["changed"] is True and result["version"] == 2
    assert result["trial"]["deadline"] == 60
    assert alpha.traces() == {"links": ["sennit0"]}
    assert alpha.status()["trial"]["state"] == "running"
    assert stored(alpha) == both(mesh, 1)
    # The same again has its time anew.
    assert try_map(alpha, cutting(mesh, 2), 1)["trial"] == {**result["trial"], "deadline": 1}
    alpha.log.wait_for("netmap version 2: not confirmed within 1 s; back to netmap version 1")
    alpha.log.wait_for("add rule IPv6", times=2)
    assert alpha.traces() == before
    status = alpha.status()
    assert status["netmap"]["version"] == 1
    assert status["netmap"]["refused"]["reason"] == "trial-expired"
    assert (status["trial"]["state"], status["trial"]["reason"]) == ("expired", "trial-expired")
    assert "trial-expired" in alpha.cli("status").stdout
    with pytest.raises(ApiError, match="was not confirmed in time") as caught:
        alpha.call("trial.confirm", id=result["trial"]["id"])
    assert caught.value.code == "no-such-trial"
    # The very same map may be tried again, and be good this time.
    alpha.call("trial.confirm", id=try_map(alpha, cutting(mesh, 2), 30)["trial"]["id"])
    assert alpha.status()["netmap"] == {**status["netmap"], "version": 2, "refused": None,
                                        "sha256": alpha.status()["netmap"]["sha256"]}  # fmt: skip


def test_a_confirmed_map_stays_also_over_a_crash(mesh, alpha):
    trial = try_map(alpha, cutting(mesh, 2), 30)["trial"]
    for _ in range(2):  # the answer may be lost, and be asked for again
        assert alpha.call("trial.confirm", id=trial["id"]) == {"confirmed": True}
    assert alpha.status()["trial"] is None
    assert stored(alpha) == cutting(mesh, 2)
    alpha.stop(signal.SIGKILL)
    alpha.start()
    assert alpha.status()["netmap"]["version"] == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_during_a_trial_comes_back_with_the_old_state(mesh, alpha, number):
    before = alpha.traces()
    trial = try_map(alpha, cutting(mesh, 2), 30)["trial"]
    alpha.stop(number)
    alpha.start()
    assert alpha.status()["netmap"]["version"] == 1
    assert alpha.traces() == before
    with pytest.raises(ApiError, match="a restart of the agent ends a trial"):
        alpha.call("trial.confirm", id=trial["id"])


def test_the_first_map_of_all_falls_back_to_none(tmp_path):
    with Mesh(tmp_path, "alpha") as mesh:
        alpha = mesh.hosts[0]
        alpha.start()
        before = alpha.traces()
        try_map(alpha, mesh.netmap(1, alpha.node()), 1)
        alpha.log.wait_for("back to no netmap")
        alpha.log.wait_for("remove address fd5e::1/128")
        assert alpha.status()["netmap"]["version"] is None
        assert alpha.traces() == before
        assert not (alpha.directory / "state/netmap").exists()


def test_there_is_one_trial_at_a_time(mesh, alpha):
    first = try_map(alpha, cutting(mesh, 2), 30)
    for change in (
        lambda: alpha.apply(both(mesh, 3)),
        lambda: try_map(alpha, both(mesh, 3), 30),
        lambda: alpha.call("preferences.set", preferences={"accept_routes": False}),
        lambda: alpha.call("preferences.set", preferences={"accept_routes": False}, trial=30),
    ):
        with pytest.raises(ApiError, match="netmap version 2 is on trial") as caught:
            change()
        assert caught.value.code == "trial-running"
    assert alpha.call("preferences.set", preferences={"accept_routes": True})["changed"] is False
    # The same map is no other trial: it has its time anew.
    again = try_map(alpha, cutting(mesh, 2), 40)
    assert again == {**first, "trial": {"id": first["trial"]["id"], "deadline": 40}}
    assert alpha.status()["trial"]["remaining"] > 30
    # For good this time.
    assert alpha.apply(cutting(mesh, 2)) == {"changed": True, "version": 2}
    assert alpha.status()["trial"] is None
    assert stored(alpha) == cutting(mesh, 2)


def test_preferences_that_are_not_confirmed_fall_back(alpha):
    before = alpha.traces()
    result = alpha.call("preferences.set", preferences={"exit_node": "beta"}, trial=60)
    assert result["preferences"]["exit_node"] == "beta"
    assert "default" in alpha.traces()["routes"]
    again = alpha.call("preferences.set", preferences={"exit_node": "beta"}, trial=1)
    assert again["trial"] == {**result["trial"], "deadline": 1}
    alpha.log.wait_for("preferences exit_node=beta: not confirmed within 1 s; back to preferences as by default")
    alpha.log.wait_for("remove throw ff00::/8")
    assert alpha.traces() == before
    status = alpha.status()
    assert status["preferences"]["exit_node"] is None
    assert status["trial"]["what"] == "preferences"
    assert status["netmap"]["refused"] is None
    assert not (alpha.directory / "state/preferences.json").exists()


def test_from_the_command_line(alpha):
    shown = alpha.cli("set", "--no-accept-routes", "--trial", "60")
    assert shown.returncode == 0 and "on trial for 60 s" in shown.stdout
    assert "ON TRIAL" in alpha.cli("status").stdout
    assert alpha.cli("confirm").returncode == 0
    assert alpha.cli("confirm").returncode == 2
    alpha.stop(signal.SIGKILL)
    alpha.start()
    assert alpha.call("preferences.get")["preferences"]["accept_routes"] is False
    assert (alpha.directory / "state/preferences.json").stat().st_mode & 0o777 == 0o600
    assert "accept_routes off" in alpha.cli("status").stdout


@pytest.mark.parametrize("trial", [0, -1, 3601, True, "60", [60]])
def test_a_trial_without_a_sensible_time_is_refused(mesh, alpha, trial):
    with pytest.raises(ApiError, match=r"params\.trial") as caught:
        try_map(alpha, cutting(mesh, 2), trial)
    assert caught.value.code == "bad-request"
    assert alpha.status()["netmap"]["version"] == 1


@pytest.mark.parametrize(
    "preferences", [None, [], {"exit_node": 7}, {"exit_node": "no/name"}, {"accept_routes": "yes"}, {"colour": True}]
)
def test_what_is_no_preference_is_refused(alpha, preferences):
    with pytest.raises(ApiError) as caught:
        alpha.call("preferences.set", preferences=preferences)
    assert caught.value.code == "bad-preference"
    if preferences:
        assert next(iter(preferences)) in caught.value.message


def test_damaged_preferences_are_told(alpha):
    alpha.stop()
    (alpha.directory / "state/preferences.json").write_text("{")
    alpha.start()
    assert any("preferences.json: not JSON" in problem for problem in alpha.status()["problems"])
    alpha.call("preferences.set", preferences={"accept_routes": False})
    assert alpha.status()["preferences"]["accept_routes"] is False
    assert alpha.status()["problems"] == []
