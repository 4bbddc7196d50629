# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role takes is said twice, in its defaults and in its argument specification; both must say the same."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml

ROLES = sorted((pathlib.Path(__file__).parents[2] / "roles").iterdir())


def options_of(role: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Of all the role's entry points."""
    entry_points = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return {name: option for entry in entry_points.values() for name, option in entry["options"].items()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specification_agree(role: pathlib.Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    options = options_of(role)
    # What is required may do without a default.
    assert set(defaults) | {name for name, option in options.items() if option.get("required")} == set(options)
    assert {name: option["default"] for name, option in options.items() if "default" in option} == {
        name: value for name, value in defaults.items() if "default" in options[name]
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_has_the_prefix_and_a_description(role: pathlib.Path) -> None:
    options = options_of(role)
    for name, option in options.items():
        assert name.startswith("sennit_")
        assert option["description"]
