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
  - With O(state=present), does not start or restart anything; RV(restart_needed) tells when that is due.
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
      - V(absent) stops the service and takes away what V(present) made, the configuration of
        M(sennit.mesh.agent_config), and what an agent that was killed has left in the kernel and in the host's
        resolver. Python packages stay.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: With O(state=absent), take away the node's key and its netmap, too. Its place in the mesh goes along.
    type: bool
    default: false
  native:
    description:
      - Whether the agent has the native batch core, a small shared library over the host's own libcrypto that makes its
        userspace datapath faster. The control node builds it with a C compiler for the host's architecture; the host
        needs none.
      - V(auto) takes it where it can be had. A control node without a compiler says so, and leaves a library that the
        host has of the same source. V(true) fails without one. V(false) takes it away.
      - Where the library does not work, the agent says why in its log and goes on without.
    type: str
    choices: [auto, 'true', 'false']
    default: auto
    version_added: 0.2.0
  native_library:
    description:
      - A file on the control node that is the native core for the host's architecture, for instance from a package.
        It is looked for where M(ansible.builtin.copy) does. Nothing is built then.
    type: path
    version_added: 0.2.0
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

- name: Install it with Python alone
  sennit.mesh.agent:
    native: false

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
native:
  description: Whether the native core is installed (in check mode, would be).
  type: bool
  returned: with O(state=present)
parts:
  description:
    - What changed (or would), of V(code), V(launcher), V(unit), V(key), and with O(state=absent) also V(service),
      V(config), V(routes), V(resolver), V(runtime), V(state).
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
import json
import os
import shutil
import stat
import tempfile
import zipfile
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sennit.mesh.plugins.module_utils import _agent_files as agent_files
from ansible_collections.sennit.mesh.plugins.module_utils._host import (
    ManagedFile,
    as_root,
    file_mode,
    ip_json,
    unit_properties,
)
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import Config
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.host.resolver import reconcile as host_resolver
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.host.routes import PROTOCOL

RELEASES = agent_files.LIBRARY + "/releases"
UNIT_IN_ARCHIVE = "sennit/sennit.service"
NATIVE = "sennit/datapath/native/"
LIBRARY_IN_ARCHIVE = NATIVE + "batch.so"


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


