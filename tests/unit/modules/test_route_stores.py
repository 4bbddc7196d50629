# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the managers an interface has, told by what their commands print; whose routes of a profile are whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.sennit.mesh.plugins.module_utils import _route_stores as stores
from ansible_collections.sennit.mesh.plugins.module_utils._route_texts import parse_route

LINK = "* 2: {name}\n   Network File: {file}\n          State: routable ({state})\n\n"
ONE, TWO, THREE = (parse_route(f"10.{number}.0.0/16", "192.168.50.1") for number in (1, 2, 3))


class Failed(Exception):  # noqa: N818
    """What fail_json ends a module with."""


class Module:
    """As much of AnsibleModule as the stores use."""

    check_mode = False

    def __init__(self) -> None:
        self.warned: list[str] = []

    def fail_json(self, msg: str, **_more: Any) -> None:
        raise Failed(msg)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What commands print on this host, by their first word; those not in it are not there or fail."""
    printed: dict[str, str] = {}
    monkeypatch.setattr(stores, "_try", lambda _module, *command: printed.get(command[0]))
    return printed


def test_networkd(host: dict[str, str]) -> None:
    host["networkctl"] = LINK.format(name="eth0", file="/usr/lib/systemd/network/50-all.network", state="configured")
    found = stores.store_of(Module(), "eth0")
    assert (found.manager, found.place) == (
        "systemd-networkd",
        "/etc/systemd/network/50-all.network.d/60-sennit.conf",
    )


def test_a_file_of_networkd_for_several_interfaces_is_refused(host: dict[str, str]) -> None:
    host["networkctl"] = "".join(
        LINK.format(name=name, file="/etc/systemd/network/all.network", state="configured") for name in ("eth0", "eth1")
    )
    with pytest.raises(Failed, match=r"interface: eth0: its file /etc/systemd/network/all\.network configures eth1"):
        stores.store_of(Module(), "eth0")


def test_network_manager(host: dict[str, str]) -> None:
    host["networkctl"] = LINK.format(name="eth0", file="n/a", state="unmanaged")
    host["nmcli"] = "1-2:eth0:/etc/NetworkManager/system-connections/x.nmconnection\n"
    module = Module()
    found = stores.store_of(module, "eth0")
    assert (found.manager, found.place, module.warned) == ("NetworkManager", "1-2", [])


def test_a_profile_that_is_written_at_boot_is_warned_of(host: dict[str, str]) -> None:
    host["nmcli"] = "1-2:eth0:/run/NetworkManager/system-connections/netplan-eth0.nmconnection\n"
    module = Module()
    assert stores.store_of(module, "eth0").manager == "NetworkManager"
    assert "netplan-eth0" in module.warned[0]


def test_ifupdown(host: dict[str, str]) -> None:
    host["ifquery"] = "eth0=eth0\n"
    assert stores.store_of(Module(), "eth0").manager == "ifupdown"


def test_an_interface_that_nothing_known_manages_is_refused(host: dict[str, str]) -> None:
    host["networkctl"] = LINK.format(name="eth1", file="/a.network", state="configured")
    with pytest.raises(Failed, match="interface: eth0: none of systemd-networkd, NetworkManager and ifupdown"):
        stores.store_of(Module(), "eth0")


def test_only_routes_of_sennit_leave_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [ONE, TWO]  # ONE is Sennit's, TWO the administrator's
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"1-2": [[str(ONE.prefix), str(ONE.gateway)]], "gone": [["10.9.0.0/16", "10.0.0.1"]]}))
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(stores, "NETWORK_MANAGER_RECORD", str(record))
    monkeypatch.setattr(stores.NetworkManagerStore, "_profile", lambda store: kept if store.place == "1-2" else None)
    monkeypatch.setattr(stores, "_run", lambda _module, *command: commands.append(command))
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(stores.NetworkManagerStore, "_write", lambda _store, content: written.append(content))
    store = stores.NetworkManagerStore(Module(), "1-2")
    assert store.routes() == [ONE]
    difference = store.make([TWO, THREE])
    assert difference is not None
    assert (difference["before"], difference["after"]) == (f"{ONE}\n{TWO}\n", f"{TWO}\n{THREE}\n")
    assert commands[0][4:] == (
        "1-2",
        "-ipv4.routes",
        "10.1.0.0/16 192.168.50.1",
        "+ipv4.routes",
        "10.3.0.0/16 192.168.50.1",
    )
    assert written[0]["1-2"] == [THREE]
    gone = stores.NetworkManagerStore(Module(), "gone")
    assert (gone.routes(), gone.make([])) == ([], None)
    assert written[1]["gone"] == []
