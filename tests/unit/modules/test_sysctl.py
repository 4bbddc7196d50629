# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters that are set for good and put back, on a kernel that is a directory."""

from __future__ import annotations

import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.sennit.mesh.plugins.module_utils import _sysctl as sysctl

FORWARD = "net.ipv4.ip_forward"
REDIRECTS = "net.ipv4.conf.all.accept_redirects"


class Host:
    def __init__(self, directory: pathlib.Path) -> None:
        self.proc = directory / "proc"
        self.etc = directory / "sysctl.d"
        self.etc.mkdir()
        self.module: Any = SimpleNamespace(
            check_mode=False,
            warn=lambda message: None,
            atomic_move=lambda source, target: pathlib.Path(source).rename(target),
            set_mode_if_different=lambda path, mode, changed: pathlib.Path(path).chmod(mode),
        )
        self[FORWARD] = "0"
        self[REDIRECTS] = "1"
        self["net.ipv4.conf.eth0.forwarding"] = "0"

    def __getitem__(self, key: str) -> str:
        return (self.proc / key.replace(".", "/")).read_text().strip()

    def __setitem__(self, key: str, value: str) -> None:
        path = self.proc / key.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)

    def file(self) -> sysctl.SysctlFile:
        return sysctl.SysctlFile(self.module, str(self.etc / "60-sennit.conf"), "# Ours.\n")

    def present(self) -> bool:
        file = self.file()
        file.present({FORWARD: "1"})
        return bool(file.differences)

    def absent(self, restore: bool = True) -> bool:
        file = self.file()
        file.absent(restore)
        return bool(file.differences)


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(sysctl, "PROC", f"{host.proc}/")
    monkeypatch.setattr(sysctl, "DIRECTORIES", (str(host.etc),))
    return host


def test_there_and_back(host: Host) -> None:
    assert host.present()
    assert host[FORWARD] == "1"
    assert not host.present()
    assert host.absent()
    assert host[FORWARD] == "0"
    assert list(host.etc.iterdir()) == []
    assert not host.absent()


def test_what_was_so_before_stays(host: Host) -> None:
    host[FORWARD] = "1"
    assert host.present()
    assert host.absent()
    assert host[FORWARD] == "1"


def test_what_the_kernel_changes_along_is_put_back(host: Host) -> None:
    host[REDIRECTS] = "0"
    host.present()
    # The kernel's, at the end of forwarding.
    host[REDIRECTS] = "1"
    host.absent()
    assert host[REDIRECTS] == "0"


def test_what_somebody_has_changed_since_is_left_alone(host: Host) -> None:
    host[FORWARD] = "2"
    host.present()
    host[FORWARD] = "0"
    host.absent()
    assert host[FORWARD] == "0"


def test_what_another_file_sets_it_is(host: Host) -> None:
    host.present()
    (host.etc / "90-router.conf").write_text("net/ipv4/ip_forward=1\n")
    host.absent()
    assert host[FORWARD] == "1"


def test_the_first_value_is_the_one_from_before(host: Host) -> None:
    host.present()
    # A boot in between, and the file came too late.
    host[FORWARD] = "3"
    host.present()
    host.absent()
    assert host[FORWARD] == "0"


def test_without_restoring_only_the_file_goes(host: Host) -> None:
    host.present()
    assert host.absent(restore=False)
    assert host[FORWARD] == "1"
    assert list(host.etc.iterdir()) == []


def test_check_mode_tells_and_changes_nothing(host: Host) -> None:
    host.present()
    host.module.check_mode = True
    assert host.absent()
    assert host[FORWARD] == "1"
    assert len(list(host.etc.iterdir())) == 1
