# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter sennit.mesh.status_mermaid: from what the hosts of a mesh report to text for Mermaid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sennit.mesh.plugins.plugin_utils._picture.mermaid import mermaid
from ansible_collections.sennit.mesh.plugins.plugin_utils._picture.mesh import ReportError, read


def status_mermaid(reports: Mapping[str, Mapping[str, Any]], everyone: bool = False, at: float | None = None) -> str:
    """Raises AnsibleFilterError when the reports are not those of sennit.mesh.status_info."""
    try:
        return mermaid(read(reports, time.time() if at is None else at, everyone))
    except ReportError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file, by name."""
        return {"status_mermaid": status_mermaid}
