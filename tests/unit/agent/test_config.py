"""agent.json: what is wrong in it is named, by key and value."""

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sennit.config import MAX_CONFIG_BYTES, Config, ConfigError

KEY = "zS9U3ZOGOiEz2yfgqsPC4YFVN2lGGDr1hu3nh5tN6HY="
LEAST = {"network": "demo", "signing_key": KEY}


def test_only_network_and_signing_key_have_no_default():
    config = Config.from_mapping(LEAST)
    assert dataclasses.asdict(config) == {
        **LEAST,
        "interface": "sennit0",
        "listen_port": 51820,
        "mtu": 1280,
        "fwmark": 21472,
        "table": 21472,
        "rule_priority": 5200,
        "datapath": "auto",
        "netmap_url": "",
        "relay_port": 21473,
        "relay_rate": 100_000_000,
        "state_dir": "/var/lib/sennit",
        "runtime_dir": "/run/sennit",
        "resolv_conf": "/etc/resolv.conf",
    }
    assert config.socket_path == "/run/sennit/control.sock"
    assert config.private_key_path == "/var/lib/sennit/private.key"
    assert config.netmap_path == "/var/lib/sennit/netmap"


@pytest.mark.parametrize("key", ["network", "signing_key"])
def test_missing_key_is_named(key):
    with pytest.raises(ConfigError, match=f"^configuration: {key}: missing$"):
        Config.from_mapping({name: value for name, value in LEAST.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", ""),
        ("network", "Demo"),
        ("network", "a b"),
        ("network", "demo\n"),
        ("network", "x" * 64),
        ("network", None),
        ("signing_key", "secret"),
        ("signing_key", KEY + "\n"),
        ("signing_key", "AAAA"),
        ("signing_key", 7),
        ("interface", ""),
        ("interface", ".."),
        ("interface", "a/b"),
        ("interface", "a b"),
        ("interface", "x" * 16),
        ("listen_port", -1),
        ("listen_port", 65536),
        ("listen_port", "51820"),
        ("listen_port", True),
        ("mtu", 1279),
        ("mtu", 1420.0),
        ("fwmark", 0),
        ("fwmark", 2**32),
        ("table", 0),
        ("table", 254),
        ("table", 2**32),
        ("rule_priority", 0),
        ("rule_priority", 32766),
        ("datapath", "fast"),
        ("datapath", ["auto"]),
        ("netmap_url", "ftp://store.example/netmap"),
        ("netmap_url", "https://"),
        ("netmap_url", "https://user:word@store.example/netmap"),
        ("netmap_url", "https://store.example/a b"),
        ("netmap_url", "https://store.example/\r\nHost: x"),
        ("state_dir", "var"),
        ("state_dir", "/a\0b"),
        ("runtime_dir", ["/run"]),
    ],
)
def test_bad_value_is_named_with_its_key(key, value):
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({**LEAST, key: value}, "agent.json")
    assert str(caught.value).startswith(f"agent.json: {key}: {json.dumps(value)} is not ")


def test_unknown_key_is_refused_and_the_known_ones_listed():
    with pytest.raises(ConfigError, match=r"listenport: no such key; there are network, .*listen_port"):
        Config.from_mapping({**LEAST, "listenport": 1})


def test_load(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({**LEAST, "mtu": 1280}))
    assert Config.load(str(path)).mtu == 1280


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 50_000, b" " * (MAX_CONFIG_BYTES + 1)])
def test_load_refuses_what_is_no_object(tmp_path, text):
    path = tmp_path / "agent.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=str(path)):
        Config.load(str(path))


def test_load_names_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"agent\.json: No such file"):
        Config.load(str(tmp_path / "agent.json"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(Config)]) | st.text(), json_values))
def test_any_object_is_a_configuration_or_a_config_error(values):
    with contextlib.suppress(ConfigError):
        Config.from_mapping({**LEAST, **values})
