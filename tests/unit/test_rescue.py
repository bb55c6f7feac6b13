"""Rules of a start on a damaged store: set aside whole, rescued, told until acknowledged; or refused."""

from __future__ import annotations

import dataclasses
import errno
import logging
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
import pytest

from broker.accounts.records import Account, ApiKey, Device, decode_number, encode_number
from broker.errors import StoreDamaged, StoreError
from broker.storage import rescue
from broker.storage.environment import Environment
from broker.storage.pages import examine
from broker.storage.rescue import acknowledge, finish_moves, prepare, unacknowledged
from broker.storage.tables import COUNTERS, FORMAT_KEY, META, NUMBERS_KEY, TABLES, number_key
from tests.support.damage import PAGE, zero_page

MAP_BYTES = 1 << 28
DEVICES = 300
MADE_ANEW = ("accounts", COUNTERS, META)

Entries = dict[tuple[str, bytes], bytes]


def device(number: int) -> bytes:
    made = Device(
        number, 1, f"device-{number}", f"user-{number}", b"\x07" * 32, "n" * 200, "sensor", "", "{}", True, 1, 2
    )
    return made.encode()


def contents() -> Entries:
    entries = {
        ("accounts", number_key(1)): Account(1, "default", "professional", False, 1).encode(),
        ("keys", number_key(9)): ApiKey(9, 1, "default", 9, b"\x01" * 32, 1).encode(),
        (COUNTERS, b"account"): encode_number(2),
        (COUNTERS, b"principal"): encode_number(1000),
        (META, NUMBERS_KEY): struct.pack("<QQ", 5000, 70),
    }
    entries |= {("devices", number_key(100 + number)): device(100 + number) for number in range(DEVICES)}
    return entries | {("seen", number_key(100 + number)): encode_number(number) for number in range(DEVICES)}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    prepare(folder, map_size_bytes=MAP_BYTES)
    write(folder, [(table, key, value) for (table, key), value in contents().items()])
    write(folder, [("seen", number_key(9), encode_number(77))])
    return folder


def write(data_dir: Path, changes: Sequence[tuple[str, bytes, bytes | None]]) -> None:
    environment = Environment.opened(data_dir / "store", map_size_bytes=MAP_BYTES)
    environment.write([changes])
    environment.close()


def stored(data_dir: Path) -> Entries:
    environment = Environment.opened(data_dir / "store", map_size_bytes=MAP_BYTES)
    entries = {(table, key): value for table in TABLES for page in environment.pages(table) for key, value in page}
    environment.close()
    return entries


def data_file(data_dir: Path) -> Path:
    return data_dir / "store" / "data.mdb"


