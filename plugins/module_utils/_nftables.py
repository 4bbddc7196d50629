# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's forwarding as an nftables table of Sennit's own, loaded at boot by a unit of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from ansible_collections.sennit.mesh.plugins.module_utils._carried import Carried
from ansible_collections.sennit.mesh.plugins.module_utils._host import IPNetwork, ManagedFile, unit_properties

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

TABLE = "inet sennit"
RULES = "/etc/sennit/gateway.nft"
UNIT = "sennit-gateway.service"
UNIT_FILE = "/etc/systemd/system/" + UNIT
NFTABLES_DROP_IN = "/etc/systemd/system/nftables.service.d/sennit.conf"

_REFUSE = "reject with icmpx type admin-prohibited"

_UNIT = """\
# Written by Ansible (sennit.mesh.gateway).
[Unit]
Description=Sennit: forwarding between the mesh and the networks around this host
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


def gateway_rules(carries: Carried) -> str:
    """The table as a script for nft: what the gateway carries, and nothing else of the mesh's traffic.

    Traffic that neither comes from the mesh nor goes to it is none of the table's.
    """
    mesh = carries.interface
    forward = [f'iifname != "{mesh}" oifname != "{mesh}" accept', "ct state established,related accept"]
    postrouting = []
    for prefix, out in sorted(carries.destinations, key=str):
        family = _family(prefix)
        forward.append(f'iifname "{mesh}" oifname "{out}" {family} daddr {prefix} accept')
        if carries.from_lan:
            forward.append(f'iifname "{out}" oifname "{mesh}" {family} saddr {prefix} accept')
        verdict = "masquerade" if carries.masquerade else "accept"
        postrouting.append(f'iifname "{mesh}" oifname "{out}" {family} daddr {prefix} {verdict}')
    if carries.exit_node:
        for family in ("ip", "ip6"):
            refused = ", ".join(str(p) for p in carries.not_the_internet if _family(p) == family)
            if refused:
                forward.append(f'iifname "{mesh}" {family} daddr {{ {refused} }} {_REFUSE}')
        forward.append(f'iifname "{mesh}" oifname != "{mesh}" accept')
        postrouting.append(f'iifname "{mesh}" oifname != "{mesh}" masquerade')
    return _script(
        ("forward", "filter hook forward priority filter", [*forward, _REFUSE]),
        ("postrouting", "nat hook postrouting priority srcnat", postrouting),
        _clamp(mesh),
    )


def clamp_rules(interface: str) -> str:
    """The table where firewalld decides what is carried: only how large TCP's segments may be."""
    return _script(_clamp(interface))


def _clamp(interface: str) -> tuple[str, str, list[str]]:
    """Both sides of a connection tell their MSS in their SYN, so both directions are looked at.

    The kernel's MSS of a packet's path is that of the narrower of its two ways, there and back; a larger one is never
    set (net/netfilter/nft_rt.c and nft_exthdr.c). Connections that are not forwarded need no clamping.
    """
    syn = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"
    return (
        "clamp",
        "filter hook forward priority mangle",
        [f'iifname "{interface}" {syn}', f'oifname "{interface}" {syn}'],
    )


def _script(*chains: tuple[str, str, Sequence[str]]) -> str:
    """A script that replaces the table by one of these chains, each a name, what it hooks, and its rules."""
    parts = []
    for name, hook, lines in chains:
        body = "".join(f"        {line}\n" for line in lines)
        parts.append(f"    chain {name} {{\n        type {hook}; policy accept;\n{body}    }}\n")
    head = f"# Written by Ansible (sennit.mesh.gateway).\ntable {TABLE}\ndelete table {TABLE}\n"
    return head + f"table {TABLE} {{\n" + "\n".join(parts) + "}\n"


def _family(prefix: IPNetwork) -> str:
    return "ip6" if prefix.version == 6 else "ip"


class Nftables:
    """``differences`` collects what changed (in check mode: would change)."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.differences: list[dict[str, str]] = []
        self._directories = ["/usr/sbin", "/sbin"]

    def present(self, script: str) -> None:
        """Have the table as a script of this file makes it, now and at every boot."""
        nft = self._nft()
        # First, as nft may refuse it: then nothing has been changed.
        wanted = self._listing_of(script)
        self._keep(ManagedFile(self.module, RULES, 0o600).present(script))
        units_changed = False
        for path, text in ((UNIT_FILE, _UNIT), (NFTABLES_DROP_IN, _NFTABLES_DROP_IN)):
            content = text.format(nft=nft, rules=RULES, table=TABLE)
            difference = ManagedFile(self.module, path, 0o644).present(content)
            self._keep(difference)
            units_changed = units_changed or difference is not None
        live = self._listing()
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
        units = [
            ManagedFile(self.module, UNIT_FILE, 0o644).absent(),
            ManagedFile(self.module, NFTABLES_DROP_IN, 0o644).absent(directory=True),
        ]
        for difference in units:
            self._keep(difference)
        if any(units) and not self.module.check_mode:
            self._run("systemctl", "daemon-reload")
            # systemd would remember a unit that had failed.
            if unit_properties(self.module, UNIT, ["ActiveState"]).get("ActiveState") == "failed":
                self._run("systemctl", "reset-failed", UNIT)
        self._keep(ManagedFile(self.module, RULES, 0o600).absent(directory=True))
        live = self._listing()
        # Stopping the unit has removed the table, unless somebody loaded it without the unit.
        if live:
            title = f"nftables table {TABLE}"
            self._keep({"before_header": title, "after_header": title, "before": live, "after": ""})
            if not self.module.check_mode:
                self._run(self._nft(), "delete", "table", *TABLE.split())

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

    def _installed(self) -> Optional[str]:
        return self.module.get_bin_path("nft", opt_dirs=self._directories)

    def _nft(self) -> str:
        nft = self._installed()
        if nft is None and not self.module.check_mode:
            self.module.fail_json(msg="this host has no command 'nft': install the package nftables")
        # In check mode the package would be here by now.
        return nft or "/usr/sbin/nft"

    def _listing(self) -> str:
        """The table in the running kernel, as nft writes it; empty if there is none."""
        if self._installed() is None:
            return ""
        code, out, _err = self.module.run_command([self._nft(), "-s", "list", "table", *TABLE.split()])
        return out if code == 0 else ""

    def _listing_of(self, script: str) -> str:
        """What the table would look like: the same nft lists it from a network namespace that ends with the command.

        Each nft writes rules its own way, so no text of ours could be compared with what it lists.
        """
        nft = self._nft()
        if self._installed() is None:
            return script
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
