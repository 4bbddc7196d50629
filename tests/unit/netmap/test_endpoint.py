# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.netmap.endpoint import join_endpoint, split_endpoint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 51820),
        ("192.0.2.1:7", "192.0.2.1", 7),
        ("2001:DB8::1", "2001:db8::1", 51820),
        ("[2001:db8::1]", "2001:db8::1", 51820),
        ("[2001:db8:0:0::1]:65535", "2001:db8::1", 65535),
        ("::ffff:192.0.2.1", "192.0.2.1", 51820),
        ("[::ffff:192.0.2.1]:9", "192.0.2.1", 9),
        ("Gate.Example.COM.", "gate.example.com", 51820),
        ("gate:443", "gate", 443),
        ("my_host.example", "my_host.example", 51820),
    ],
)
def test_good(text, host, port):
    assert split_endpoint(text, 51820) == (host, port)
    assert split_endpoint(join_endpoint(host, port)) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":51820",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:+5",
        "192.0.2.1:\uff15\uff11",
        "192.0.2.1/24",
        "192.0.2.300",
        "192.0.2",
        "10",
        "0x7f.1",
        "2001:db8::1:",
        "[2001:db8::1",
        "[2001:db8::1]51820",
        "[2001:db8::1]:",
        "[192.0.2.1]:5",
        "[gate.example]:5",
        "fe80::1",
        "fe80::1%eth0",
        "127.0.0.1",
        "0.0.0.0:51820",
        "[::]:51820",
        "[::1]:51820",
        "224.0.0.1:5",
        "255.255.255.255",
        "gate example",
        "gate..example",
        "-gate.example",
        "a" * 64,
        "a." * 130 + "a",
        "https://gate.example",
        "gate.example:51820:1",
    ],
)
def test_bad(text):
    with pytest.raises(ValueError, match=r"^(is|has|ends|an|what) "):
        split_endpoint(text, 51820)


def test_a_port_is_needed_when_there_is_no_default():
    with pytest.raises(ValueError, match="has no port"):
        split_endpoint("gate.example")


@given(st.text(max_size=40) | st.from_regex(r"[\[\]:.%0-9a-fx]{0,20}", fullmatch=True))
def test_any_text_is_an_endpoint_or_a_value_error(text):
    try:
        host, port = split_endpoint(text, 51820)
    except ValueError:
        return
    assert split_endpoint(join_endpoint(host, port)) == (host, port)
