from __future__ import annotations

import pytest
from tests.native import CORES

from sennit.datapath.core import DatapathCore


@pytest.fixture(params=list(CORES), scope="session")
def core(request: pytest.FixtureRequest) -> DatapathCore:
    """Both batch cores: what passes with one passes with the other."""
    return CORES[request.param]()
