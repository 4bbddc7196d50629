# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short ways to write inventories in tests."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from sennit.netmap.inventory import Host, Report
from sennit.netmap.signing import verify_key_of

SEED = base64.b64encode(hashlib.sha256(b"signing key").digest()).decode()
VERIFY_KEY = verify_key_of(SEED)


def raw_key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def key(name: str) -> str:
    return base64.b64encode(raw_key(name)).decode()


def node(name: str, underlay: tuple[str, ...] = (), has_key: bool = True, **variables: Any) -> Host:
    """A node that answered."""
    return Host(name, ("sennit", "sennit_nodes"), variables, Report(key(name) if has_key else None, underlay))


def router(name: str, *routes: str, underlay: tuple[str, ...] = (), **variables: Any) -> Host:
    variables.setdefault("sennit_advertise_routes", list(routes))
    return Host(name, ("sennit", "sennit_subnet_routers"), variables, Report(key(name), underlay))


def static(name: str, **variables: Any) -> Host:
    variables.setdefault("sennit_public_key", key(name))
    return Host(name, ("sennit", "sennit_static_peers"), variables, in_play=False)


def silent(name: str, in_play: bool = True, **variables: Any) -> Host:
    """A node that did not answer (in the play), or was not asked (left out by --limit)."""
    return Host(name, ("sennit", "sennit_nodes"), variables, None, in_play)
