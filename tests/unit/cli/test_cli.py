"""The command's errors, each with its exit status, and how a node is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sennit import __version__
from sennit.api import ApiError
from sennit.cli import command
from sennit.cli.error import CliError
from sennit.cli.ping import find_target

from ..statuses import STATUS

PACKAGE_ROOT = Path(command.__file__).parents[2]


@pytest.fixture
def agent(monkeypatch):
    """An agent that has this status."""

    def call(_socket, method, *_arguments):
        return {"status": STATUS, "version": "0.0.9"}[method]

    monkeypatch.setattr(command, "call", call)


def refuse(monkeypatch, code):
    def call(*_arguments):
        raise ApiError(code, "what happened")

    monkeypatch.setattr(command, "call", call)


@pytest.mark.parametrize(
    ("code", "exit_status"), [("not-running", 3), ("no-permission", 4), ("timeout", 5), ("internal", 5)]
)
def test_without_an_answer_of_the_agent(monkeypatch, capsys, code, exit_status):
    refuse(monkeypatch, code)
    for words in (["status"], ["status", "--json"], ["ping", "beta"]):
        assert command.main(words) == exit_status
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("sennit: what happened")
        assert len(output.err.splitlines()) == 1


def test_status(agent, capsys):
    assert command.main(["status"]) == 0
    assert "REFUSED" not in capsys.readouterr().out
    assert command.main(["status", "--json", "--no-rtt"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_version_of_both(agent, capsys):
    assert command.main(["version"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"sennit {__version__}",
        "the agent that is running is 0.0.9; restart it: systemctl restart sennit",
    ]


def test_version_without_an_agent(monkeypatch, capsys):
    refuse(monkeypatch, "not-running")
    assert command.main(["version"]) == 0
    assert capsys.readouterr().out == f"sennit {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["ping"], ["ping", "beta", "-c", "0"], ["ping", "x", "-4", "-6"]]
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: sennit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ping", "x", "-c", "0"], "'0' is not a number from 1 on"),
        (["ping", "x", "-W", "nan"], "'nan' is not a number of seconds up to 3600"),
        (["metrics", "--listen", "65536"], "'65536' is not a port from 1 to 65535"),
    ],
)
def test_a_number_that_is_none_is_told_with_what_it_ought_to_be(arguments, problem, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("beta", ("beta", ["100.64.0.2", "fd5e::2"])),
        ("BETA", ("beta", ["100.64.0.2", "fd5e::2"])),
        ("alpha", ("alpha", ["100.64.0.1", "fd5e::1"])),
        ("fd5e:0::2", ("beta", ["fd5e::2"])),
        ("192.168.10.77", ("beta", ["192.168.10.77"])),
    ],
)
def test_a_node_is_found_by_name_and_address(target, found):
    assert find_target(STATUS, target) == found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("bete", "no node is called bete; there are beta"),
        ("zzz", "no node is called zzz; there are alpha, beta, phone"),
        ("203.0.113.9", "no node has the address 203.0.113.9 or a route to it"),
    ],
)
def test_an_unknown_node_is_told_with_those_that_are_near(target, message):
    with pytest.raises(CliError) as caught:
        find_target(STATUS, target)
    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_a_family_the_node_does_not_have(agent, capsys):
    assert command.main(["ping", "phone", "-6"]) == 2
    assert capsys.readouterr().err == "sennit: phone has no IPv6 address\n"


def test_a_reader_that_has_seen_enough():
    process = subprocess.Popen(
        [sys.executable, "-m", "sennit.launcher", "version"],
        env={"PYTHONPATH": str(PACKAGE_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(10) == 0
    process.stderr.close()


def test_as_a_module_without_an_agent(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "sennit.launcher", "--socket", str(tmp_path / "none"), "status"],
        env={"PYTHONPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert result.stderr == f"sennit: no agent is running at {tmp_path}/none (see: systemctl status sennit)\n"
