"""The network that is delivered, and when a host is taken to use it."""

from __future__ import annotations

from datetime import datetime

import pytest
from benchmarks import delivery

MONITORED = """\
[2026-01-31T12:00:00.000001] 100.64.7.11 dev sennit0 table 21472 proto static scope link
[2026-01-31T12:00:01.500000] 100.64.7.1 dev sennit0 table 21472 proto static scope link
[2026-01-31T12:00:02.000000] Deleted 100.64.7.2 dev sennit0 table 21472
[2026-01-31T12:00:03.000000] 100.64.7.1 dev sennit0 table 21472 proto static scope link
"""


def test_a_map_is_used_when_its_route_comes_first():
    found = delivery.route_time(MONITORED, "100.64.7.1")
    assert datetime.fromtimestamp(found) == datetime(2026, 1, 31, 12, 0, 1, 500000)
    with pytest.raises(StopIteration):
        delivery.route_time(MONITORED, "100.64.7.2")


def test_each_inventory_has_one_phone_more_and_the_same_nodes():
    before, after = (delivery.inventory(phones)["sennit"]["children"] for phones in (1, 2))
    assert before["sennit_beacons"] == after["sennit_beacons"]
    assert before["sennit_nodes"] == after["sennit_nodes"]
    added = after["sennit_static_peers"]["hosts"].keys() - before["sennit_static_peers"]["hosts"].keys()
    assert added == {"phone2"}
    names = [*before["sennit_beacons"]["hosts"], *before["sennit_nodes"]["hosts"]]
    assert sorted(names) == sorted(delivery.HOSTS)
    assert len(names) == 8


def test_all_are_reached_at_first_and_some_never_again():
    first, later = (delivery.inventory(phones)["sennit"]["children"]["sennit_nodes"]["hosts"] for phones in (0, 1))
    cut = [host for host in later if "ansible_ssh_common_args" in later[host]]
    assert cut == list(delivery.LEFT)
    assert not any("ansible_ssh_common_args" in variables for variables in first.values())
