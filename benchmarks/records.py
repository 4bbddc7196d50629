"""build/bench.json: a list of records, and the table of what they say.

A record is {"work", "subject", "value", "unit", "rounds", "ratios"}; value is the median of the rounds. Where there is
an aim it has "aim", the most that value should be, and "met", whether it is no more. Whoever measures other works adds
theirs with `save`, which replaces records of the same work and subject and keeps the rest. What was waited for in vain
is null, in rounds and, where it is half of them, as the value.

A ratio is to the value of a reference in the same work. Where both were measured in turns it is the median of the
rounds' ratios: what slows the machine down for a while slows down neighbours alike.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, Optional

from tabulate import tabulate

PATH = Path(__file__).resolve().parents[1] / "build" / "bench.json"
REFERENCES = ("wireguard-go-", "dnsmasq")
"""What the names of those begin with that others are compared to."""

Record = dict[str, Any]


class Rounds:
    """Values as they are measured, by work and subject."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], tuple[str, Optional[float], list[Optional[float]]]] = {}

    def add(self, work: str, subject: str, value: Optional[float], unit: str, aim: Optional[float] = None) -> None:
        """value: None for what was waited for in vain."""
        values = self._values.setdefault((work, subject), (unit, aim, []))[2]
        values.append(value)
        print(f"round {len(values)}: {work}: {subject}: {_text(value, '.4g')} {unit}", flush=True)

    def records(self) -> list[Record]:
        return [
            record(work, subject, values, unit, aim) for (work, subject), (unit, aim, values) in self._values.items()
        ]


def record(work: str, subject: str, rounds: list[Optional[float]], unit: str, aim: Optional[float] = None) -> Record:
    median = statistics.median(math.inf if each is None else each for each in rounds)
    value = round(median, 3) if math.isfinite(median) else None
    aimed = {} if aim is None else {"aim": aim, "met": median <= aim}
    return {
        "work": work,
        "subject": subject,
        "value": value,
        "unit": unit,
        **aimed,
        "rounds": [None if each is None else round(each, 3) for each in rounds],
    }


def save(records: list[Record]) -> None:
    measured = {(each["work"], each["subject"]) for each in records}
    kept = [each for each in load() if (each["work"], each["subject"]) not in measured]
    everything = kept + records
    for each in everything:
        each["ratios"] = _ratios(each, everything)
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(everything, indent=1, allow_nan=False) + "\n")


def load() -> list[Record]:
    return json.loads(PATH.read_text()) if PATH.exists() else []


def references(records: list[Record]) -> list[str]:
    return sorted({each["subject"] for each in records if each["subject"].startswith(REFERENCES)})


def _ratios(of: Record, records: list[Record]) -> dict[str, float]:
    """By reference."""
    found = {}
    for other in records:
        if other["work"] != of["work"] or not other["subject"].startswith(REFERENCES) or not all(other["rounds"]):
            continue
        if None in of["rounds"]:
            continue
        if len(other["rounds"]) == len(of["rounds"]):
            pairs = zip(of["rounds"], other["rounds"], strict=True)
            found[other["subject"]] = round(statistics.median(one / two for one, two in pairs), 3)
        else:
            found[other["subject"]] = round(of["value"] / other["value"], 3)
    return found


def table(records: list[Record]) -> str:
    """One line a record."""
    peers = references(records)
    rows = []
    for each in records:
        known = each.get("ratios", {})
        ratios = [f"{known[peer]:.2f}" if peer in known else "" for peer in peers]
        rounds = " ".join(map(_text, each["rounds"]))
        aim = f"{each['aim']:g}{'' if each['met'] else ' MISSED'}" if "aim" in each else ""
        rows.append((each["work"], each["subject"], _text(each["value"]), each["unit"], aim, *ratios, rounds))
    headers = ("work", "subject", "value", "unit", "at most", *(f"to {peer}" for peer in peers), "rounds")
    return tabulate(rows, headers=headers, disable_numparse=True)


def _text(value: Optional[float], form: str = "g") -> str:
    return "never" if value is None else format(value, form)
