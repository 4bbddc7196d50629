# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making the host's resolver as wanted, and undoing it. Runs in a child process of the agent: commands may hang.

    python3 -m sennit.host.resolver.reconcile --config /etc/sennit/agent.json

undoes what an agent that was killed has left; the unit runs it whenever the agent has ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Optional

from ...config import DEFAULT_PATH, Config, ConfigError
from .base import Place, ResolverError, Wanted
from .detect import detect, way_named
from .record import Record, RecordStore
from .resolved import Resolved


def place_of(config: Config) -> Place:
    return Place(config.resolv_conf, config.interface, config.resolver_path)


def survey(place: Place, stub: Sequence[str]) -> dict[str, Any]:
    """Who owns the resolver, and what it uses. Changes nothing. Returns, as JSON: see reconcile()."""
    return _result(place, stub, None, False)


def reconcile(place: Place, wanted: Wanted, flush: bool) -> dict[str, Any]:
    """Make the host ask the stub; `flush`: and forget what it knew.

    Returns, as JSON: "owner" (its name), "nameservers" and "search" (what the host uses without us), "changes" (lines
    for the log), "watched" (paths) and "problem" (a line, or empty).
    """
    return _result(place, wanted.stub, wanted, flush)


def undo(place: Place) -> dict[str, Any]:
    """Undo whatever the record says. Returns "changes" and "problem"."""
    try:
        return {"changes": _undo(place, RecordStore(place.record_path)), "problem": ""}
    except (ResolverError, OSError) as error:
        return {"changes": [], "problem": _text(error)}


def _result(place: Place, stub: Sequence[str], wanted: Optional[Wanted], flush: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "owner": None, "nameservers": [], "search": [], "changes": [], "watched": [place.path], "problem": "",
    }  # fmt: skip
    store = RecordStore(place.record_path)
    try:
        way = detect(place, store)
        result["owner"] = way.name
        result["watched"] = list(dict.fromkeys([place.path, *way.watched()]))
        if wanted is not None:
            record = store.load()
            if record is not None and record.owner != way.name:
                result["changes"] += _undo(place, store)
                record = None
            if record is None:
                store.save(Record(way.name))
        found = way.found(stub)
        result["nameservers"], result["search"] = list(found.nameservers), list(found.search)
        if wanted is not None:
            result["changes"] += way.apply(wanted)
            if isinstance(way, Resolved) and (flush or result["changes"]):
                way.flush()
    except (ResolverError, OSError) as error:
        result["problem"] = _text(error)
    return result


def _undo(place: Place, store: RecordStore) -> list[str]:
    record = store.load()
    if record is None:
        return []
    changes = way_named(record.owner, place, store).undo()
    store.remove()
    return changes


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return str(error)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Undo, and say so. The exit status: 0, or 1 when something stays as it was."""
    parser = argparse.ArgumentParser(description="Give the host its resolver back.")
    parser.add_argument("--config", default=DEFAULT_PATH, help="the agent's configuration (default: %(default)s)")
    try:
        config = Config.load(parser.parse_args(arguments).config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    result = undo(place_of(config))
    for line in (*result["changes"], *filter(None, [result["problem"]])):
        sys.stderr.write(f"{line}\n")
    return 1 if result["problem"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
