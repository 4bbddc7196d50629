# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of a host that Sennit could leave something in, as JSON: {subject: [lines]}. Runs on the host."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess

TREES = [
    "/etc",
    "/run/sennit",
    "/run/sysctl.d",
    "/run/systemd/network",
    "/usr/lib/sennit",
    "/usr/lib/sysctl.d",
    "/usr/lib/systemd",
    "/usr/local",
    "/var/lib/sennit",
]
# The linker's cache of libraries: packages stay.
LEFT_OUT = {"/etc/ld.so.cache"}
# Counters, and what differs at each reading.
CHANGING = re.compile(r"nf_conntrack_(count|checksum)|\.flush |random|stable_secret|fastopen_key|inode-nr")
# What comes and goes with a login, such as Ansible's own.
SESSIONS = re.compile(r"^(session-|user@|user-|user-runtime-dir@|run-|init\.scope)")


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def files() -> list[str]:
    found = []
    for top in TREES:
        for directory, _names, leaves in os.walk(top):
            found.append(describe(directory))
            found += [describe(os.path.join(directory, leaf)) for leaf in leaves]
    return sorted(line for line in found if line.split(" ")[0] not in LEFT_OUT)


def describe(path: str) -> str:
    status = os.lstat(path)
    owner = f"{path} {status.st_mode:o} {status.st_uid}:{status.st_gid}"
    if os.path.islink(path):
        return f"{owner} -> {os.readlink(path)}"
    if os.path.isfile(path):
        with open(path, "rb") as file:
            return f"{owner} {hashlib.sha256(file.read()).hexdigest()[:16]}"
    return owner


def sysctls() -> list[str]:
    return sorted(line for line in run("sysctl", "-a", "--pattern", "^net") if not CHANGING.search(line))


def links() -> list[str]:
    found = []
    for link in json.loads("".join(run("ip", "-json", "address", "show"))):
        addresses = sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"])
        flags = ",".join(sorted(link["flags"]))
        found.append(f"{link['ifname']} {link['mtu']} {link['operstate']} {flags} {' '.join(addresses)}")
    return sorted(found)


def routes() -> list[str]:
    lines = [line for family in ("-4", "-6") for line in run("ip", family, "route", "show", "table", "all")]
    return sorted(re.sub(r" expires \d+sec", "", line).strip() for line in lines)


def rules() -> list[str]:
    return [line for family in ("-4", "-6") for line in run("ip", family, "rule", "show")]


def chains() -> list[str]:
    """The chains with their rules in order; of firewalld's the order of zones within a chain says nothing."""
    found, table, chain = [], "", ""
    for line in run("nft", "--stateless", "list", "ruleset"):
        text = line.strip()
        if text.startswith("table "):
            table = text
        elif text.startswith(("chain ", "set ", "map ")):
            chain = text
        if text and text != "}":
            found.append(f"{table} {chain} {text}")
    return sorted(found)


def units() -> list[str]:
    names = [line.split() for line in run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager")]
    seen = [f"{name} {load}" for name, load, *_rest in names if not SESSIONS.search(name)]
    names = [line.split() for line in run("systemctl", "list-unit-files", "--no-legend", "--no-pager")]
    installed = [f"{name} {state}" for name, state, *_rest in names if not SESSIONS.search(name)]
    failed = [line.split()[0] for line in run("systemctl", "--failed", "--plain", "--no-legend", "--no-pager")]
    # Devices and the like come and go; services and what belongs to them do not.
    seen = [line for line in seen if line.split(" ")[0].endswith((".service", ".socket", ".timer", ".target"))]
    return sorted(seen) + sorted(installed) + [f"{name} failed" for name in sorted(failed)]


def firewalld() -> list[str]:
    found = []
    for when in ([], ["--permanent"]):
        label = "permanent" if when else "running"
        for what in ("--list-all-zones", "--list-all-policies", "--direct --get-all-rules", "--get-services"):
            found += [f"{label} {line}" for line in run("firewall-cmd", *when, *what.split())]
    return found


print(
    json.dumps(
        {
            "files": files(),
            "firewalld": firewalld(),
            "links": links(),
            "nftables": chains(),
            "routes": routes(),
            "rules": rules(),
            "sysctls": sysctls(),
            "units": units(),
        }
    )
)
