from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.interop.namespaces import network_namespace


@pytest.fixture
def namespace() -> Iterator[str]:
    """Sockets and devices made by the test live in a namespace that has a loopback device and nothing else."""
    with network_namespace() as name:
        yield name
