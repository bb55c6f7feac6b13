"""Rules of the data directory: one owner at a time, and a secret that is never silently replaced."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.errors import DataDirLocked, StoreError
from broker.storage.data_dir import DataDir


def test_a_second_owner_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path / "d"), pytest.raises(DataDirLocked, match=str(os.getpid())):
        DataDir.claim(tmp_path / "d")


def test_a_disk_that_is_full_keeps_nobody_from_owning_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with DataDir.claim(tmp_path), pytest.raises(DataDirLocked, match="process unknown"):
        DataDir.claim(tmp_path)


def test_a_released_directory_can_be_claimed_again(tmp_path: Path) -> None:
    DataDir.claim(tmp_path).release()
    with DataDir.claim(tmp_path) as again:
        again.release()
        again.release()


def test_a_dead_owner_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from broker.storage.data_dir import DataDir;"
        "owned = DataDir.claim(pathlib.Path(sys.argv[1])); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    assert ended.returncode == 9
    with DataDir.claim(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_secret_is_random_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path / "a") as one, DataDir.claim(tmp_path / "b") as other:
        secret = one.secret()
        assert len(secret) == 32
        assert one.secret() == secret != other.secret()
    assert stat.S_IMODE((tmp_path / "a" / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_missing_secret_beside_a_store_is_refused(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path) as owned:
        owned.store_path.mkdir()
        (owned.store_path / "data.mdb").touch()
        with pytest.raises(StoreError, match="secret is missing"):
            owned.secret()


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path) as owned:
        (tmp_path / "secret").write_bytes(b"short")
        with pytest.raises(StoreError, match="5 bytes"):
            owned.secret()


def test_a_secret_half_written_by_a_crash_is_no_secret(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path) as owned:
        (tmp_path / "secret.new").write_bytes(b"half")
        assert len(owned.secret()) == 32
        assert not (tmp_path / "secret.new").exists()


def test_a_directory_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        DataDir.claim(tmp_path / "file")


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        DataDir.claim(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
