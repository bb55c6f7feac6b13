"""Rules of backups, restores and rescues under power cuts: the old or the new, whole, and what is replaced is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.powercut.machine import Left, MoveCase, look


@pytest.mark.parametrize("kind", ["backup", "restore", "rescue"])
def test_power_that_goes_leaves_the_old_or_the_new(kind: str, folder: Path, library: Path, left: Left) -> None:
    result = look(replace(MoveCase(kind, seed=1).record(folder, library, left), variants=2), folder / "look")
    assert result.wrong == {}
    assert result.looked > 100
