# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory says of a host's own agent, judged as the agent will, before anything is changed on any host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.sennit.mesh.plugins.module_utils.sennit.config import CHECKS, is_integer
from ansible_collections.sennit.mesh.plugins.module_utils.sennit.netmap.inventory import Host, Refusal, is_set


def _is_textfile(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and value.endswith(".prom") and value.isprintable():
        return ""
    return "an absolute path that ends in .prom"


# The compiler checks what the netmap has too: the network's name, its key and the port. Where an agent's files are, no
# inventory says.
_NOT_HERE = {"network", "signing_key", "listen_port", "state_dir", "runtime_dir", "resolv_conf"}

# By variable, its check: it gives "" for a good value, or what the value ought to be.
SETTINGS: Mapping[str, Callable[[Any], str]] = {
    **{f"sennit_{key}": check for key, check in CHECKS.items() if key not in _NOT_HERE},
    "sennit_metrics_port": is_integer(0, 65535),
    "sennit_metrics_textfile": _is_textfile,
    # An agent waits for no confirmation for longer.
    "sennit_trial_timeout": is_integer(0, 3600),
}


def refusals(host: Host) -> Iterator[Refusal]:
    """Those of the host's variables that its agent, or what is beside it, would not take."""
    for variable, check in SETTINGS.items():
        value = host.variables.get(variable)
        if not is_set(value):
            continue
        # A number may be a string in an inventory.
        problem = check(value)
        if problem and isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            problem = check(int(value))
        if problem:
            yield Refusal(host.name, variable, value, f"is not {problem}")
