# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.agent_config: agent.json."""

from __future__ import annotations

import importlib
import json
import pathlib
from typing import Any

import pytest
import yaml

KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
MODULE = "ansible_collections.sennit.mesh.plugins.modules.agent_config"


@pytest.fixture
def config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / "etc" / "agent.json"
    monkeypatch.setattr(importlib.import_module(MODULE), "CONFIG", str(path))
    return path


def test_the_agent_can_load_what_is_written(config: pathlib.Path, twice: Any) -> None:
    done = twice(importlib.import_module(MODULE), network="demo", signing_key=KEY, mtu=1380)
    written = json.loads(config.read_text())
    assert (written["network"], written["mtu"], written["listen_port"]) == ("demo", 1380, 51820)
    assert done["config"] == written
    assert config.stat().st_mode & 0o777 == 0o600


def test_check_mode_writes_nothing(config: pathlib.Path, run: Any) -> None:
    assert run(importlib.import_module(MODULE), check=True, network="demo", signing_key=KEY)["changed"]
    assert not config.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("network", "No Name"),
        ("signing_key", "short"),
        ("mtu", 90),
        ("table", 254),
        ("relay_port", 65536),
        ("relay_rate", 0),
    ],
)
def test_a_value_that_the_agent_would_refuse_is_refused_here(
    config: pathlib.Path, run: Any, option: str, value: Any
) -> None:
    failed = run(importlib.import_module(MODULE), **{"network": "demo", "signing_key": KEY, option: value})
    assert failed["failed"]
    assert option in failed["msg"]
    assert json.dumps(value) in failed["msg"]
    assert not config.exists()


def test_absent(config: pathlib.Path, run: Any, twice: Any) -> None:
    run(importlib.import_module(MODULE), network="demo", signing_key=KEY)
    assert twice(importlib.import_module(MODULE), state="absent")["changed"]
    assert not config.exists()


def test_all_that_an_inventory_may_say_is_checked_before() -> None:
    """But for what the network is, and the port, which the netmap has as well."""
    settings = importlib.import_module("ansible_collections.sennit.mesh.plugins.plugin_utils._agent_settings").SETTINGS
    documented = yaml.safe_load(importlib.import_module(MODULE).DOCUMENTATION)["options"]
    options = {f"sennit_{option}" for option in documented if option != "state"}
    assert options - set(settings) == {"sennit_network", "sennit_signing_key", "sennit_listen_port"}
    # What is beside the agent, and how a change reaches it.
    beside = {"sennit_metrics_port", "sennit_metrics_textfile", "sennit_trial_timeout"}
    assert set(settings) - options == beside
