"""What `sennit wireguard` keeps in memory, and what it takes on its command line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.interop.agents import PACKAGE_ROOT

from sennit import standalone

# What costs megabytes, and would be in three processes.
_LARGE = ("asyncio", "ssl", "ctypes", "pyroute2", "tabulate", "dns", "json.tool", "sennit.cli", "sennit.uapi")


def test_little_is_loaded_before_there_are_workers() -> None:
    code = "import sys, sennit.launcher, sennit.standalone; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE_ROOT)!r}); {code}"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "sennit.datapath.userspace" in loaded
    assert set(_LARGE) & set(loaded) == set()


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a:b", "..", "x" * 16, "wg%d"])
def test_what_is_no_interface_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        standalone.main([name])
    assert raised.value.code == 2
    assert "is not an interface's name" in capsys.readouterr().err