def damage(data_dir: Path, change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(data_file(data_dir).read_bytes())
    change(data)
    data_file(data_dir).write_bytes(data)
    return bytes(data)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def set_aside(data_dir: Path) -> list[Path]:
    return sorted(data_dir.glob("store.damaged-*"))


def others(entries: Entries) -> Entries:
    """Without what a rescue makes anew where it is lost."""
    return {place: value for place, value in entries.items() if place[0] not in MADE_ANEW}


def test_a_first_store_is_made_whole(tmp_path: Path) -> None:
    assert prepare(tmp_path, map_size_bytes=MAP_BYTES) is None
    assert examine(data_file(tmp_path)).findings == []
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert data_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_whole_store_is_left_as_it_is(data_dir: Path) -> None:
    before = data_file(data_dir).read_bytes()
    assert prepare(data_dir, map_size_bytes=MAP_BYTES, records=True) is None
    assert data_file(data_dir).read_bytes() == before


def test_each_page_zeroed_is_rescued_around_and_the_damaged_store_kept(data_dir: Path, tmp_path: Path) -> None:
    truth, whole = others(stored(data_dir)), data_file(data_dir).read_bytes()
    rescues = 0
    for page in range(len(whole) // PAGE):
        folder = tmp_path / f"page-{page}"
        (folder / "store").mkdir(parents=True)
        data_file(folder).write_bytes(whole)
        damaged = damage(folder, lambda data, page=page: zero_page(data, page))  # type: ignore[misc]
        told = prepare(folder, map_size_bytes=MAP_BYTES)
        rescued = others(stored(folder))
        assert rescued.items() <= truth.items()
        assert len(rescued) >= len(truth) - 120
        if told is None:
            assert set_aside(folder) == []
            assert rescued == truth
            continue
        rescues += 1
        (aside,) = set_aside(folder)
        assert (aside / "data.mdb").read_bytes() == damaged
        assert told.set_aside == str(aside)
        losses = [table.lost for name, table in told.tables.items() if name not in MADE_ANEW]
        if None not in losses:  # else the page that names the tables was the damaged one
            assert sum(filter(None, losses)) == len(truth) - len(rescued)
        assert prepare(folder, map_size_bytes=MAP_BYTES) == told
    assert rescues > 15


def test_damage_is_told_until_it_is_acknowledged(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(data_dir, lambda data: zero_page(data, 0))
    with caplog.at_level(logging.ERROR):
        told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert any("meta page 0" in words for words in told.found)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert unacknowledged(data_dir) == told
    assert acknowledge(data_dir)
    assert not acknowledge(data_dir)
    assert prepare(data_dir, map_size_bytes=MAP_BYTES) is None
    assert len(set_aside(data_dir)) == 1


@pytest.mark.parametrize("page", [0, 1, 2, 5])
def test_strict_refuses_and_touches_nothing(data_dir: Path, page: int) -> None:
    damage(data_dir, lambda data: data.__setitem__(slice(2 * PAGE, 8 * PAGE), bytes(6 * PAGE)))
    before = everything_in(data_dir)
    with pytest.raises(StoreDamaged, match="is damaged: "):
        prepare(data_dir, map_size_bytes=MAP_BYTES, strict=True)
    assert everything_in(data_dir) == before


FOREIGN = {
    "empty": b"",
    "zeros": bytes(5 * PAGE),
    "text": b"this is no store\n" * 3000,
    "short": b"\0" * 50,
    "noise": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_set_aside_and_the_start_goes_on(data_dir: Path, content: bytes) -> None:
    data_file(data_dir).write_bytes(content)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert told.summary == "nothing could be rescued"
    assert others(stored(data_dir)) == {}
    assert (set_aside(data_dir)[0] / "data.mdb").read_bytes() == content


def test_an_lmdb_file_of_somebody_else_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    environment = lmdb.open(str(tmp_path / "store"), max_dbs=2)
    with environment.begin(write=True, db=environment.open_db(b"recipes")) as transaction:
        transaction.put(b"soup", b"salt")
    environment.close()
    told = prepare(tmp_path, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert "no store of this broker" in told.found[0]
    assert others(stored(tmp_path)) == {}


@pytest.mark.parametrize("value", [None, b"\x01"])
def test_a_store_that_lost_its_format_is_rescued(data_dir: Path, value: bytes | None) -> None:
    truth = others(stored(data_dir))
    write(data_dir, [(META, FORMAT_KEY, value)])
    assert prepare(data_dir, map_size_bytes=MAP_BYTES) is not None
    assert others(stored(data_dir)) == truth


def test_what_lmdb_refuses_though_its_pages_are_well_is_rescued_as_well(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = others(stored(data_dir))
    opened = Environment.opened

    def refusing(path: Path, **more: object) -> Environment:
        if path.name == "store":
            raise StoreDamaged("MDB_INVALID")
        return opened(path, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Environment, "opened", refusing)
        told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert told.found == ["MDB_INVALID"]
    assert others(stored(data_dir)) == truth


def test_of_a_newer_format_only_what_says_its_own_version_is_taken(data_dir: Path) -> None:
    truth = others(stored(data_dir))
    ops = struct.pack("<I", 0)
    write(data_dir, [(META, FORMAT_KEY, struct.pack("<I", 99)), ("ops", b"\0" * 8, ops)])
    with pytest.raises(StoreDamaged, match="format 99"):
        prepare(data_dir, map_size_bytes=MAP_BYTES, strict=True)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert "format 99" in told.found[0]
    others_too = {"seen", "counters", "usage", "daily", "counted", "audit"}
    assert set(told.tables) == {"accounts", "keys", "admin_keys", "devices"} | others_too
    assert others(stored(data_dir)) == truth


def test_a_damaged_store_of_the_oldest_format_becomes_one_of_this_format(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    environment = lmdb.open(str(tmp_path / "store"), max_dbs=10)
    old = ("accounts", "keys", "devices", "seen", "counters", "journal")
    tables = {table: environment.open_db(table.encode()) for table in old}
    with environment.begin(write=True) as transaction:
        transaction.put(b"ticket", b"whatever it was", db=tables["journal"])
        for (table, key), value in contents().items():
            if table in tables:
                transaction.put(key, value, db=tables[table])
    environment.close()
    damage(tmp_path, lambda data: zero_page(data, 0))
    told = prepare(tmp_path, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert others(stored(tmp_path)) == others(contents())


def test_of_a_newer_lmdb_nothing_is_taken(data_dir: Path) -> None:
    def newer(data: bytearray) -> None:
        data[20] = data[PAGE + 20] = 2

    damage(data_dir, newer)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert "newer LMDB" in told.found[0]
    assert others(stored(data_dir)) == {}


def test_numbers_go_on_behind_the_highest_that_was_given(data_dir: Path) -> None:
    write(data_dir, [(COUNTERS, b"principal", None), (META, NUMBERS_KEY, None)])
    damage(data_dir, lambda data: zero_page(data, 0))
    assert prepare(data_dir, map_size_bytes=MAP_BYTES) is not None
    entries = stored(data_dir)
    assert decode_number(entries[COUNTERS, b"principal"]) > 100 + DEVICES
    assert decode_number(entries[COUNTERS, b"account"]) > 2
    message, session = struct.unpack("<QQ", entries[META, NUMBERS_KEY])
    assert message >= 2**32
    assert session >= 2**32


def test_an_account_that_lost_its_record_is_made_anew_for_its_keys_and_devices(data_dir: Path) -> None:
    moved = dataclasses.replace(Device.decode(device(101)), account_id=7).encode()
    bad: list[tuple[str, bytes, bytes | None]] = [
        ("accounts", number_key(1), b"?"),
        ("devices", number_key(101), moved),
    ]
    write(data_dir, bad)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES, records=True)
    assert told is not None
    assert told.accounts_made_anew == ["default", "rescued-7"]
    assert "accounts made anew: default, rescued-7" in told.summary
    entries = stored(data_dir)
    accounts = [Account.decode(entries["accounts", number_key(number)]) for number in (1, 7)]
    assert [(one.name, one.plan, one.suspended) for one in accounts] == [
        ("default", "professional", False),
        ("rescued-7", "professional", False),
    ]
    assert decode_number(entries[COUNTERS, b"account"]) > 7


def test_a_bad_record_in_a_well_store_is_found_when_it_is_asked_for_and_left_out(data_dir: Path) -> None:
    truth = others(stored(data_dir))
    bad = {("devices", number_key(101)): b"\xc1", ("devices", number_key(102)): device(103)}
    write(data_dir, [(*place, value) for place, value in bad.items()])
    assert prepare(data_dir, map_size_bytes=MAP_BYTES) is None
    with pytest.raises(StoreDamaged, match="'devices': 2 damaged records"):
        prepare(data_dir, map_size_bytes=MAP_BYTES, records=True, strict=True)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES, records=True)
    assert told is not None
    assert (told.tables["devices"].refused, told.tables["devices"].lost) == (2, 2)
    assert others(stored(data_dir)) == {place: value for place, value in truth.items() if place not in bad}


# ---------------------------------------------------------------- no room, and crashes


def test_without_room_everything_is_as_it_was(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(data_dir, lambda data: zero_page(data, 0))
    before = everything_in(data_dir)
    for error in (OSError(errno.ENOSPC, "No space left on device"), lmdb.MapFullError("no room")):

        def full(*_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(Environment, "write", full)
        with pytest.raises(StoreError, match=f"could not be rescued and is as it was: .*{str(error)[-20:]}"):
            prepare(data_dir, map_size_bytes=MAP_BYTES)
        assert everything_in(data_dir) == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_rename_is_finished_by_the_next_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    truth = others(stored(data_dir))
    damage(data_dir, lambda data: zero_page(data, 0))
    steps = 0
    rename = rescue._rename

    def killed(one: Path, other: Path) -> None:
        nonlocal steps
        steps += 1
        if steps == step and not after:
            raise Killed
        rename(one, other)
        if steps == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rescue, "_rename", killed)
        try:
            prepare(data_dir, map_size_bytes=MAP_BYTES)
        except Killed:
            assert steps == step
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert others(stored(data_dir)) == truth
    assert [str(path) for path in set_aside(data_dir)] == [told.set_aside]
    assert sorted(path.name.split("-")[0] for path in data_dir.iterdir()) == ["store", "store.damaged"]


def test_a_data_directory_that_was_moved_between_two_renames_is_finished_where_it_is(data_dir: Path) -> None:
    damage(data_dir, lambda data: zero_page(data, 0))
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    (data_dir / "store").rename(data_dir / "store.rescued")
    Path(told.set_aside).rename(data_dir / "store")
    moved = data_dir.rename(data_dir.with_name("moved"))
    finish_moves(moved)
    assert sorted(path.name for path in moved.iterdir()) == ["store", Path(told.set_aside).name]


@pytest.mark.parametrize("report", [None, "{", "[]"])
def test_a_rescue_whose_report_was_lost_is_finished_all_the_same(data_dir: Path, report: str | None) -> None:
    truth = stored(data_dir)
    (data_dir / "store").rename(data_dir / "store.rescued")
    (data_dir / "store").mkdir()
    (data_dir / "store.unfinished").mkdir()
    if report is not None:
        (data_dir / "store.rescued" / "damage.json").write_text(report)
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert (told is None) == (report is None)
    assert stored(data_dir) == truth
    assert len(set_aside(data_dir)) == 1
    assert not (data_dir / "store.unfinished").exists()


def test_a_report_that_cannot_be_read_still_tells_that_there_was_damage(data_dir: Path) -> None:
    (data_dir / "store" / "damage.json").write_text("{")
    told = prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert told is not None
    assert dataclasses.asdict(told)["found"]


def test_a_file_that_may_not_be_read_is_refused_and_left_alone(data_dir: Path) -> None:
    data_file(data_dir).unlink()
    data_file(data_dir).mkdir()
    with pytest.raises(StoreError, match="not a plain file"):
        prepare(data_dir, map_size_bytes=MAP_BYTES)
    assert data_file(data_dir).is_dir()
