"""What the service manager hears."""

import os
import socket
import threading

import pytest

from sennit import systemd
from sennit.systemd import Notifier


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def test_messages(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready()
    notifier.status("two\nlines")
    notifier.alive()
    notifier.stopping()
    received = [manager.recv(100) for _ in range(4)]
    assert received == [b"READY=1", b"STATUS=two lines", b"WATCHDOG=1", b"STOPPING=1"]


def test_abstract_address():
    name = f"sennit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert listener.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path):
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_manager_that_is_too_busy_is_not_waited_for(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(10_000):
        notifier.alive()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_interval(environment, interval):
    assert Notifier(environment).watchdog_interval == interval


# --- a descriptor over a restart


def test_a_descriptor_is_kept_when_the_manager_has_read_of_it(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    reading, writing = os.pipe()
    answers = []

    def manage():
        for _message in range(2):
            message, descriptors, _flags, _sender = socket.recv_fds(manager, 100, 1)
            answers.append((message, os.fstat(descriptors[0]).st_ino))
            os.close(descriptors[0])

    managing = threading.Thread(target=manage)
    managing.start()
    assert notifier.keep(writing)
    managing.join()
    assert answers[0] == (b"FDSTORE=1\nFDNAME=tun\nFDPOLL=0", os.fstat(reading).st_ino)
    assert answers[1][0] == b"BARRIER=1"
    os.close(reading)
    os.close(writing)


def test_a_manager_that_does_not_read_keeps_nothing(manager, monkeypatch):
    monkeypatch.setattr(systemd, "_PATIENCE", 0.0)
    reading, writing = os.pipe()
    assert not Notifier({"NOTIFY_SOCKET": manager.getsockname()}).keep(writing)
    assert not Notifier({"NOTIFY_SOCKET": "/nowhere"}).keep(writing)
    assert not Notifier({}).keep(writing)
    os.close(reading)
    os.close(writing)


def test_descriptors_meant_for_another_process_are_left_alone(manager):
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tun"}
    assert Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environment}).take_kept() is None
    assert Notifier({}).take_kept() is None


@pytest.mark.parametrize(
    ("jobs", "restarting"),
    [
        ("123 sennit.service restart running\n", True),
        ("7 other.service restart running\n123 sennit.service try-restart waiting\n", True),
        ("123 sennit.service stop running\n", False),
        ("7 other.service restart running\n", False),
        ("", False),
        ("sennit.service\nrestart", False),
    ],
)
def test_whether_the_service_is_restarted(tmp_path, monkeypatch, jobs, restarting):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nprintf '{jobs}'\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Notifier({"SENNIT_UNIT": "sennit.service"}).restarting() is restarting
    assert not Notifier({}).restarting()
    systemctl.write_text(f"#!/bin/sh\nprintf '{jobs}'\nexit 1\n")
    assert not Notifier({"SENNIT_UNIT": "sennit.service"}).restarting()
    systemctl.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not Notifier({"SENNIT_UNIT": "sennit.service"}).restarting()
