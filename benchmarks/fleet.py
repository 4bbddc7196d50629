"""How long `site.yml` takes on a lab's hosts when there is nothing to do."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import records

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = ROOT / "extensions" / "molecule" / "default"
LAB = [str(ROOT / "tests" / "lab" / "lab"), "--lab", "bench"]
HOSTS = 3


def site_again(rounds: int) -> list[records.Record]:
    """Seconds of a whole `ansible-playbook playbooks/site.yml` over SSH, start to end, that changes nothing."""
    with tempfile.TemporaryDirectory(prefix="sennit-bench-") as directory:
        subprocess.run([*LAB, "up", str(ROOT / "tests" / "lab" / "topologies" / "default.yml")], check=True)
        try:
            play(Path(directory))
            seconds = []
            for number in range(rounds):
                started = time.monotonic()
                changed = play(Path(directory))
                seconds.append(time.monotonic() - started)
                print(f"round {number + 1} of {rounds}: site.yml: {seconds[-1]:.2f} s", flush=True)
                if changed:
                    raise RuntimeError(f"site.yml changed something again: {changed}")
        finally:
            subprocess.run([*LAB, "down"], check=True)
    return [records.record(f"site-again-{HOSTS}-hosts", "sennit", seconds, "s")]


def play(directory: Path) -> int:
    """How many tasks changed something."""
    done = subprocess.run(
        [
            *("ansible-playbook", "-i", str(SCENARIO / "inventory"), "-i", "/run/sennit-lab/bench/inventory.yml"),
            *("-e", f"sennit_signing_key_file={directory}/signing.key", str(ROOT / "playbooks" / "site.yml")),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    counts = re.findall(r"^\S+\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or len(counts) != HOSTS:
        raise RuntimeError(f"site.yml: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return sum(map(int, counts))
