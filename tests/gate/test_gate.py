"""What one delivered message may cost: system calls, allocations, instructions of the core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import find_program
from tests.gate import counters, figures, instructions, lockstep, runs

CALLS = "calls"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counters.build(tmp_path_factory.mktemp("counters"))


@pytest.mark.alone
@pytest.mark.parametrize("load", lockstep.LOADS, ids=lambda load: load.name)
def test_a_delivered_message_costs_no_more_calls_than_stored(
    load: lockstep.Load, library: Path, tmp_path: Path
) -> None:
    stored = figures.load().get(CALLS, {}).get(load.name, {})
    measured = runs.count_calls(load, tmp_path, library)
    assert figures.excesses(stored, measured) == []


@pytest.mark.alone
def test_a_message_alone_costs_at_most_one_receive_and_one_send(library: Path, tmp_path: Path) -> None:
    sparse = next(load for load in lockstep.LOADS if load.one_at_a_time)
    measured = runs.count_calls(sparse, tmp_path, library)
    assert measured["receives"] <= 1
    assert measured["sends"] <= 1


@pytest.mark.timeout(300)
def test_a_delivered_message_costs_no_more_instructions_than_stored(tmp_path: Path) -> None:
    """Figures hold for one compiler: another one's code is neither better nor worse for it, only different."""
    find_program("valgrind")
    key = instructions.compiler_key()
    stored = figures.load().get(key)
    if stored is None:
        pytest.skip(
            f"no figures are stored for {key}, only for {sorted(set(figures.load()) - {CALLS})}; {figures.UPDATE}"
        )
    measured = runs.count_instructions(tmp_path)
    found = {load: figures.excesses(stored.get(load, {}), row, slack=0) for load, row in measured.items()}
    assert {load: lines for load, lines in found.items() if lines} == {}
