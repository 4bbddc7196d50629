from __future__ import annotations

import pytest
from tests.interop.agents import run
from tests.interop.conftest import namespace

__all__ = ["namespace"]


@pytest.fixture(scope="session", autouse=True)
def module() -> None:
    """Whoever is first has the kernel load its WireGuard by itself."""
    run("modprobe", "--remove", "--quiet", "wireguard", check=False)
