# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static routes as text: what is written is what is read again, and what the hosts' commands print is understood."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _route_texts import (
    NetworkdLink,
    Route,
    check_prefix,
    ifupdown_script,
    networkd_dropin,
    order,
    parse_ifupdown_script,
    parse_networkctl,
    parse_networkd_dropin,
    parse_nmcli_lines,
    parse_nmcli_routes,
    parse_route,
)

FOUR = parse_route("100.64.0.0/10", "192.168.50.1")
SIX = parse_route("fd7a:115c:a1e0::/48", "fd50:5e9:a::1")


@st.composite
def some_route(draw: st.DrawFn) -> Route:
    version = draw(st.sampled_from((4, 6)))
    network = draw(st.ip_addresses(v=version))
    length = draw(st.integers(0, network.max_prefixlen))
    return Route(ipaddress.ip_network(f"{network}/{length}", strict=False), draw(st.ip_addresses(v=version)))


@given(st.lists(some_route(), max_size=4))
def test_a_drop_in_is_read_as_it_was_written(routes: list[Route]) -> None:
    assert parse_networkd_dropin(networkd_dropin(routes)) == order(routes)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9.@-]{0,14}", fullmatch=True),
        st.lists(some_route(), min_size=1, max_size=3),
        max_size=3,
    )
)
def test_a_script_is_read_as_it_was_written(routes: dict[str, list[Route]]) -> None:
    expected = {interface: order(some) for interface, some in routes.items()}
    assert parse_ifupdown_script(ifupdown_script(routes)) == expected


def test_the_script_touches_only_the_interface_that_came_up(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(ifupdown_script({"eth0": [FOUR, SIX], "eth1": [parse_route("10.0.0.0/8", "172.16.0.1")]}))
    called = tmp_path / "called"
    (tmp_path / "ip").write_text(f'#!/bin/sh\necho "$@" >>{called}\nexit 2\n')
    (tmp_path / "ip").chmod(0o755)
    done = subprocess.run(["sh", str(script)], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "IFACE": "eth0"}, check=False)
    assert done.returncode == 0  # ifup would give the interface up
    assert called.read_text().splitlines() == [
        "route replace 100.64.0.0/10 via 192.168.50.1 dev eth0 proto static onlink",
        "route replace fd7a:115c:a1e0::/48 via fd50:5e9:a::1 dev eth0 proto static onlink",
    ]


def test_routes_are_ordered_and_each_once() -> None:
    later = parse_route("192.168.60.0/24", "192.168.50.1")
    assert order([SIX, later, FOUR, later]) == [FOUR, later, SIX]


def test_families_do_not_mix() -> None:
    with pytest.raises(ValueError, match="different families"):
        parse_route("100.64.0.0/10", "fd50:5e9:a::1")


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("192.168.0.0/16", "holds its own gateway 192.168.50.1"),
        ("0.0.0.0/0", "holds its own gateway 192.168.50.1"),
        ("192.168.50.128/25", "shares addresses with 192.168.50.0/24"),
        ("10.0.0.0/8", "shares addresses with 10.1.0.0/16"),
    ],
)
def test_a_prefix_that_would_cut_the_host_off_is_refused(prefix: str, reason: str) -> None:
    on_link = [ipaddress.ip_network(text) for text in ("192.168.50.0/24", "10.1.0.0/16", "fd50:5e9:a::/64")]
    with pytest.raises(ValueError, match=reason):
        check_prefix(ipaddress.ip_network(prefix), ipaddress.ip_address("192.168.50.1"), on_link)


def test_other_prefixes_are_not() -> None:
    on_link = [ipaddress.ip_network(text) for text in ("192.168.50.0/24", "fd50:5e9:a::/64")]
    check_prefix(FOUR.prefix, FOUR.gateway, on_link)
    check_prefix(SIX.prefix, SIX.gateway, on_link)


NETWORKCTL = """\
* 1: lo
                     Link File: n/a
                  Network File: n/a
                         State: carrier (unmanaged)
                  Online state: unknown

* 2: lan0
                     Link File: /usr/lib/systemd/network/99-default.link
                  Network File: /etc/systemd/network/10-lan0.network
                                `-/etc/systemd/network/10-lan0.network.d/60-sennit.conf
                         State: routable (configured)
                          Type: ether

* 3: eth0.7
             Link File: n/a
          Network File: /run/systemd/network/10-netplan-eth0.network
                 State: degraded (configuring)
Aug 01 00:00:00 host systemd-networkd[26]: 4: eth9
          Network File: n/a
"""


def test_what_networkd_manages() -> None:
    assert parse_networkctl(NETWORKCTL) == {
        "lan0": NetworkdLink("/etc/systemd/network/10-lan0.network", "configured"),
        "eth0.7": NetworkdLink("/run/systemd/network/10-netplan-eth0.network", "configuring"),
    }
    assert parse_networkctl("● 2: lan0 \n  Network File: /a.network\n  State: routable (configured)\n") == {
        "lan0": NetworkdLink("/a.network", "configured")
    }
    assert parse_networkctl("") == {}


def test_the_routes_of_a_profile() -> None:
    text = "10.9.0.0/16 192.168.60.1, 10.8.0.0/16 192.168.60.2 100 onlink=true,10.7.0.0/16,10.6.0.0/16 50\n"
    assert parse_nmcli_routes(text + r"fd99\:\:/48 fd50\:5e9\:b\:\:1" + "\n") == [
        parse_route("10.9.0.0/16", "192.168.60.1"),
        parse_route("10.8.0.0/16", "192.168.60.2"),
        parse_route("fd99::/48", "fd50:5e9:b::1"),
    ]
    assert parse_nmcli_routes("\n\n") == []


def test_fields_that_hold_the_separator() -> None:
    assert parse_nmcli_lines("uuid:lan0:/etc/a\\:b.nmconnection\n\nother::\n") == [
        ["uuid", "lan0", "/etc/a:b.nmconnection"],
        ["other", "", ""],
    ]
