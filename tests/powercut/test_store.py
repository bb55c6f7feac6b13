"""Rules of the store under power cuts: it opens as it is, with a whole number of tickets, and with every promised one.

Here belongs a bounded part of what ``make power-cut-test`` does for as long as one likes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.powercut import faults
from tests.powercut.machine import Result, StoreCase, look


def run(case: StoreCase, folder: Path, library: Path, variants: int) -> Result:
    return look(replace(case.record(folder, library), variants=variants), folder / "look")


def test_every_prefix_and_many_reorderings_of_a_short_history_hold_what_was_promised(
    folder: Path, library: Path
) -> None:
    result = run(StoreCase(seed=1, tickets=24), folder, library, variants=5)
    assert result.wrong == {}
    assert result.looked > 500


@pytest.mark.parametrize("call", [20, 33, 41, 44])
def test_a_start_that_was_killed_leaves_nothing_to_the_luck_of_the_next(call: int, folder: Path, library: Path) -> None:
    result = run(StoreCase(seed=call, tickets=6, deaths=[call]), folder, library, variants=2)
    assert result.wrong == {}
    assert result.looked > 100


@pytest.mark.parametrize("fault", faults.OF_STORES)
def test_a_planted_fault_is_found(fault: str, folder: Path, library: Path) -> None:
    assert run(StoreCase(seed=3, tickets=20, fault=fault), folder, library, variants=3).wrong != {}
