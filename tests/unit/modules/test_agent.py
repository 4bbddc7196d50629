# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.agent: the code, launcher, unit and key on a host, compared with what the collection has."""

from __future__ import annotations

import base64
import importlib
import io
import json
import pathlib
import zipfile
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[3]
INIT = '__version__ = "7.8.9"\n'


def load(name: str) -> Any:
    return importlib.import_module("ansible_collections.sennit.mesh.plugins." + name)


NATIVE = "sennit/datapath/native/"


def archive(native: tuple[str, str] | None = None, **files: str) -> str:
    """An archive of a package with these modules besides what every package has.

    native: source and library of the native core; an empty library is none.
    """
    content = {"sennit/__init__.py": INIT, "sennit/sennit.service": "[Service]\n"}
    content.update({f"sennit/{name.replace('__', '/')}.py": text for name, text in files.items()})
    if native is not None:
        content[NATIVE + "batch.c"] = native[0]
        if native[1]:
            content[NATIVE + "batch.so"] = native[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, text in content.items():
            zipped.writestr(name, text)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host without an agent and without systemd: its root."""
    files = load("module_utils._agent_files")
    for name, value in vars(files).items():
        if isinstance(value, str) and value.startswith(("/etc", "/run", "/usr/lib", "/usr/local", "/var")):
            monkeypatch.setattr(files, name, str(tmp_path) + value)
    monkeypatch.setattr(load("modules.agent"), "RELEASES", files.LIBRARY + "/releases")
    monkeypatch.setattr(load("modules.agent").Agent, "_systemctl", lambda self, *arguments: None)
    monkeypatch.setattr(load("modules.agent").Agent, "_remove_from_kernel", lambda self, table: None)
    monkeypatch.setattr(files, "agent_status", lambda: None)
    monkeypatch.setattr(files, "unit_properties", lambda module, unit, names: {})
    monkeypatch.setattr(load("modules.agent"), "unit_properties", lambda module, unit, names: {})

    def ensure_key(module: Any) -> str:
        pathlib.Path(files.PRIVATE_KEY).write_text("private\n")
        return "public"

    monkeypatch.setattr(files, "ensure_key", ensure_key)
    return tmp_path


def test_a_fresh_host_gets_everything_and_check_mode_nothing(host: pathlib.Path, run: Any) -> None:
    module = load("modules.agent")
    checked = run(module, check=True, archive=archive(cli="x = 1\n"))
    assert list(host.iterdir()) == []
    done = run(module, archive=archive(cli="x = 1\n"))
    assert checked["parts"] == done["parts"] == ["code", "launcher", "unit", "key"]
    assert (checked["public_key"], done["public_key"]) == (None, "public")
    assert (host / "usr/lib/sennit/sennit/cli.py").read_text() == "x = 1\n"
    assert list((host / "usr/lib/sennit/sennit/__pycache__").iterdir())
    assert done["version"] == "7.8.9"
    assert not run(module, archive=archive(cli="x = 1\n"))["changed"]


def test_a_new_version_replaces_the_old_one_and_its_stale_files(host: pathlib.Path, run: Any) -> None:
    module = load("modules.agent")
    run(module, archive=archive(cli="x = 1\n", old="", sub__deep=""))
    done = run(module, archive=archive(cli="x = 2\n"))
    assert done["parts"] == ["code"]
    assert "sennit/old.py" in done["diff"][0]["before"]
    assert "sennit/old.py" not in done["diff"][0]["after"]
    tree = host / "usr/lib/sennit/sennit"
    assert sorted(p.name for p in tree.iterdir()) == ["__init__.py", "__pycache__", "cli.py", "sennit.service"]
    assert len(list((host / "usr/lib/sennit/releases").iterdir())) == 1


@pytest.mark.parametrize("damage", ["content", "mode", "extra", "launcher", "unit"])
def test_what_was_tampered_with_is_repaired(host: pathlib.Path, run: Any, damage: str) -> None:
    module = load("modules.agent")
    run(module, archive=archive(cli="x = 1\n"))
    cli = host / "usr/lib/sennit/sennit/cli.py"
    if damage == "content":
        cli.write_text("x = 3\n")
    elif damage == "mode":
        cli.chmod(0o666)
    elif damage == "extra":
        (cli.parent / "evil.py").write_text("")
    elif damage == "launcher":
        (host / "usr/local/bin/sennit").chmod(0o600)
    else:
        (host / "etc/systemd/system/sennit.service").unlink()
    part = damage if damage in ("launcher", "unit") else "code"
    assert run(module, archive=archive(cli="x = 1\n"))["parts"] == [part]
    assert cli.read_text() == "x = 1\n"
    assert not (cli.parent / "evil.py").exists()


def test_the_native_core_comes_and_goes(host: pathlib.Path, run: Any, twice: Any) -> None:
    module = load("modules.agent")
    library = host / "usr/lib/sennit/sennit/datapath/native/batch.so"
    assert not twice(module, archive=archive(("source", "")))["native"]
    done = twice(module, archive=archive(("source", "library")))
    assert (done["native"], done["parts"], library.read_text()) == (True, ["code"], "library")
    assert "batch.so" in done["diff"][0]["after"]
    library.write_text("tampered with")
    assert run(module, archive=archive(("source", "library")))["parts"] == ["code"]
    assert library.read_text() == "library"
    done = twice(module, archive=archive(("source", "")), native=False)
    assert (done["native"], done["parts"], library.exists()) == (False, ["code"], False)


def test_a_control_node_without_a_compiler_leaves_a_library_of_the_same_source(host: pathlib.Path, run: Any) -> None:
    module = load("modules.agent")
    library = host / "usr/lib/sennit/sennit/datapath/native/batch.so"
    run(module, archive=archive(("source", "library")))
    done = run(module, archive=archive(("source", ""), cli="x = 1\n"))
    assert (done["native"], done["parts"], library.read_text()) == (True, ["code"], "library")
    assert not run(module, archive=archive(("source", ""), cli="x = 1\n"))["changed"]
    done = run(module, archive=archive(("newer source", "")))
    assert (done["native"], done["parts"], library.exists()) == (False, ["code"], False)


def test_code_that_does_not_compile_leaves_the_old_code(host: pathlib.Path, run: Any) -> None:
    module = load("modules.agent")
    run(module, archive=archive(cli="x = 1\n"))
    failed = run(module, archive=archive(cli="x = = 1\n"))
    assert failed["failed"]
    assert "does not compile" in failed["msg"]
    assert not run(module, archive=archive(cli="x = 1\n"))["changed"]
    assert len(list((host / "usr/lib/sennit/releases").iterdir())) == 1


@pytest.mark.parametrize("name", ["../x", "other/x.py", "sennit/../../x", "/etc/x", "sennit//x"])
def test_an_archive_that_would_write_elsewhere_is_refused(host: pathlib.Path, run: Any, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("sennit/__init__.py", INIT)
        zipped.writestr("sennit/sennit.service", "")
        zipped.writestr(name, "")
    failed = run(load("modules.agent"), archive=base64.b64encode(buffer.getvalue()).decode())
    assert failed["failed"]
    assert name in failed["msg"]
    assert list(host.iterdir()) == []


def test_absent_keeps_the_key_unless_told(host: pathlib.Path, run: Any, twice: Any) -> None:
    module = load("modules.agent")
    run(module, archive=archive())
    assert twice(module, state="absent")["parts"] == ["unit", "launcher", "code"]
    assert (host / "var/lib/sennit/private.key").exists()
    assert twice(module, state="absent", purge=True)["parts"] == ["state"]
    assert not [path for path in host.rglob("*") if path.is_file()]


def test_an_agent_that_runs_is_stopped_first(host: pathlib.Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("modules.agent")
    run(module, archive=archive())
    files = load("module_utils._agent_files")
    state = {"ActiveState": "active", "UnitFileState": "enabled"}
    monkeypatch.setattr(files, "unit_properties", lambda module, unit, names: state)
    called: list[tuple[str, ...]] = []

    def systemctl(_self: Any, *arguments: str) -> None:
        assert arguments[0] == "daemon-reload" or (host / "usr/local/bin/sennit").exists()
        called.append(arguments)

    monkeypatch.setattr(module.Agent, "_systemctl", systemctl)
    run(module, state="absent")
    assert called[:2] == [("disable", "sennit.service"), ("stop", "sennit.service")]
    assert not (host / "usr/local/bin/sennit").exists()


def test_a_service_older_than_its_code_is_outdated(
    host: pathlib.Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(load("modules.agent"), archive=archive())
    files = load("module_utils._agent_files")
    for started, outdated in (("1", True), (str(10**15), False)):
        state = {"ActiveState": "active", "UnitFileState": "enabled", "ExecMainStartTimestampMonotonic": started}
        monkeypatch.setattr(files, "unit_properties", lambda module, unit, names, state=state: state)
        assert files.service_state(None) == {"enabled": True, "active": True, "outdated": outdated}


def test_absent_gives_the_host_its_resolver_back(host: pathlib.Path, run: Any, twice: Any) -> None:
    module = load("modules.agent")
    resolver = load("module_utils.sennit.host.resolver.record")
    text = load("module_utils.sennit.host.resolver.resolv_conf").HEADER + "\nnameserver 100.100.100.100\n"
    resolv_conf = host / "etc/resolv.conf"
    config = host / "etc/sennit/agent.json"
    state = host / "var/lib/sennit"
    for directory in (config.parent, state):
        directory.mkdir(parents=True)
    config.write_text(json.dumps({"resolv_conf": str(resolv_conf)}))
    resolv_conf.write_text(text)
    original = resolver.Original(resolver.FILE, b"nameserver 192.0.2.1\n", 0o644)
    resolver.RecordStore(str(state / "resolver.json")).save(resolver.Record("file", original))
    assert twice(module, state="absent")["parts"] == ["config", "resolver"]
    assert resolv_conf.read_bytes() == original.content
