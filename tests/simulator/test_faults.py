"""The simulator finds each bug that is planted, and says what it breaks."""

from __future__ import annotations

import pytest

from tests.simulator.faults import FAULTS, pairs_of, read_ops, write_ops
from tests.simulator.play import Failure, play

STEPS = 1000
RUNS = 300

BREAKS = {
    "acknowledged-before-commit": {"acknowledged", "session kept", "retained", "subscription gone", "shared group"},
    "sync-skipped": {"acknowledged", "session kept", "retained", "subscription gone", "shared group", "exactly once"},
    "pubrel-before-pubrec-is-recorded": {"exactly once"},
    "pubcomp-before-identifier-is-removed": {"acknowledged", "shared group", "retained"},
    "pubrec-before-identifier-is-recorded": {"exactly once", "repeated"},
    "removed-at-send": {"acknowledged", "shared group", "identifier", "exactly once"},
    "retained-deletion-forgotten": {"retained", "deleted things gone"},
    "unsubscribe-forgotten": {"subscription gone", "subscription whole", "repeated"},
    "session-end-forgotten": {"session gone", "subscription gone", "deleted things gone"},
    "will-removal-forgotten": {"will", "deleted things gone", "exactly once", "repeated"},
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    for seed in range(1, RUNS + 1):
        outcome = play(seed, STEPS, level="synced", faults=frozenset([fault]))
        if isinstance(outcome, Failure):
            assert outcome.rule in BREAKS[fault], outcome.text()
            return
    pytest.fail(f"{fault} was not found in {RUNS} runs")


def test_ops_are_read_as_they_are_written() -> None:
    ops = [(1, 0, 7, 0, 2**40, 2**50), (6, 0, 65_535, 0, 1, 0)]
    assert read_ops(write_ops(ops)) == ops
    assert list(pairs_of(b"\0" * 8)) == []
