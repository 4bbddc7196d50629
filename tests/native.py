"""The native batch core, built from the source in this tree the way the role builds it."""

from __future__ import annotations

import functools
import importlib.util
import platform
from pathlib import Path

from sennit.datapath.core import PYTHON, DatapathCore, choose

ROOT = Path(__file__).resolve().parents[1]
_BUILD = ROOT / "build" / "native"


@functools.cache
def library() -> Path:
    """Where the library is, built if need be."""
    spec = importlib.util.spec_from_file_location("_native", ROOT / "plugins" / "plugin_utils" / "_native.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    content: bytes = builder.library(platform.machine(), _BUILD)
    # Other source may give the same library.
    return next(each for each in _BUILD.glob("batch-*.so") if each.read_bytes() == content)


@functools.cache
def native() -> DatapathCore:
    core = choose(str(library()))
    assert core.name == "native"
    return core


CORES = {"python": lambda: PYTHON, "native": native}
