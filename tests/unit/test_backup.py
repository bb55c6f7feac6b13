"""Where a backup may be put, and what dead ones have left; the rest is in tests/integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.errors import StoreError
from broker.storage import backup as backups


def test_what_a_dead_one_with_our_process_id_has_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".b.unfinished-{os.getpid()}"  # in a container numbers come round soon
    (left / "store").mkdir(parents=True)
    (left / "secret").write_bytes(b"old")
    gathering = backups.begin(tmp_path / "b")
    assert [path.name for path in gathering.iterdir()] == ["store"]


def test_what_somebody_else_is_gathering_is_left_alone(tmp_path: Path) -> None:
    others = tmp_path / ".b.unfinished-1"
    others.mkdir()
    backups.begin(tmp_path / "b")
    assert others.exists()


def test_a_mount_point_cannot_be_replaced_and_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "disk")
    with pytest.raises(StoreError, match="is where a disk is mounted: name a new folder in it"):
        backups.begin(tmp_path / "disk")
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]
    backups.begin(tmp_path / "disk" / "b")
