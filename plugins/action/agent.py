# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control node's half of sennit.mesh.agent: packs the agent's code, native core included, for the module."""

from __future__ import annotations

import base64
import io
import pathlib
import zipfile
from typing import Any, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.sennit.mesh.plugins.plugin_utils import _native

PACKAGE = pathlib.Path(__file__).parent.parent / "module_utils" / "sennit"

# The same files give the same archive: no time stamps, one mode, sorted.
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(package: pathlib.Path, native: Optional[bytes] = None) -> bytes:
    """The package's files as a zip, byte for byte the same wherever and whenever it is made.

    native: the native core's library for the host, which the package itself does not have.
    """
    files = {}
    for path in package.rglob("*"):
        name = path.relative_to(package.parent)
        # What tools leave in a working tree (.mypy_cache, __pycache__) is none of the package.
        if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in name.parts):
            files[str(name)] = path.read_bytes()
    if native is not None:
        files[_native.IN_PACKAGE] = native
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present":
            try:
                native = self._native(arguments, task_vars or {})
            except _native.BuildError as error:
                if str(arguments.get("native")).lower() == "true":
                    raise AnsibleActionFail(f"no native core: {error}") from error
                result.setdefault("warnings", []).append(f"the agents go on without a new native core: {error}")
                native = None
            arguments["archive"] = base64.b64encode(pack(PACKAGE, native)).decode()
        result.update(self._execute_module("sennit.mesh.agent", module_args=arguments, task_vars=task_vars))
        # A hundred kilobytes of base64 help nobody who reads -vvv.
        result.get("invocation", {}).get("module_args", {}).pop("archive", None)
        return result

    def _native(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> Optional[bytes]:
        """The library for the host; None when it is not wanted. Raises BuildError."""
        if str(arguments.get("native")).lower() == "false":
            return None
        if arguments.get("native_library"):
            # Raises AnsibleError where there is no such file; whoever names one wants no other.
            return pathlib.Path(self._find_needle("files", arguments["native_library"])).read_bytes()
        architecture = task_vars.get("ansible_facts", {}).get("architecture")
        if not architecture:
            architecture = self._low_level_execute_command("uname -m")["stdout"].strip()
        return _native.library(architecture)
