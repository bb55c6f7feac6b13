"""Rules of a whole broker under power cuts: what its clients were promised is there, and what was settled stays away.

Here belongs a bounded part of what ``make power-cut-test`` does for as long as one likes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.powercut.machine import BrokerCase, Result, look


def run(case: BrokerCase, folder: Path, library: Path, *, variants: int, every: int) -> Result:
    plan = replace(case.record(folder, library), variants=variants, every=every)
    return look(plan, folder / "look")


def test_every_promise_to_clients_is_kept_at_every_cut(folder: Path, library: Path) -> None:
    result = run(BrokerCase(seed=1, steps=24), folder, library, variants=1, every=3)
    assert result.wrong == {}
    assert result.looked > 200


def test_a_start_after_a_kill_is_cut_as_well(folder: Path, library: Path) -> None:
    result = run(BrokerCase(seed=3, steps=16, deaths=(150, 0)), folder, library, variants=0, every=4)
    assert result.wrong == {}
    assert result.looked > 50


@pytest.mark.parametrize(
    "fault",
    ["acknowledged-before-commit", "removed-at-send", "acknowledgement-not-recorded", "retained-deletion-forgotten"],
)
def test_a_planted_fault_of_a_broker_is_found(fault: str, folder: Path, library: Path) -> None:
    assert run(BrokerCase(seed=2, steps=60, fault=fault), folder, library, variants=0, every=10).wrong != {}
