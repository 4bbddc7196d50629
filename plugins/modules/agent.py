#!/usr/bin/python
# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agent
short_description: Put the Sennit agent on a host
description:
  - Installs the agent's code, its systemd unit, the command C(sennit) and the node's own key, all compared with what is
    on the host. The code comes with the collection; nothing is downloaded.
  - A new version is laid beside the old one and takes its place at once; files that the new version no longer has are
    gone with the old one.
  - The private key is made on the host, by the agent's own code, and never leaves it.
  - Does not start or restart anything; RV(restart_needed) tells when that is due.
version_added: 0.1.0
author:
  - Sennit contributors (@sennit)
extends_documentation_fragment:
  - sennit.mesh.attributes
  - sennit.mesh.attributes.action
attributes:
  check_mode:
    support: full
    details: A key that does not exist yet is not made, so RV(public_key) is then null.
  diff_mode:
    support: full
    details: Code is shown as one line a file, with its digest.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) makes the agent be there.
      - V(absent) takes away what V(present) made, and the configuration of M(sennit.mesh.agent_config). The service
        must be stopped and disabled before.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: With O(state=absent), take away the node's key and its netmap, too. Its place in the mesh goes along.
    type: bool
    default: false
  archive:
    description: The agent's code as a zip file in base64. The action plugin packs it; leave it out.
    type: str
seealso:
  - module: sennit.mesh.agent_config
  - module: sennit.mesh.status_info
"""

EXAMPLES = r"""
- name: Install the agent
  sennit.mesh.agent:
  register: sennit_agent

- name: Take the agent off the host, and its key with it
  sennit.mesh.agent:
    state: absent
    purge: true
"""

RETURN = r"""
public_key:
  description: The node's WireGuard public key, in base64.
  type: str
  returned: with O(state=present); null in check mode when there is no key yet
version:
  description: The version that is installed (in check mode, that would be).
  type: str
  returned: with O(state=present)
  sample: 0.1.0
parts:
  description: What changed (or would), of V(code), V(launcher), V(unit), V(key), V(config), V(state).
  type: list
  elements: str
  returned: always
restart_needed:
  description: Whether the service runs with something older than what is now on the host.
  type: bool
  returned: with O(state=present)
"""

import base64
import binascii
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zipfile
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _agent_files as agent_files
from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, file_mode

RELEASES = agent_files.LIBRARY + "/releases"
UNIT_IN_ARCHIVE = "sennit/sennit.service"


def read_archive(text: str) -> dict[str, bytes]:
    """The package's files by their path, which begins with \"sennit/\". Raises ValueError."""
    try:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(text, validate=True))) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (binascii.Error, zipfile.BadZipFile) as error:
        raise ValueError(f"archive: not a zip file in base64: {error}") from error
    for name in files:
        parts = name.split("/")
        if parts[0] != "sennit" or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"archive: '{name}' is not a file of the agent's package")
    if "sennit/__init__.py" not in files or UNIT_IN_ARCHIVE not in files:
        raise ValueError("archive: the agent's package is not whole")
    return files


def read_tree(top: str) -> dict[str, bytes]:
    """The files below a directory, without compiled ones, as read_archive() gives them; empty if it is not there."""
    files = {}
    for directory, names, leaves in os.walk(top):
        names[:] = [name for name in names if name != "__pycache__"]
        for leaf in leaves:
            path = os.path.join(directory, leaf)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    files[os.path.join("sennit", os.path.relpath(path, top))] = file.read()
            else:
                # Nothing of the package: makes the tree differ.
                files[os.path.join("sennit", os.path.relpath(path, top))] = b""
    return files


def readable_by_all(top: str) -> bool:
    """Whether files are 0644 and directories 0755, as installed."""
    for directory, _names, leaves in os.walk(top):
        if file_mode(directory) != 0o755:
            return False
        if any(file_mode(os.path.join(directory, leaf)) != 0o644 for leaf in leaves if not leaf.endswith(".pyc")):
            return False
    return True


def listing(files: dict[str, bytes]) -> str:
    """One line a file: what --diff shows of a tree."""
    return "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()[:16]}\n" for name in sorted(files))


