"""What is written of a benchmark, and what of it is compared."""

from __future__ import annotations

import json

import pytest
from benchmarks import netmaps, plot, records, run


@pytest.fixture
def path(tmp_path, monkeypatch):
    for module in (records, plot):
        monkeypatch.setattr(module, "PATH", tmp_path / "bench.json")
    return records.PATH


def test_an_aim_is_met_or_missed_by_the_median():
    found = records.Rounds()
    for value in (1.0, 2.0, 9.0):
        found.add("push", "sennit", value, "s", 2.0)
        found.add("rest", "sennit", value, "MB", 1.5)
        found.add("other", "sennit", value, "s")
    push, rest, other = found.records()
    assert (push["value"], push["aim"], push["met"]) == (2.0, 2.0, True)
    assert (rest["aim"], rest["met"]) == (1.5, False)
    assert "aim" not in other
    assert "met" not in other
    shown = records.table([push, rest, other]).splitlines()
    assert ["MISSED" in line for line in shown[2:]] == [False, True, False]


def test_what_is_saved_replaces_the_same_and_keeps_the_rest(path):
    records.save(
        [records.record("tcp", "sennit", [3.0], "Gb/s"), records.record("tcp", "wireguard-go-x", [2.0], "Gb/s")]
    )
    records.save([records.record("tcp", "sennit", [4.0], "Gb/s"), records.record("push", "sennit", [1.0], "s", 2.0)])
    written = {(each["work"], each["subject"]): each for each in json.loads(path.read_text())}
    assert {key: each["value"] for key, each in written.items()} == {
        ("tcp", "wireguard-go-x"): 2.0,
        ("tcp", "sennit"): 4.0,
        ("push", "sennit"): 1.0,
    }
    assert written["tcp", "sennit"]["ratios"] == {"wireguard-go-x": 2.0}
    assert written["push", "sennit"]["ratios"] == {}


def test_what_was_waited_for_in_vain_is_null_and_compared_to_nothing(path):
    found = records.Rounds()
    for once, never, reference in ((1.0, None, 2.0), (3.0, None, None), (None, None, 2.0)):
        found.add("moved", "sennit", once, "pings")
        found.add("moved", "nebula", never, "pings", 1.0)
        found.add("moved", "wireguard-go-x", reference, "pings")
    records.save(found.records())

    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    sennit, nebula, other = json.loads(path.read_text(), parse_constant=refused)
    assert (sennit["value"], sennit["rounds"], sennit["ratios"]) == (3.0, [1.0, 3.0, None], {})
    assert (nebula["value"], nebula["rounds"], nebula["met"]) == (None, [None] * 3, False)
    assert other["value"] == 2.0
    assert "never" in records.table([sennit, nebula, other])
    assert all(written.stat().st_size for written in plot.draw(records.load()))


def test_the_failure_of_one_part_is_told_and_the_others_go_on(capsys):
    parts = run.Parts()
    done = []
    for name in ("first", "second", "third"):
        with parts.one(name):
            if name == "second":
                raise RuntimeError("no such thing here")
            done.append(name)
    assert done == ["first", "third"]
    assert parts.failed == ["second"]
    assert [each.split()[0] for each in parts.took] == ["first", "second", "third"]
    assert "no such thing here" in capsys.readouterr().err


def test_the_inventory_that_is_measured_makes_a_network_as_they_are():
    compiled = netmaps.compile_netmap(
        netmaps.inventory(300), None, netmaps.verify_key_of(netmaps.generate_signing_key())
    )
    nodes = compiled.netmap.nodes
    assert len(nodes) == 300
    assert compiled.warnings == ()
    assert sum(bool(node.routes) for node in nodes) == 30
    assert sum(node.beacon is not None for node in nodes) == netmaps.BEACONS


def test_growth_is_the_cost_of_a_node_to_that_in_a_smaller_network():
    made = [
        records.record(f"netmap-{what}", netmaps._subject(size), [per_node * size], "ms")
        for what in netmaps.AIMS
        for size, per_node in zip(netmaps.SIZES, (5.0, 1.0, 1.0, 2.0))
    ]
    assert {each["work"]: (each["value"], each["met"]) for each in netmaps.growth(made)} == {
        f"netmap-{what}-growth": (2.0, False) for what in netmaps.AIMS
    }
