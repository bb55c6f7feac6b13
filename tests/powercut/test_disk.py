"""Rules of the modelled disk: what a sync makes durable, and what a cut may leave of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.powercut import journal
from tests.powercut.cuts import DURABLE, EVERYTHING, Image, image
from tests.powercut.disk import SECTOR_BYTES, Disk, UnseenWrite
from tests.powercut.journal import Record

ROOT = Path("/watched")
MANY = range(2, 300)


class Told:
    """A disk that is told calls by hand."""

    def __init__(self) -> None:
        self.disk = Disk(ROOT)
        self._position = 0

    def tell(
        self, kind: int, handle: int = 0, first: bytes = b"", second: bytes = b"", offset: int = 0, flags: int = 0
    ) -> None:
        self._position += 1
        record = Record(kind, flags, handle, offset, self._position, first, second, self._position)
        self.disk.begin(record)
        self.disk.finish(record)

    def create(self, handle: int, name: str) -> None:
        self.tell(journal.OPEN, handle, f"{ROOT}/{name}".encode(), flags=journal.CREATED)

    def sync_root(self) -> None:
        self.tell(journal.OPEN, 99, str(ROOT).encode())
        self.tell(journal.SYNC, 99)

    def images(self) -> list[Image]:
        return [image(self.disk, 1, variant) for variant in MANY]

    def contents(self) -> set[bytes]:
        return {one["file"] or b"" for one in self.images()}


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_synced_file_is_lost_while_its_folder_is_not_synced(told: Told) -> None:
    told.create(1, "file")
    told.tell(journal.WRITE, 1, b"content")
    told.tell(journal.SYNC, 1)
    assert image(told.disk, 1, DURABLE) == {}
    assert image(told.disk, 1, EVERYTHING) == {"file": b"content"}
    told.sync_root()
    assert told.contents() == {b"content"}


def test_a_named_file_may_have_any_part_of_what_was_not_synced(told: Told) -> None:
    told.create(1, "file")
    told.sync_root()
    told.tell(journal.WRITE, 1, b"a" * 2 * SECTOR_BYTES)
    found = told.contents()
    a, zero = b"a" * SECTOR_BYTES, bytes(SECTOR_BYTES)
    assert {b"", a, a + a, zero + a, a + zero} <= found


def test_a_later_write_may_be_there_without_an_earlier_one(told: Told) -> None:
    told.create(1, "file")
    told.sync_root()
    told.tell(journal.WRITE, 1, bytes(2 * SECTOR_BYTES))
    told.tell(journal.SYNC, 1)
    told.tell(journal.WRITE, 1, b"first", offset=0)
    told.tell(journal.WRITE, 1, b"later", offset=SECTOR_BYTES)
    starts = {(one[:5], one[SECTOR_BYTES : SECTOR_BYTES + 5]) for one in told.contents()}
    zero = bytes(5)
    assert starts == {(zero, zero), (b"first", zero), (zero, b"later"), (b"first", b"later")}


def test_a_write_through_o_dsync_is_durable_and_takes_no_other_with_it(told: Told) -> None:
    told.create(1, "file")
    told.sync_root()
    told.tell(journal.WRITE, 1, bytes(2 * SECTOR_BYTES))
    told.tell(journal.SYNC, 1)
    told.tell(journal.WRITE, 1, b"early", offset=0)
    told.tell(journal.WRITE, 1, b"meta", offset=SECTOR_BYTES, flags=journal.SYNCED)
    assert {one[SECTOR_BYTES:][:4] for one in told.contents()} == {b"meta"}
    assert {one[:5] for one in told.contents()} == {b"early", bytes(5)}


def test_a_sync_covers_only_what_was_written_before_it_began(told: Told) -> None:
    told.create(1, "file")
    told.sync_root()
    told.tell(journal.WRITE, 1, b"before")
    began = told._position
    told.tell(journal.WRITE, 1, b"during", offset=SECTOR_BYTES)
    told.disk.finish(Record(journal.SYNC, 0, 1, 0, began + 1, b"", b"", began + 9))
    assert bytes(image(told.disk, 1, DURABLE)["file"] or b"") == b"before"


def test_a_rename_is_whole_or_not_done_where_names_keep_their_order(told: Told) -> None:
    told.create(1, "new")
    told.tell(journal.WRITE, 1, b"x")
    told.tell(journal.SYNC, 1)
    told.sync_root()
    told.tell(journal.RENAME, first=f"{ROOT}/new".encode(), second=f"{ROOT}/file".encode())
    found = {tuple(sorted(one)) for one in told.images()}
    assert {("new",), ("file",)} <= found
    told.sync_root()
    assert {tuple(sorted(one)) for one in told.images()} == {("file",)}


def test_what_a_map_writes_is_not_followed_in_silence(told: Told) -> None:
    told.create(1, "data.mdb")
    with pytest.raises(UnseenWrite):
        told.tell(journal.UNSEEN, first=f"{ROOT}/data.mdb".encode())
    told.tell(journal.UNSEEN, first=f"{ROOT}/lock.mdb".encode())
