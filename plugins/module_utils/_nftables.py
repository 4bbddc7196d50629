# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A subnet router's forwarding as an nftables table of Sennit's own, loaded at boot by a unit of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, unit_properties

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

TABLE = "inet sennit"
RULES = "/etc/sennit/gateway.nft"
UNIT = "sennit-gateway.service"
UNIT_FILE = "/etc/systemd/system/" + UNIT
NFTABLES_DROP_IN = "/etc/systemd/system/nftables.service.d/sennit.conf"

_UNIT = """\
# Written by Ansible (sennit.mesh.gateway).
[Unit]
Description=Sennit: forwarding from the mesh into the networks behind this host
After=nftables.service
Wants=network-pre.target
Before=network-pre.target
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={nft} -f {rules}
ExecStop=-{nft} delete table {table}

[Install]
WantedBy=multi-user.target
"""

# nftables.service flushes everything, whoever made it, when it is started, reloaded or stopped.
_NFTABLES_DROP_IN = """\
# Written by Ansible (sennit.mesh.gateway): brings back the table that this service has flushed.
[Service]
ExecStartPost=-{nft} -f {rules}
ExecReload=-{nft} -f {rules}
"""


def rules(interface: str, destinations: Sequence[tuple[str, str]]) -> str:
    """The table as a script for nft: from the mesh, only into the (prefix, interface) given, masqueraded.

    Traffic that neither comes from the mesh nor goes to it is none of the table's.
    """
    forward, masquerade = [], []
    for prefix, out in sorted(destinations):
        family = "ip6" if ipaddress.ip_network(prefix).version == 6 else "ip"
        match = f'iifname "{interface}" oifname "{out}" {family} daddr {prefix}'
        forward.append(f"        {match} accept\n")
        masquerade.append(f"        {match} masquerade\n")
    return (
        "# Written by Ansible (sennit.mesh.gateway).\n"
        f"table {TABLE}\n"
        f"delete table {TABLE}\n"
        f"table {TABLE} {{\n"
        "    chain forward {\n"
        "        type filter hook forward priority filter; policy accept;\n"
        f'        iifname != "{interface}" oifname != "{interface}" accept\n'
        "        ct state established,related accept\n"
        + "".join(forward)
        + "        reject with icmpx type admin-prohibited\n"
        "    }\n"
        "\n"
        "    chain postrouting {\n"
        "        type nat hook postrouting priority srcnat; policy accept;\n" + "".join(masquerade) + "    }\n"
        "}\n"
    )


class Nftables:
    """``differences`` collects what changed (in check mode: would change)."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.differences: list[dict[str, str]] = []
        self._directories = ["/usr/sbin", "/sbin"]

    def present(self, interface: str, destinations: Sequence[tuple[str, str]]) -> None:
        nft = self._nft()
        script = rules(interface, destinations)
        self._keep(ManagedFile(self.module, RULES, 0o600, own_directory=True).present(script))
        units_changed = False
        for path, text in ((UNIT_FILE, _UNIT), (NFTABLES_DROP_IN, _NFTABLES_DROP_IN)):
            content = text.format(nft=nft, rules=RULES, table=TABLE)
            difference = self._unit_file(path).present(content)
            self._keep(difference)
            units_changed = units_changed or difference is not None
        live, wanted = self._listing(), self._listing_of(script)
        if live != wanted:
            title = f"nftables table {TABLE}"
            self._keep({"before_header": title, "after_header": title, "before": live, "after": wanted})
        state = unit_properties(self.module, UNIT, ["ActiveState", "UnitFileState"])
        enabled, active = state.get("UnitFileState") == "enabled", state.get("ActiveState") == "active"
        if not (enabled and active):
            self._keep(self._unit_difference(enabled, active, "enabled", "active"))
        if self.module.check_mode:
            return
        if units_changed:
            self._run("systemctl", "daemon-reload")
        if not enabled:
            self._run("systemctl", "enable", UNIT)
        if not active or live != wanted:
            self._run("systemctl", "restart", UNIT)

    def absent(self) -> None:
        state = unit_properties(self.module, UNIT, ["ActiveState", "UnitFileState"])
        enabled, active = state.get("UnitFileState") == "enabled", state.get("ActiveState") == "active"
        if enabled or active:
            self._keep(self._unit_difference(enabled, active, "disabled", "inactive"))
            if not self.module.check_mode:
                self._run("systemctl", "disable", "--now", UNIT)
        units = [self._unit_file(path).absent() for path in (UNIT_FILE, NFTABLES_DROP_IN)]
        for difference in units:
            self._keep(difference)
        if any(units) and not self.module.check_mode:
            self._run("systemctl", "daemon-reload")
        self._keep(ManagedFile(self.module, RULES, 0o600, own_directory=True).absent())
        if self.module.get_bin_path("nft", opt_dirs=self._directories) is None:
            return
        live = self._listing()
        # Stopping the unit has removed the table, unless somebody loaded it without the unit.
        if live:
            title = f"nftables table {TABLE}"
            self._keep({"before_header": title, "after_header": title, "before": live, "after": ""})
            if not self.module.check_mode:
                self._run(self._nft(), "delete", "table", *TABLE.split())

    def _unit_file(self, path: str) -> ManagedFile:
        return ManagedFile(self.module, path, 0o644, own_directory=path == NFTABLES_DROP_IN)

    def _unit_difference(self, enabled: bool, active: bool, *wanted: str) -> dict[str, str]:
        before = f"{'enabled' if enabled else 'disabled'}\n{'active' if active else 'inactive'}\n"
        return {
            "before_header": UNIT,
            "after_header": UNIT,
            "before": before,
            "after": "".join(f"{w}\n" for w in wanted),
        }

    def _keep(self, difference: Optional[dict[str, str]]) -> None:
        if difference is not None:
            self.differences.append(difference)

    def _nft(self) -> str:
        nft = self.module.get_bin_path("nft", opt_dirs=self._directories)
        if nft is None:
            self.module.fail_json(
                msg="this host runs no firewalld and has no command 'nft': install the package nftables"
            )
        return nft

    def _listing(self) -> str:
        """The table in the running kernel, as nft writes it; empty if there is none."""
        code, out, _err = self.module.run_command([self._nft(), "-s", "list", "table", *TABLE.split()])
        return out if code == 0 else ""

    def _listing_of(self, script: str) -> str:
        """What the table would look like: the same nft lists it from a network namespace that ends with the command.

        Each nft writes rules its own way, so no text of ours could be compared with what it lists.
        """
        nft = self._nft()
        command = f"{nft} -f - && {nft} -s list table {TABLE}"
        unshare = self.module.get_bin_path("unshare", required=True)
        code, out, err = self.module.run_command([unshare, "--net", "/bin/sh", "-c", command], data=script)
        if code != 0:
            self.module.fail_json(msg=f"nft refuses the table {TABLE}: {err.strip()}", rules=script)
        return out

    def _run(self, *command: str) -> None:
        code, _out, err = self.module.run_command(list(command))
        if code != 0:
            self.module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip()}", rc=code)
