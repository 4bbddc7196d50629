"""`make demo`: a lab of real hosts, playbooks/site.yml on it, and a table of what works.

Exits 0 only if every line of the table works. The lab stays up; `make demo-down` ends it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import checks
import yaml
from tabulate import tabulate

TOP = Path(__file__).parent.parent
BUILD = TOP / "build" / "demo"
INVENTORIES = [
    TOP / "inventories" / "demo",  # who is in the mesh: what a user writes
    Path("/run/sennit-lab/demo/inventory.yml"),  # how Ansible reaches the lab's hosts
    BUILD / "stock.yml",  # the stock peer's public key, made a moment ago
]
CHANGE = BUILD / "change.yml"  # what the demo changes in the end


class DemoError(Exception):
    """A step of the demo failed; its output has been shown."""


def step(text: str) -> None:
    print(f"\n\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"\n==> {text}", flush=True)


def run(*command: str | Path, quiet: bool = False) -> str:
    """Run a command, showing its output as it comes unless quiet; its output. Raises DemoError if it fails."""
    lines = []
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TOP
    )
    for line in process.stdout:  # type: ignore[union-attr]
        lines.append(line)
        if not quiet:
            print(line, end="", flush=True)
    if process.wait() != 0:
        if quiet:
            print("".join(lines))
        raise DemoError(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))}: exit {process.returncode}")
    return "".join(lines)


def playbook(path: Path, *arguments: str, quiet: bool = False) -> str:
    inventories = [part for inventory in INVENTORIES for part in ("-i", inventory)]
    return run("ansible-playbook", *inventories, path, *arguments, quiet=quiet)


def changed_hosts(output: str) -> dict[str, int]:
    """How many tasks changed something on each host, from the play recap."""
    return {host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)}


def change_for_whom_ansible_cannot_reach() -> checks.Row:
    """One more name in the network, while one host refuses Ansible; beacons bring it there."""
    inventory = yaml.safe_load((INVENTORIES[0] / "hosts.yml").read_text(encoding="utf-8"))
    name = "notice"
    record = {"name": name, "type": "CNAME", "value": checks.BEACON}
    dns = {**inventory["sennit"]["vars"]["sennit_dns"], "records": [record]}
    CHANGE.write_text(yaml.safe_dump({"sennit": {"vars": {"sennit_dns": dns}}}), encoding="utf-8")
    with checks.OutOfReach(checks.RIDER):
        playbook(TOP / "playbooks" / "site.yml", "-i", CHANGE, quiet=True)
        return checks.pushed(name, time.monotonic())


def second_run() -> checks.Row:
    start = time.monotonic()
    changed = changed_hosts(playbook(TOP / "playbooks" / "site.yml", "-i", CHANGE, quiet=True))
    seconds = time.monotonic() - start
    measured = ", ".join(f"{host} {count}" for host, count in changed.items())
    return checks.Row("site.yml again changes nothing", f"{measured}; {seconds:.1f} s", not any(changed.values()))


def stock_key() -> None:
    """The stock peer makes its key with `wg`; only the public half leaves it."""
    public = checks.on(
        checks.STATIC_PEER,
        "apt-get install -qq -y wireguard-go wireguard-tools >/dev/null && install -d -m 0700 /etc/wireguard && "
        "cd /etc/wireguard && umask 077 && { [ -s private.key ] || wg genkey > private.key; } && "
        "wg pubkey < private.key",
    ).split()[-1]
    (BUILD / "stock.yml").write_text(
        f"sennit_static_peers: {{hosts: {{{checks.STATIC_PEER}: {{sennit_public_key: '{public}'}}}}}}\n",
        encoding="utf-8",
    )


def nameserver() -> None:
    """The company's nameserver is Debian's dnsmasq; the lab has its configuration."""
    checks.on("nameserver", "apt-get install -qq -y dnsmasq >/dev/null")


def up() -> None:
    start = time.monotonic()
    BUILD.mkdir(parents=True, exist_ok=True)
    step("raising the lab: systemd machines and the networks between them")
    run(*checks.LAB, "up", TOP / "tests" / "lab" / "topologies" / "demo.yml")
    step("the stock WireGuard peer makes its key")
    stock_key()
    step("a nameserver on a LAN that no node but harbor is on")
    nameserver()
    step("ansible-playbook playbooks/site.yml")
    playbook(TOP / "playbooks" / "site.yml", "-e", f"sennit_static_peer_config_dir={BUILD}")
    step("the stock WireGuard peer takes the configuration that site.yml wrote for it")
    playbook(TOP / "demo" / "stock_peer.yml", "-e", f"config={BUILD / checks.STATIC_PEER}.conf")
    step("measuring what works now")
    rows = []
    for row in checks.everything():
        rows.append(row)
        print(".", end="", flush=True)
    rows.append(change_for_whom_ansible_cannot_reach())
    rows.append(second_run())
    print("\n")
    print(
        tabulate(
            [(row.what, row.measured, "ok" if row.works else "FAILED") for row in rows],
            headers=["what", "measured", ""],
            maxcolwidths=[52, 70, None],
        )
    )
    print(f"\n{time.monotonic() - start:.0f} s in all.")
    failed = [row.what for row in rows if not row.works]
    if failed:
        raise DemoError(f"{len(failed)} of {len(rows)} lines failed: {'; '.join(failed)}")
    print("The lab is up. Look around with, for example:\n  tests/lab/lab --lab demo exec alpha -- sennit status")
    print("End it with: make demo-down")


def down() -> None:
    run(*checks.LAB, "down")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["up", "down"])
    arguments = parser.parse_args()
    try:
        up() if arguments.action == "up" else down()
    except (DemoError, checks.CheckError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
