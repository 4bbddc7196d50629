"""build/bench.json: a list of records, and the table of what they say.

A record is {"work", "subject", "value", "unit", "rounds"}; value is the median of the rounds. Whoever measures other
works adds theirs with `save`, which replaces records of the same work and subject and keeps the rest.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tabulate import tabulate

PATH = Path(__file__).resolve().parents[1] / "build" / "bench.json"

Record = dict[str, Any]


def record(work: str, subject: str, rounds: list[float], unit: str) -> Record:
    return {
        "work": work,
        "subject": subject,
        "value": round(statistics.median(rounds), 3),
        "unit": unit,
        "rounds": [round(value, 3) for value in rounds],
    }


def save(records: list[Record]) -> None:
    measured = {(each["work"], each["subject"]) for each in records}
    kept = [each for each in load() if (each["work"], each["subject"]) not in measured]
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(kept + records, indent=1) + "\n")


def load() -> list[Record]:
    return json.loads(PATH.read_text()) if PATH.exists() else []


def table(records: list[Record], reference: str) -> str:
    """One line a record; the ratio is to the reference's value in the same work."""
    base = {each["work"]: each["value"] for each in records if each["subject"] == reference}
    rows = []
    for each in records:
        of = base.get(each["work"])
        rounds = " ".join(f"{value:g}" for value in each["rounds"])
        ratio = f"{each['value'] / of:.2f}" if of else ""
        rows.append((each["work"], each["subject"], f"{each['value']:g}", each["unit"], ratio, rounds))
    headers = ("work", "subject", "value", "unit", f"to {reference}", "rounds")
    return tabulate(rows, headers=headers, disable_numparse=True)
