"""What a host's supervisor tells."""

from __future__ import annotations

import socket
from pathlib import Path

from sennit_lab.machine import Machine, connect, states


def test_a_supervisor_that_was_killed_before_it_answered_tells_nothing(tmp_path: Path) -> None:
    machine = Machine("lab", "host", tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(machine.socket))
        listener.listen()
        connection = connect(machine)
    assert connection is not None
    assert list(states(connection)) == []
