"""Rules of folders: each is durable before what is made in it, and what others own stops nobody."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.storage import folders


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders that were synced, in order."""
    names: list[str] = []
    inner = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        inner(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_each_folder_has_its_name_before_the_next_is_made(tmp_path: Path, synced: list[str]) -> None:
    folders.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path.parent.name, tmp_path.name, "a", "b"]
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o700


def test_a_folder_that_is_there_is_named_durably_again(tmp_path: Path, synced: list[str]) -> None:
    folders.make_folder(tmp_path)
    assert synced == [tmp_path.parent.name]


def test_a_folder_above_that_may_not_be_read_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(folders, "sync_folder", refuse)
    folders.make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


def test_a_folder_that_cannot_be_synced_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        folders.make_folder(tmp_path / "a")
