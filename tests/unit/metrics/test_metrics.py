"""The metrics of a status, read back by Prometheus' own parser."""

import copy
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sennit.api import ApiError
from sennit.cli import command
from sennit.cli import metrics as cli_metrics
from sennit.metrics import exposition

from ..statuses import STATUS

BEACON = {"name": "harbor", "since": 880.0, "version": 7, "refused": None, "problem": None}
RELAY = {"port": 21473, "attached": 3, "forwarded_bytes": 12345, "drops": {"rate": 4}, "problem": None}


@pytest.fixture
def status():
    return {**copy.deepcopy(STATUS), "time": 1000.0}


@pytest.fixture
def agent(monkeypatch, status):
    def call(_socket, method, **_arguments):
        assert method == "status"
        return status

    monkeypatch.setattr(cli_metrics, "call", call)


def samples(text):
    """Each sample's value, by its name and labels as they stand in the text."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def of(status):
    return samples(exposition.exposition(lambda: status).decode())


def test_a_node(status):
    status["drops"] = {"invalid-mac1": 2}
    status["problems"] = ["one", "two"]
    found = of(status)
    assert found["sennit_up", ""] == 1
    assert found["sennit_build_info", "core=native,datapath=userspace,version=0.1.0"] == 1
    assert found["sennit_node_info", "network=demo,node=alpha,public_key=KEY="] == 1
    assert found["sennit_start_time_seconds", ""] == 995
    assert found["sennit_netmap_version", ""] == 7
    assert found["sennit_netmap_refused", ""] == 0
    assert found["sennit_problems", ""] == 2
    assert found["sennit_dropped_packets_total", "reason=invalid-mac1"] == 2
    assert found["sennit_route_installed", "prefix=192.168.10.0/24,via=beta"] == 1
    assert found["sennit_route_installed", "prefix=192.168.20.0/24,via=beta"] == 0


def test_peers(status):
    found = of(status)
    assert found["sennit_peer_latest_handshake_seconds", "peer=beta"] == 988
    assert found["sennit_peer_latest_handshake_seconds", "peer=phone"] == 0
    assert found["sennit_peer_receive_bytes_total", "peer=beta"] == 1000
    assert found["sennit_peer_transmit_bytes_total", "peer=beta"] == 3 * 1024 * 1024
    assert found["sennit_peer_path_info", "path=lan,peer=beta,relay="] == 1
    assert found["sennit_peer_path_info", "path=unknown,peer=phone,relay="] == 1
    assert found["sennit_peer_rtt_seconds", "peer=beta"] == 0.00123
    assert ("sennit_peer_rtt_seconds", "peer=phone") not in found
    status["peers"][0]["path"] = {"kind": "relay", "relay": "harbor"}
    assert of(status)["sennit_peer_path_info", "path=relay,peer=beta,relay=harbor"] == 1


def test_beacons_and_the_exit_node(status):
    status["beacons"] = [{**BEACON, "rtt": 0.02}, {**BEACON, "name": "mole", "since": None}]
    status["beacon"] = {"port": 21472, "clients": ["beta"], "refused": {}, "problem": None, "relay": RELAY}
    status["exit_node"] = {"name": "beta", "state": "down"}
    found = of(status)
    assert found["sennit_beacon_connected", "beacon=harbor"] == 1
    assert found["sennit_beacon_connected", "beacon=mole"] == 0
    assert found["sennit_beacon_rtt_seconds", "beacon=harbor"] == 0.02
    assert found["sennit_beacon_clients", ""] == 1
    assert found["sennit_relay_attached_nodes", ""] == 3
    assert found["sennit_relay_forwarded_bytes_total", ""] == 12345
    assert found["sennit_relay_dropped_packets_total", "reason=rate"] == 4
    assert found["sennit_exit_node_up", "exit_node=beta"] == 0


def test_before_there_is_a_netmap(status):
    status.update(node=None, addresses=[], peers=[], routes=[], core=None)
    status["netmap"]["version"] = None
    found = of(status)
    assert found["sennit_netmap_version", ""] == 0
    assert ("sennit_build_info", "core=,datapath=userspace,version=0.1.0") in found


def test_names_are_escaped(status):
    status["peers"][0]["name"] = 'a"b\\c\nd'
    families = list(text_string_to_metric_families(exposition.exposition(lambda: status).decode()))
    handshake = next(family for family in families if family.name == "sennit_peer_latest_handshake_seconds")
    assert handshake.samples[0].labels == {"peer": 'a"b\\c\nd'}


def test_names_are_as_prometheus_would_have_them(status):
    status["beacon"] = {"port": 21472, "clients": [], "refused": {}, "problem": None, "relay": RELAY}
    for name, _labels in of(status):
        assert re.fullmatch(r"sennit_[a-z0-9_]+", name)
    for family in text_string_to_metric_families(exposition.exposition(lambda: status).decode()):
        counts = all(sample.name.endswith("_total") for sample in family.samples)
        assert (family.type == "counter") == counts or not family.samples


def test_printed(agent, capsys):
    assert command.main(["metrics"]) == 0
    assert samples(capsys.readouterr().out)["sennit_up", ""] == 1


def test_a_textfile_is_whole_and_readable_for_others(agent, tmp_path):
    path = tmp_path / "sennit.prom"
    path.write_text("old\n")
    assert command.main(["metrics", "--textfile", str(path)]) == 0
    assert samples(path.read_text())["sennit_netmap_version", ""] == 7
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_without_an_agent(monkeypatch, capsys, tmp_path):
    def call(*_arguments, **_options):
        raise ApiError("not-running", "no agent is running")

    monkeypatch.setattr(cli_metrics, "call", call)
    assert command.main(["metrics"]) == 3
    assert capsys.readouterr().out == ""
    assert command.main(["metrics", "--textfile", str(tmp_path / "sennit.prom")]) == 0
    assert samples((tmp_path / "sennit.prom").read_text()) == {("sennit_up", ""): 0}
    assert command.main(["metrics", "--listen", "9586"]) == 5
    assert "no address in the mesh yet" in capsys.readouterr().err


def test_a_directory_that_is_not_there(agent, capsys, tmp_path):
    assert command.main(["metrics", "--textfile", str(tmp_path / "none" / "sennit.prom")]) == 5
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--listen", "0"], ["--listen", "65536"], ["--listen", "1", "--textfile", "x"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit):
        command.main(["metrics", *arguments])


def test_without_the_library_all_else_works():
    root = str(Path(command.__file__).parents[2])
    code = (
        "import json, sys; sys.modules['prometheus_client'] = None\n"
        "from sennit.cli import command, metrics\n"
        "sys.exit(command.main(json.loads(sys.argv[1])))"
    )
    for arguments, status in ((["version"], 0), (["metrics"], 5)):
        result = subprocess.run(
            [sys.executable, "-c", code, json.dumps(arguments)],
            env={"PYTHONPATH": root}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == status, result.stderr
    assert "prometheus_client (package python3-prometheus-client) is not installed" in result.stderr
