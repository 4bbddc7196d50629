# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.forwarding, on a directory that stands for /proc/sys."""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

import pytest


class Host:
    def __init__(self, top: pathlib.Path, module: Any) -> None:
        self.top = top
        self.module = module
        self.routes: list[dict[str, str]] = []
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.set(key, "0")

    def path(self, key: str) -> pathlib.Path:
        return self.top / "proc" / key.translate(str.maketrans("./", "/."))

    def set(self, key: str, value: str) -> None:
        self.path(key).parent.mkdir(parents=True, exist_ok=True)
        self.path(key).write_text(value + "\n")

    def get(self, key: str) -> str:
        return self.path(key).read_text().strip()

    @property
    def file(self) -> str:
        return (self.top / "sysctl.d" / "60-sennit.conf").read_text()


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    module = importlib.import_module("ansible_collections.sennit.mesh.plugins.modules.forwarding")
    host = Host(tmp_path, module)
    monkeypatch.setattr(module.sysctl, "PROC", str(tmp_path / "proc") + "/")
    monkeypatch.setattr(module, "PATH", str(tmp_path / "sysctl.d" / "60-sennit.conf"))
    monkeypatch.setattr(module.sysctl, "DIRECTORIES", [str(tmp_path / "sysctl.d")])
    monkeypatch.setattr(module, "ip_json", lambda module, *arguments: host.routes)
    return host


def test_now_and_at_every_boot(host: Host, twice: Any) -> None:
    done = twice(host.module)
    assert host.get("net.ipv4.ip_forward") == host.get("net.ipv6.conf.all.forwarding") == "1"
    assert done["sysctls"] == {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    assert host.module.sysctl.parse(host.file) == done["sysctls"]


def test_check_mode_changes_nothing(host: Host, run: Any) -> None:
    assert run(host.module, check=True)["changed"]
    assert host.get("net.ipv4.ip_forward") == "0"
    assert not (host.top / "sysctl.d").exists()


@pytest.mark.parametrize(("accept_ra", "kept"), [("1", True), ("2", True), ("0", False)])
def test_an_uplink_keeps_its_router_where_the_kernel_listens(
    host: Host, twice: Any, accept_ra: str, kept: bool
) -> None:
    host.set("net.ipv6.conf.eth0/100.accept_ra", accept_ra)
    host.routes = [{"dst": "default", "dev": "eth0.100", "protocol": "ra"}]
    sysctls = twice(host.module)["sysctls"]
    assert sysctls.get("net.ipv6.conf.eth0/100.accept_ra") == ("2" if kept else None)
    assert host.get("net.ipv6.conf.eth0/100.accept_ra") == ("2" if kept else accept_ra)


def test_an_uplink_stays_when_its_router_is_silent(host: Host, run: Any) -> None:
    host.set("net.ipv6.conf.eth0.accept_ra", "1")
    host.routes = [{"dst": "default", "dev": "eth0", "protocol": "ra"}]
    run(host.module)
    host.routes = []
    assert not run(host.module)["changed"]


def test_a_parameter_that_the_kernel_refuses_takes_the_others_back(
    host: Host, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = host.module.sysctl.SysctlFile._write

    def refuse(self: Any, key: str, value: str) -> None:
        if "ipv6" in key:
            raise OSError(30, "Read-only file system")
        write(self, key, value)

    monkeypatch.setattr(host.module.sysctl.SysctlFile, "_write", refuse)
    failed = run(host.module)
    assert "net.ipv6.conf.all.forwarding = 1: Read-only file system" in failed["msg"]
    assert host.get("net.ipv4.ip_forward") == "0"
    assert not (host.top / "sysctl.d").exists()


def test_a_later_file_that_undoes_it_is_named(host: Host, run: Any) -> None:
    (host.top / "sysctl.d").mkdir()
    (host.top / "sysctl.d" / "99-hardening.conf").write_text("# no\n-net/ipv4/ip_forward = 0\nkernel.x = 1\n")
    (host.top / "sysctl.d" / "10-early.conf").write_text("net.ipv6.conf.all.forwarding = 0\n")
    (warning,) = run(host.module).warned
    assert "99-hardening.conf sets net.ipv4.ip_forward = 0" in warning


def test_a_host_without_such_an_interface(host: Host, run: Any) -> None:
    assert "'wan9'" in run(host.module, accept_ra_interfaces=["wan9"])["msg"]
