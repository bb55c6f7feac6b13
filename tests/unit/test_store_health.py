"""What an error of the disk means, and when a budget is used up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb
import pytest

from broker.errors import StoreDamaged, StoreError
from broker.storage.health import budget_state, trouble_of


@pytest.mark.parametrize(
    ("number", "state", "unsure"),
    [
        (errno.ENOSPC, "failed", False),
        (errno.EDQUOT, "failed", False),
        (errno.EFBIG, "failed", False),
        (errno.EROFS, "read_only", False),
        (errno.EACCES, "read_only", False),
        (errno.EIO, "failed", True),
        (errno.ENODEV, "failed", True),
    ],
)
def test_the_systems_errors_are_the_disks(tmp_path: Path, number: int, state: str, unsure: bool) -> None:
    for error in (OSError(number, "why"), lmdb.Error(f"mdb_txn_commit: {os.strerror(number)}")):
        trouble = trouble_of(error, tmp_path)
        assert trouble is not None
        assert (trouble.state, trouble.unsure) == (state, unsure)
        assert trouble.reason != ""


@pytest.mark.parametrize("error", [lmdb.MapFullError(""), lmdb.BadValsizeError(""), TypeError(""), StoreError("")])
def test_what_spoils_itself_is_not_the_disks_fault(tmp_path: Path, error: Exception) -> None:
    assert trouble_of(error, tmp_path) is None


@pytest.mark.parametrize("error", [lmdb.CorruptedError(""), lmdb.PanicError(""), StoreDamaged("")])
def test_damage_has_to_be_looked_at(tmp_path: Path, error: Exception) -> None:
    trouble = trouble_of(error, tmp_path)
    assert trouble is not None
    assert (trouble.state, trouble.unsure) == ("failed", True)


def test_an_opening_that_failed_is_judged_by_its_cause(tmp_path: Path) -> None:
    error = StoreError("the store cannot be opened")
    error.__cause__ = OSError(errno.EROFS, "why")
    trouble = trouble_of(error, tmp_path)
    assert trouble is not None
    assert trouble.state == "read_only"


def test_a_budget_is_full_from_ninety_percent_until_less_than_eighty_five() -> None:
    assert budget_state(899, 1000, "ok") == "ok"
    assert budget_state(900, 1000, "ok") == "full"
    assert budget_state(850, 1000, "full") == "full"
    assert budget_state(849, 1000, "full") == "ok"
