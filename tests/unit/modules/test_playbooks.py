# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks status and site, run on hosts that cannot be asked: the one draws them, and the other stops."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import ansible_collections.sennit.mesh.plugins.plugin_utils as located
import pytest

INVENTORY = """\
sennit:
  children:
    sennit_nodes:
      hosts:
        lost: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_connection: ssh}
        odd: {ansible_connection: local, ansible_python_interpreter: /nonexistent, ansible_become: false}
"""
COLLECTIONS = pathlib.Path(next(iter(located.__path__))).parents[4]


def run(directory: pathlib.Path, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "inventory.yml").write_text(INVENTORY)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "PWD": str(directory)}
    environment.pop("ANSIBLE_CONFIG", None)
    command = str(pathlib.Path(sys.executable).parent / "ansible-playbook")
    return subprocess.run(
        [command, "-i", "inventory.yml", f"sennit.mesh.{playbook}", *arguments],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def play(directory: pathlib.Path, *arguments: str) -> str:
    result = run(directory, "status", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_hosts_that_have_nothing_to_show_are_shown_as_such(tmp_path: pathlib.Path) -> None:
    play(tmp_path)
    page = (tmp_path / "sennit-status.html").read_text()
    assert "0 of 2" in page
    assert "Connection refused" in page
    assert "/nonexistent" in page
    assert '["lost<br/>unreachable"]:::trouble' in (tmp_path / "sennit-status.mmd").read_text()


def test_where_it_is_written(tmp_path: pathlib.Path) -> None:
    play(tmp_path, "-e", "sennit_status_page=mesh.html", "-e", f"sennit_status_mermaid={tmp_path}/wiki.md")
    assert {path.name for path in tmp_path.iterdir()} >= {"mesh.html", "wiki.md"}


@pytest.mark.parametrize("everyone", ["", "false"])
def test_check_mode_writes_nothing(tmp_path: pathlib.Path, everyone: str) -> None:
    told = play(tmp_path, "--check", "-e", f"sennit_status_everyone={everyone}", "-e", "sennit_status_page=")
    assert "would be written" in told
    assert [path.name for path in tmp_path.iterdir()] == ["inventory.yml"]


def test_one_host_that_cannot_be_asked_stops_the_run_for_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if others could go on: it may be a beacon, or the router of them all."""
    fine = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    (tmp_path / "fine.yml").write_text(
        json.dumps({"sennit": {"children": {"sennit_nodes": {"hosts": {"fine": fine}}}}})
    )
    # This machine may not have been booted by systemd.
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = run(tmp_path, "site", "-i", "fine.yml", "--check", "--limit", "odd,fine")
    assert result.returncode != 0
    assert "odd: " in result.stdout and "Nothing was changed on any host" in result.stdout
    assert "/nonexistent" in result.stdout
    assert "Install the agent" not in result.stdout
    alone = run(tmp_path, "site", "-i", "fine.yml", "--check", "--limit", "fine", "-e", "sennit_manage_packages=false")
    assert "Install the agent" in alone.stdout