def native_source(files: dict[str, bytes]) -> dict[str, bytes]:
    """What the native core's library is made of."""
    return {name: files[name] for name in files if name.startswith(NATIVE) and name.endswith((".c", ".h"))}


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
        before = read_tree(agent_files.PACKAGE + "/")
        library = before.get(LIBRARY_IN_ARCHIVE)
        if library and self.module.params["native"] != "false" and native_source(before) == native_source(files):
            # Built where there was a compiler; what was built now takes its place.
            files.setdefault(LIBRARY_IN_ARCHIVE, library)
        self._code(before, files)
        self._file("launcher", ManagedFile(self.module, agent_files.LAUNCHER_FILE, 0o755), agent_files.LAUNCHER)
        unit = files[UNIT_IN_ARCHIVE].decode()
        self._file("unit", ManagedFile(self.module, agent_files.UNIT_FILE, 0o644), unit)
        outdated = agent_files.service_state(self.module)["outdated"]
        key = self._key(outdated)
        result = self.represent()
        result["restart_needed"] = outdated
        result["native"] = LIBRARY_IN_ARCHIVE in files
        result["public_key"] = key
        result["version"] = agent_files.version_of(files["sennit/__init__.py"].decode())
        return result

    def absent(self) -> dict[str, Any]:
        # First the agent, which takes its routes and rules away itself.
        self._stop()
        self._remove_file("unit", agent_files.UNIT_FILE)
        self._remove_file("launcher", agent_files.LAUNCHER_FILE)
        self._remove_tree("code", agent_files.LIBRARY)
        config = agent_files.installed_config()
        self._remove_file("config", agent_files.CONFIG, directory=True)
        if "service" not in self.parts or not self.module.check_mode:
            table = config.get("table")
            self._remove_from_kernel(table if isinstance(table, int) else Config.table)
            self._restore_resolver(config)
            self._remove_tree("runtime", agent_files.RUNTIME_DIRECTORY)
        if self.module.params["purge"]:
            self._remove_tree("state", agent_files.STATE_DIRECTORY)
        if ("unit" in self.parts or "service" in self.parts) and not self.module.check_mode:
            self._systemctl("daemon-reload")
            # systemd would remember a unit that had failed.
            if unit_properties(self.module, agent_files.UNIT, ["ActiveState"]).get("ActiveState") == "failed":
                self._systemctl("reset-failed", agent_files.UNIT)
        return self.represent()

    def _stop(self) -> None:
        service = agent_files.service_state(self.module)
        # Of a unit whose file somebody has removed already, systemd only knows this.
        link = os.path.islink(agent_files.WANTS)
        if not (service["active"] or service["enabled"] or link):
            return
        self.parts.append("service")
        before = [name for name, so in (("active", service["active"]), ("enabled", service["enabled"] or link)) if so]
        self.diff.append(
            {
                "before_header": agent_files.UNIT,
                "after_header": agent_files.UNIT,
                "before": "".join(f"{name}\n" for name in before),
                "after": "",
            }
        )
        if self.module.check_mode:
            return
        if service["enabled"]:
            self._systemctl("disable", agent_files.UNIT)
        if os.path.islink(agent_files.WANTS):
            os.unlink(agent_files.WANTS)
        if service["active"]:
            self._systemctl("stop", agent_files.UNIT)

    def _remove_from_kernel(self, table: int) -> None:
        """Routes and rules that an agent has left that did not end in order."""
        for family in ("-4", "-6"):
            for kind, protocol, show in (
                ("rule", "protocol", ["show"]),
                # Not the table itself, for ip calls it an error when there is none.
                ("route", "proto", ["show", "table", "all"]),
            ):
                ours = [
                    entry
                    for entry in ip_json(self.module, "-N", family, kind, *show)
                    if entry.get("table") == str(table) and entry.get("protocol") == str(PROTOCOL)
                ]
                if not ours:
                    continue
                if "routes" not in self.parts:
                    self.parts.append("routes")
                title = f"ip {family} {kind}"
                text = "".join(f"{json.dumps(entry)}\n" for entry in ours)
                self.diff.append({"before_header": title, "after_header": title, "before": text, "after": ""})
                if not self.module.check_mode:
                    self._run("ip", family, kind, "flush", "table", str(table), protocol, str(PROTOCOL))

    def _restore_resolver(self, config: dict[str, Any]) -> None:
        """What an agent has left that did not end in order, and whose unit could not make up for it."""
        path, interface = (str(config.get(key, getattr(Config, key))) for key in ("resolv_conf", "interface"))
        place = host_resolver.Place(path, interface, agent_files.RESOLVER_RECORD)
        if not os.path.exists(place.record_path):
            return
        self.parts.append("resolver")
        self.diff.append(
            {"before_header": path, "after_header": path, "before": "the mesh's\n", "after": "the host's own\n"}
        )
        if not self.module.check_mode:
            problem = host_resolver.undo(place)["problem"]
            if problem:
                self.module.fail_json(msg=f"the host's resolver is not as it was: {problem}")

    def _code(self, before: dict[str, bytes], files: dict[str, bytes]) -> None:
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
            self._systemctl("daemon-reload")

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

    def _systemctl(self, *arguments: str) -> None:
        self._run("systemctl", *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        path = self.module.get_bin_path(name, required=True, opt_dirs=["/usr/sbin", "/sbin"])
        code, _out, err = self.module.run_command([path, *arguments])
        if code != 0:
            self.module.fail_json(msg=f"'{name} {' '.join(arguments)}' failed: {err.strip()}", rc=code)

    def _remove_file(self, part: str, path: str, directory: bool = False) -> None:
        difference = ManagedFile(self.module, path, 0o644).absent(directory)
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
            "native": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
            "native_library": {"type": "path"},
            "archive": {"type": "str"},
        },
        supports_check_mode=True,
    )
    agent = Agent(module)
    with as_root(module):
        module.exit_json(**(agent.present() if module.params["state"] == "present" else agent.absent()))


if __name__ == "__main__":
    main()
