# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control node's half of sennit.mesh.agent: what it sends to the module, on nodes with a compiler and without."""

from __future__ import annotations

import base64
import importlib
import io
import pathlib
import platform
import types
import zipfile
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from tests.native import library

LIBRARY = "sennit/datapath/native/batch.so"
Sent = Callable[..., tuple[dict[str, Any], dict[str, bytes]]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Sent:
    """Runs the action on a host; returns its result, and what the archive for the module holds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    action = importlib.import_module("ansible_collections.sennit.mesh.plugins.action.agent")

    def run(machine: str = platform.machine(), **arguments: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
        given: dict[str, Any] = {}

        def execute(_self: Any, _name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
            given.update(module_args)
            return {"changed": True}

        def command(_self: Any, line: str) -> dict[str, Any]:
            assert line == "uname -m"
            return {"stdout": f"{machine}\n"}

        def needle(_self: Any, kind: str, name: str) -> str:
            if not (tmp_path / name).exists():
                raise AnsibleError(f"no {kind}/{name}")
            return str(tmp_path / name)

        monkeypatch.setattr(action.ActionModule, "_execute_module", execute)
        monkeypatch.setattr(action.ActionModule, "_low_level_execute_command", command)
        monkeypatch.setattr(action.ActionModule, "_find_needle", needle)
        task = types.SimpleNamespace(
            args=arguments, async_val=0, check_mode=False, diff=False, environment=None, action="sennit.mesh.agent"
        )
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=str(tmp_path)))
        module = action.ActionModule(task, connection, types.SimpleNamespace(), None, None, None)
        result = module.run(None, {})
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(given["archive"]))) as archive:
            return result, {name: archive.read(name) for name in archive.namelist()}

    return run


def test_the_archive_holds_the_package_and_a_library_for_the_host(sent: Sent) -> None:
    result, files = sent()
    assert "warnings" not in result
    assert files[LIBRARY] == library().read_bytes()
    assert "sennit/agent.py" in files
    assert not [name for name in files if "__pycache__" in name or "/." in name]
    assert sent() == ({"changed": True}, files)


def test_no_library_where_none_is_wanted(sent: Sent) -> None:
    assert LIBRARY not in sent(native=False)[1]
    assert LIBRARY not in sent(native="false")[1]


def test_a_control_node_without_a_compiler(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    result, files = sent()
    assert LIBRARY not in files
    (warning,) = result["warnings"]
    assert f"the control node has no C compiler for {platform.machine()}" in warning
    with pytest.raises(AnsibleActionFail, match="has no C compiler"):
        sent(native=True)


def test_a_host_of_another_architecture_needs_a_cross_compiler(sent: Sent) -> None:
    result, files = sent(machine="sparc64")
    assert LIBRARY not in files
    assert "sparc64-linux-gnu-gcc" in result["warnings"][0]


def test_a_compiler_that_fails(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    result, files = sent()
    assert LIBRARY not in files
    assert "false: it fails and says nothing" in result["warnings"][0]


def test_a_library_that_is_there_already(sent: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "mine.so").write_bytes(b"an ELF")
    result, files = sent(native=True, native_library="mine.so")
    assert files[LIBRARY] == b"an ELF"
    assert "warnings" not in result
    with pytest.raises(AnsibleError, match=r"no files/other\.so"):
        sent(native_library="other.so")


def test_the_archive_is_the_same_each_time_and_holds_the_whole_package() -> None:
    action = importlib.import_module("ansible_collections.sennit.mesh.plugins.action.agent")
    module = importlib.import_module("ansible_collections.sennit.mesh.plugins.modules.agent")
    packed = action.pack(action.PACKAGE)
    assert packed == action.pack(action.PACKAGE)
    files = module.read_archive(base64.b64encode(packed).decode())
    top = action.PACKAGE.parent
    wanted = {str(path.relative_to(top)) for ending in ("*.py", "*.c", "*.h") for path in action.PACKAGE.rglob(ending)}
    assert set(files) == wanted | {"sennit/sennit.service"}


def test_what_tools_leave_in_a_working_tree_is_not_packed(tmp_path: pathlib.Path) -> None:
    for name in ("a.py", "__pycache__/a.cpython-311.pyc", ".mypy_cache/x.py", ".a.py.swp"):
        (tmp_path / "sennit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sennit" / name).write_text("")
    action = importlib.import_module("ansible_collections.sennit.mesh.plugins.action.agent")
    packed = action.pack(tmp_path / "sennit")
    assert zipfile.ZipFile(io.BytesIO(packed)).namelist() == ["sennit/a.py"]
