# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs of ansible-playbook on hosts that are all this machine, with the collection as it stands in the tree."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).parents[3]


@dataclass(frozen=True)
class Played:
    """A finished run: exit code, everything printed, and what the registered variables held on each host."""

    code: int
    output: str
    registered: dict[str, dict[str, Any]]

    def result(self, variable: str, host: str | None = None) -> Any:
        """What one host, by default the first, registered."""
        held = [self.registered[name][variable] for name in self.registered if host in (None, name)]
        assert held, self.output
        return held[0]


class Control:
    """A control node: a home, a collections path and an inventory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        namespace = directory / "collections" / "ansible_collections" / "sennit"
        namespace.mkdir(parents=True)
        (namespace / "mesh").symlink_to(ROOT)
        (directory / "ansible.cfg").touch()

    def play(
        self,
        inventory: dict[str, Any] | str,
        tasks: list[dict[str, Any]],
        *arguments: str,
        hosts: str = "sennit_nodes:sennit_subnet_routers",
    ) -> Played:
        """Run these tasks. The inventory is a mapping, or YAML as text; it goes without connection variables."""
        text = inventory if isinstance(inventory, str) else json.dumps(inventory)
        (self.directory / "inventory.yml").write_text(text)
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (self.directory / "local.yml").write_text(json.dumps({"all": {"vars": local}}))
        out = self.directory / "registered"
        out.mkdir(exist_ok=True)
        for old in out.iterdir():
            old.unlink()
        names = [task["register"] for task in tasks if "register" in task]
        kept = {name: f"{{{{ {name} | default(none) }}}}" for name in names}
        keep = {
            "ansible.builtin.copy": {"content": "{{ kept | to_json }}", "dest": f"{out}/{{{{ inventory_hostname }}}}"},
            "vars": {"kept": kept},
            "check_mode": False,
            "diff": False,
        }
        play = {"hosts": hosts, "gather_facts": False, "tasks": [*tasks, keep] if names else tasks}
        (self.directory / "playbook.yml").write_text(json.dumps([play]))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "HOME": str(self.directory),
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_RESULT_FORMAT": "yaml",
        }
        # "local" first: what the test's own inventory says wins.
        command = [
            str(pathlib.Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "local.yml",
            "-i",
            "inventory.yml",
        ]
        finished = subprocess.run(
            [*command, "-i", "inventory.yml", "playbook.yml", *arguments],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        registered = {path.name: json.loads(path.read_text()) for path in sorted(out.iterdir())}
        return Played(finished.returncode, finished.stdout, registered)
