"""What is on the other side of the network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.datapath.sides import Remote


@pytest.fixture
def remotes() -> Iterator[list[Remote]]:
    remotes = [Remote(), Remote()]
    yield remotes
    for remote in remotes:
        remote.socket.close()
