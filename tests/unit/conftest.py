from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from tests.native import CORES

from sennit.datapath.core import DatapathCore

# How long an example takes, or is to be made, says more of what else the machine does.
settings.register_profile("sennit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sennit")


@pytest.fixture(params=list(CORES), scope="session")
def core(request: pytest.FixtureRequest) -> DatapathCore:
    """Both batch cores: what passes with one passes with the other."""
    return CORES[request.param]()