class Agent:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.parts: list[str] = []
        self.diff: list[dict[str, str]] = []

    def represent(self) -> dict[str, Any]:
        return {"changed": bool(self.parts), "parts": self.parts, "diff": self.diff}

    def present(self) -> dict[str, Any]:
        try:
            files = read_archive(self.module.params["archive"] or "")
        except ValueError as error:
            self.module.fail_json(msg=str(error))
        self._code(files)
        self._file("launcher", ManagedFile(self.module, agent_files.LAUNCHER_FILE, 0o755), agent_files.LAUNCHER)
        unit = files[UNIT_IN_ARCHIVE].decode()
        self._file("unit", ManagedFile(self.module, agent_files.UNIT_FILE, 0o644), unit)
        outdated = agent_files.service_state(self.module)["outdated"]
        key = self._key(outdated)
        result = self.represent()
        result["restart_needed"] = outdated
        result["public_key"] = key
        result["version"] = agent_files.version_of(files["sennit/__init__.py"].decode())
        return result

    def absent(self) -> dict[str, Any]:
        service = agent_files.service_state(self.module)
        if service["active"] or service["enabled"]:
            self.module.fail_json(
                msg=f"{agent_files.UNIT} is {'running' if service['active'] else 'enabled'}: stop and disable it before"
                " the agent is taken away"
            )
        self._remove_file("unit", agent_files.UNIT_FILE)
        self._remove_file("launcher", agent_files.LAUNCHER_FILE)
        self._remove_tree("code", agent_files.LIBRARY)
        self._remove_file("config", agent_files.CONFIG)
        if self.module.params["purge"]:
            self._remove_tree("state", agent_files.STATE_DIRECTORY)
        if "unit" in self.parts and not self.module.check_mode:
            self._systemd_reload()
        return self.represent()

    def _code(self, files: dict[str, bytes]) -> None:
        before = read_tree(agent_files.PACKAGE + "/")
        if before == files and readable_by_all(agent_files.PACKAGE + "/"):
            return
        self.parts.append("code")
        name = agent_files.PACKAGE
        self.diff.append(
            {"before_header": name, "after_header": name, "before": listing(before), "after": listing(files)}
        )
        if not self.module.check_mode:
            self._install(files)

    def _install(self, files: dict[str, bytes]) -> None:
        os.makedirs(RELEASES, mode=0o755, exist_ok=True)
        top = tempfile.mkdtemp(dir=RELEASES, prefix="sennit-")
        os.chmod(top, 0o755)  # noqa: S103
        for name, content in files.items():
            path = os.path.join(top, name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, 0o644)
        for directory, _names, _leaves in os.walk(top):
            os.chmod(directory, 0o755)  # noqa: S103
        # The service cannot write here, so it would compile everything anew at each start.
        code, _out, err = self.module.run_command([agent_files.PYTHON, "-I", "-m", "compileall", "-q", top])
        if code != 0:
            shutil.rmtree(top)
            self.module.fail_json(msg=f"the agent's code does not compile on {agent_files.PYTHON}: {err.strip()}")
        if os.path.isdir(agent_files.PACKAGE) and not os.path.islink(agent_files.PACKAGE):
            shutil.rmtree(agent_files.PACKAGE)
        link = os.path.join(top, "link")
        os.symlink(os.path.join(os.path.relpath(top, agent_files.LIBRARY), "sennit"), link)
        os.rename(link, agent_files.PACKAGE)
        for name in os.listdir(RELEASES):
            if os.path.join(RELEASES, name) != top:
                shutil.rmtree(os.path.join(RELEASES, name))

    def _file(self, part: str, file: ManagedFile, content: str) -> None:
        difference = file.present(content)
        if difference is None:
            return
        self.parts.append(part)
        self.diff.append(difference)
        if part == "unit" and not self.module.check_mode:
            self._systemd_reload()

    def _key(self, outdated: bool) -> Optional[str]:
        key = agent_files.public_key(self.module, agent_files.agent_status(), outdated)
        if key is not None:
            return key
        self.parts.append("key")
        path = agent_files.PRIVATE_KEY
        self.diff.append({"before_header": path, "after_header": path, "before": "", "after": "a new private key\n"})
        if self.module.check_mode:
            return None
        os.makedirs(agent_files.STATE_DIRECTORY, mode=0o700, exist_ok=True)
        return agent_files.ensure_key(self.module)

    def _systemd_reload(self) -> None:
        code, _out, err = self.module.run_command(["systemctl", "daemon-reload"])
        if code != 0:
            self.module.fail_json(msg=f"'systemctl daemon-reload' failed: {err.strip()}")

    def _remove_file(self, part: str, path: str) -> None:
        own_directory = path == agent_files.CONFIG
        difference = ManagedFile(self.module, path, 0o644, own_directory).absent()
        if difference is not None:
            self.parts.append(part)
            self.diff.append(difference)

    def _remove_tree(self, part: str, path: str) -> None:
        if not os.path.isdir(path):
            return
        self.parts.append(part)
        self.diff.append({"before_header": path, "after_header": path, "before": "a directory\n", "after": ""})
        if not self.module.check_mode:
            shutil.rmtree(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "archive": {"type": "str"},
        },
        supports_check_mode=True,
    )
    agent = Agent(module)
    module.exit_json(**(agent.present() if module.params["state"] == "present" else agent.absent()))


if __name__ == "__main__":
    main()
