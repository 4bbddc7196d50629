# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.status_info on this machine, whatever is there."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

status_info = importlib.import_module("ansible_collections.sennit.mesh.plugins.modules.status_info")


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_host", "_agent_files"):
        name = f"ansible_collections.sennit.mesh.plugins.module_utils.{module}"
        monkeypatch.setattr(importlib.import_module(name), "unit_properties", lambda module, unit, names: {})


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="this is no virtual environment")
def test_a_library_of_a_virtual_environment_is_none_of_the_hosts(run: Any) -> None:
    """Ansible may run its modules in one; the agent does not."""
    host = subprocess.run(["/usr/bin/python3", "-I", "-c", "import hypothesis"], capture_output=True, check=False)
    if host.returncode == 0:
        pytest.skip("this machine's own Python has hypothesis")
    assert "hypothesis" in run(status_info, libraries=["hypothesis"])["missing_libraries"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives its rights away here")
def test_without_the_rights_it_says_which_are_missing(run: Any) -> None:
    """No traceback. The processes above this one are root's, and only root may look at their environment."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            failed = run(status_info)
            status = 0 if failed.get("failed") and "become" in failed["msg"] and "/proc/" in failed["msg"] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
