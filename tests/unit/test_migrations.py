"""Formats of the store: what is there is recognised, each step is whole or never was, later formats are refused."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from broker.errors import StoreDamaged, StoreError, StoreTooNew
from broker.storage import migrations
from broker.storage.environment import Environment
from broker.storage.tables import DEVICES, FORMAT, FORMAT_KEY, JOURNAL, META, TABLES

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MAP_SIZE_BYTES = 16 * 1024 * 1024


@pytest.fixture
def format_0(tmp_path: Path) -> Path:
    """A store of format 0 that may be written."""
    return Path(shutil.copytree(SAMPLES / "format0" / "store", tmp_path / "store"))


def opened(path: Path) -> Environment:
    return Environment.opened(path, map_size_bytes=MAP_SIZE_BYTES)


def raw(path: Path) -> lmdb.Environment:
    return lmdb.open(str(path), map_size=MAP_SIZE_BYTES, max_dbs=40)


def names(path: Path) -> set[str]:
    with raw(path) as environment, environment.begin() as transaction:
        return {key.decode() for key, _ in transaction.cursor()}


def format_of(path: Path) -> int:
    with raw(path) as environment, environment.begin() as transaction:
        return migrations.format_of(environment, transaction)


def devices(path: Path) -> list[tuple[bytes, bytes]]:
    with raw(path) as environment:
        database = environment.open_db(DEVICES.encode())
        with environment.begin(db=database) as transaction:
            return list(transaction.cursor())


def test_a_new_store_has_the_present_format_and_its_tables(tmp_path: Path) -> None:
    opened(tmp_path / "store").close()
    assert format_of(tmp_path / "store") == FORMAT
    assert names(tmp_path / "store") == set(TABLES)


def test_opening_a_store_of_the_present_format_writes_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "store").close()
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    opened(tmp_path / "store").close()
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


def test_format_0_is_brought_to_the_present_one_with_all_that_it_has(format_0: Path) -> None:
    assert format_of(format_0) == 0
    assert JOURNAL in names(format_0)
    before = devices(format_0)
    environment = opened(format_0)
    assert environment.read(META, [FORMAT_KEY]) == [struct.pack("<I", FORMAT)]
    environment.close()
    assert devices(format_0) == before != []
    assert names(format_0) == set(TABLES)


def test_a_store_of_a_later_format_is_refused_with_its_number(tmp_path: Path) -> None:
    opened(tmp_path / "store").close()
    with raw(tmp_path / "store") as environment, environment.begin(write=True) as transaction:
        meta = environment.open_db(META.encode(), txn=transaction)
        transaction.put(FORMAT_KEY, struct.pack("<I", FORMAT + 1), db=meta)
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    with pytest.raises(StoreTooNew, match=f"has format {FORMAT + 1}.*later version"):
        opened(tmp_path / "store")
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("value", [None, b"", b"\x01\x00\x00\x00\x00"])
def test_a_store_that_does_not_say_its_format_is_damaged(tmp_path: Path, value: bytes | None) -> None:
    opened(tmp_path / "store").close()
    with raw(tmp_path / "store") as environment, environment.begin(write=True) as transaction:
        meta = environment.open_db(META.encode(), txn=transaction)
        if value is None:
            transaction.delete(FORMAT_KEY, db=meta)
        else:
            transaction.put(FORMAT_KEY, value, db=meta)
    with pytest.raises(StoreDamaged, match="which format"):
        opened(tmp_path / "store")


def test_somebody_elses_environment_is_not_touched(tmp_path: Path) -> None:
    with raw(tmp_path / "store") as environment, environment.begin(write=True) as transaction:
        transaction.put(b"somebody", b"else")
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    with pytest.raises(StoreDamaged, match="no store of this broker"):
        opened(tmp_path / "store")
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


def test_a_step_that_fails_leaves_the_format_before_it(format_0: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = migrations.STEPS[0], (devices(format_0), names(format_0))

    def failing(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> None:
        real(environment, transaction)
        raise lmdb.Error("the disk")

    monkeypatch.setattr(migrations, "STEPS", (failing,))
    with pytest.raises(StoreError, match="the disk"):
        opened(format_0)
    assert (devices(format_0), names(format_0), format_of(format_0)) == (*before, 0)
    monkeypatch.undo()
    opened(format_0).close()
    assert format_of(format_0) == FORMAT


CRASH = """
import os, sys
from pathlib import Path
from broker.storage import migrations
from broker.storage.environment import Environment
real = migrations.STEPS[0]
def crash(environment, transaction):
    real(environment, transaction)
    os._exit(7)
migrations.STEPS = (crash,)
Environment.opened(Path(sys.argv[1]), map_size_bytes=16 * 1024 * 1024)
"""


def test_a_crash_inside_a_step_leaves_the_format_before_it(format_0: Path) -> None:
    before = devices(format_0)
    done = subprocess.run([sys.executable, "-P", "-c", CRASH, str(format_0)], env=dict(os.environ), check=False)
    assert done.returncode == 7
    assert (devices(format_0), format_of(format_0)) == (before, 0)
    opened(format_0).close()
    assert (devices(format_0), format_of(format_0)) == (before, FORMAT)


Step = Callable[[lmdb.Environment, "lmdb.Transaction[bytes]"], None]


def test_steps_follow_each_other_and_a_start_goes_on_where_one_failed(
    format_0: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def step(name: str, *, fails: bool = False) -> Step:
        def run(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> None:
            ran.append(name)
            transaction.put(name.encode(), b"1", db=environment.open_db(META.encode(), txn=transaction))
            if fails:
                raise lmdb.Error("the disk")

        return run

    monkeypatch.setattr(migrations, "FORMAT", 3)
    monkeypatch.setattr(migrations, "STEPS", (migrations.STEPS[0], step("1 to 2"), step("2 to 3", fails=True)))
    with pytest.raises(StoreError):
        opened(format_0)
    assert (ran, format_of(format_0)) == (["1 to 2", "2 to 3"], 2)
    monkeypatch.setattr(migrations, "STEPS", (migrations.STEPS[0], step("1 to 2"), step("2 to 3")))
    environment = opened(format_0)
    assert environment.read(META, [b"1 to 2", b"2 to 3", FORMAT_KEY]) == [b"1", b"1", struct.pack("<I", 3)]
    environment.close()
    assert ran == ["1 to 2", "2 to 3", "2 to 3"]


def test_there_is_a_step_from_each_format_and_a_sample_of_each_that_was() -> None:
    assert len(migrations.STEPS) == FORMAT
    for number in range(FORMAT):
        assert (SAMPLES / f"format{number}" / "store" / "data.mdb").is_file()
