"""Whichever worker's end is noticed first, the failure tells of the one that ended first."""

from __future__ import annotations

import asyncio
import errno
import os
import re

import pytest
from tests.unit.datapath.started import Started

from sennit.datapath.base import DatapathError, InterfaceGoneError

OTHER_ENDED = EOFError()


def failure(*ends: tuple[str, Exception]) -> tuple[DatapathError, dict[str, int]]:
    """What is told when these workers end, noticed in this order. With their process ids."""
    datapath = Started()
    pids: dict[str, int] = {}

    async def end() -> None:
        pids.update({name: datapath.end(name, error) for name, error in ends})
        await datapath.failed()

    with pytest.raises(DatapathError) as raised:
        asyncio.run(datapath.live(end()))
    datapath.done()
    for pid in pids.values():
        os.waitpid(pid, 0)
    return raised.value, pids


@pytest.mark.parametrize("first", ["outbound", "inbound"])
def test_that_the_interface_is_gone_is_told_though_another_worker_has_followed(first: str) -> None:
    other = {"outbound": "inbound", "inbound": "outbound"}[first]
    error, _pids = failure((first, OTHER_ENDED), (other, OSError(errno.EBADFD, "")))
    assert isinstance(error, InterfaceGoneError)


def test_of_two_workers_the_one_is_told_of_that_did_not_follow() -> None:
    error, pids = failure(("outbound", OTHER_ENDED), ("inbound", ZeroDivisionError()))
    assert re.search(rf"inbound \(process {pids['inbound']}\) has ended", str(error))


def test_without_a_first_one_any_is_told_of() -> None:
    error, _pids = failure(("outbound", OTHER_ENDED), ("inbound", OTHER_ENDED))
    assert re.search(r"bound \(process \d+\) has ended", str(error))
