# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run in this process, as Ansible runs them, on files below a temporary directory."""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
from typing import Any, Callable

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).parents[3]

# The collection under its full name, as it stands in the tree.
_PATH = pathlib.Path(tempfile.mkdtemp(prefix="sennit-unit-"))
(_PATH / "ansible_collections" / "sennit").mkdir(parents=True)
(_PATH / "ansible_collections" / "sennit" / "mesh").symlink_to(ROOT)
sys.path.insert(0, str(_PATH))


def pytest_sessionfinish() -> None:
    (_PATH / "ansible_collections" / "sennit" / "mesh").unlink()
    (_PATH / "ansible_collections" / "sennit").rmdir()
    (_PATH / "ansible_collections").rmdir()
    _PATH.rmdir()


class Result(dict[str, Any]):
    """What a module returned, and what it warned of."""

    warned: list[str]

    @property
    def shown(self) -> str:
        """Its difference as text, before and after."""
        diff = self.get("diff") or []
        return "".join(part["before"] + part["after"] for part in (diff if isinstance(diff, list) else [diff]))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a module's main() with arguments; check=True is check mode."""
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, warning: warned.append(warning))

    def run_module(module: Any, check: bool = False, **arguments: Any) -> Result:
        capsys.readouterr()
        warned.clear()
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit),
        ):
            module.main()
        result = Result(json.loads(capsys.readouterr().out))
        result.warned = list(warned)
        return result

    return run_module


@pytest.fixture
def twice(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run in check mode, for real, and again: the same said as done, and nothing left to do; what the real run said."""

    def run_thrice(module: Any, **arguments: Any) -> Result:
        checked = run(module, check=True, **arguments)
        done = run(module, **arguments)
        again = run(module, **arguments)
        assert not done.get("failed"), done
        assert (checked["changed"], checked.shown) == (done["changed"], done.shown)
        assert not again["changed"], again
        return done

    return run_thrice
