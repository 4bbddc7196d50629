"""build/bench.svg and build/bench.png: what build/bench.json says, one panel a work."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from benchmarks.records import PATH, Record

mpl.use("Agg")
from matplotlib import pyplot

_COLUMNS = 4


def draw(records: list[Record]) -> list[Path]:
    """Bars of the medians; lines from the least to the most of the rounds, and dashed ones where an aim is."""
    works = list(dict.fromkeys(each["work"] for each in records))
    subjects = list(dict.fromkeys(each["subject"] for each in records))
    colours = {name: f"C{number}" for number, name in enumerate(subjects)}
    rows = -(-len(works) // _COLUMNS)
    figure, panels = pyplot.subplots(rows, _COLUMNS, figsize=(4 * _COLUMNS, 2.6 * rows), squeeze=False)
    for panel, work in zip(panels.flat, works, strict=False):
        shown = [each for each in records if each["work"] == work and each["value"] is not None]
        if not shown:
            continue
        names = [each["subject"] for each in shown]
        values = [each["value"] for each in shown]
        spread = [
            [each["value"] - min(_numbers(each)) for each in shown],
            [max(_numbers(each)) - each["value"] for each in shown],
        ]
        panel.barh(names, values, xerr=spread, color=[colours[name] for name in names], capsize=2)
        for aim in {each["aim"] for each in shown if "aim" in each}:
            panel.axvline(aim, color="black", linestyle="--", linewidth=1)
        panel.invert_yaxis()
        panel.set_title(f"{work} ({shown[0]['unit']})", fontsize=9)
        panel.tick_params(labelsize=7)
    for panel in panels.flat[len(works) :]:
        panel.axis("off")
    figure.tight_layout()
    written = [PATH.with_suffix(ending) for ending in (".svg", ".png")]
    for path in written:
        figure.savefig(path, dpi=120)
    return written


def _numbers(record: Record) -> list[float]:
    """Of the rounds in which something came of it."""
    return [value for value in record["rounds"] if value is not None]
