# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.gateway with nftables: the table as nft takes it, in a network namespace that ends with the command."""

from __future__ import annotations

import importlib
import os
import subprocess

import pytest

nftables = importlib.import_module("ansible_collections.sennit.mesh.plugins.module_utils._nftables")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@needs_root
@pytest.mark.parametrize("times", [1, 2], ids=["first", "again"])
def test_nft_takes_the_table_also_over_an_older_one(times: int) -> None:
    script = nftables.rules("sennit0", [("192.168.50.0/24", "lan0"), ("fd50:5e9:1::/64", "lan0")])
    command = " && ".join(["nft -f - <<'RULES'\n" + script + "RULES\ntrue"] * times) + " && nft -s list ruleset"
    done = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.count("masquerade") == 2
    assert done.stdout.count("table") == 1


def test_only_traffic_of_the_mesh_is_judged() -> None:
    lines = [line.strip() for line in nftables.rules("mesh0", [("10.0.0.0/8", "eth1")]).splitlines()]
    chain = lines[lines.index("chain forward {") + 2 : lines.index("}")]
    assert chain == [
        'iifname != "mesh0" oifname != "mesh0" accept',
        "ct state established,related accept",
        'iifname "mesh0" oifname "eth1" ip daddr 10.0.0.0/8 accept',
        "reject with icmpx type admin-prohibited",
    ]
