# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control node's half of sennit.mesh.agent: packs the agent's code for the module on the host."""

from __future__ import annotations

import base64
import io
import pathlib
import zipfile
from typing import Any, Optional

from ansible.plugins.action import ActionBase

PACKAGE = pathlib.Path(__file__).parent.parent / "module_utils" / "sennit"

# The same files give the same archive: no time stamps, one mode, sorted.
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(package: pathlib.Path) -> bytes:
    """The package's files as a zip, byte for byte the same wherever and whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package.parent)
            # What tools leave in a working tree (.mypy_cache, __pycache__) is none of the package.
            if not path.is_file() or path.suffix == ".pyc" or any(part.startswith(".") for part in name.parts):
                continue
            info = zipfile.ZipInfo(str(name), date_time=EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present":
            arguments["archive"] = base64.b64encode(pack(PACKAGE)).decode()
        result.update(self._execute_module("sennit.mesh.agent", module_args=arguments, task_vars=task_vars))
        # A hundred kilobytes of base64 help nobody who reads -vvv.
        result.get("invocation", {}).get("module_args", {}).pop("archive", None)
        return result
