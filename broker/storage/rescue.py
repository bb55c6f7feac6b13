"""A store that is damaged: set aside whole, and what can be rescued put into a fresh one, before anybody opens it.

Here belongs what happens before the store is opened. Not here: finding damage (``pages``), reading around it
(``salvage``), judging records (``shapes``). Steps that must not be seen half done are renames, and a start after a
crash finishes them:

    store.unfinished    a store that is being made; thrown away
    store.rescued       a rescued store, whole; takes the place of ``store``, which is set aside first
    store.damaged-TIME  what was set aside; never deleted by the broker
    store/damage.json   what was found, rescued and lost; there until the operator has acknowledged it
    restore.unfinished  a backup on its way back; thrown away
    restore.ready       a backup on its way back, whole; what it replaces goes into ``before-restore-TIME``
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import lmdb

from broker.errors import StoreDamaged, StoreError
from broker.storage.datafile import DATA_FILE, DataFile, Finding, Kind, read_metas
from broker.storage.environment import Environment
from broker.storage.folders import sync_folder
from broker.storage.migrations import FORMAT_0_TABLES
from broker.storage.numbers import HighestNumbers
from broker.storage.owners import Owners, changes_of
from broker.storage.pages import examine, tables_of
from broker.storage.salvage import Found, Salvage
from broker.storage.shapes import is_record
from broker.storage.tables import (
    ACCOUNTS,
    ADMIN_KEYS,
    AUDIT,
    COUNTED,
    COUNTERS,
    DAILY,
    DEVICES,
    FORMAT,
    FORMAT_KEY,
    KEYS,
    META,
    SEEN,
    TABLES,
    USAGE,
)
from broker.storage.trees import TreeReader, fresh_marks

log = logging.getLogger(__name__)

STORE = "store"
UNFINISHED = "store.unfinished"
RESCUED = "store.rescued"
RESTORE_READY = "restore.ready"
UNFINISHED_RESTORE = "restore.unfinished"
REPORT_FILE = "damage.json"
BATCH_BYTES = 4 * 1024 * 1024
RUN_CHECK_S = 1.0
WORDS_MAXIMUM = 5

OF_ANY_FORMAT = frozenset((ACCOUNTS, KEYS, ADMIN_KEYS, DEVICES, SEEN, COUNTERS, USAGE, DAILY, COUNTED, AUDIT))
"""Tables whose records say their own version: taken from a store of a newer format as well."""

_FORMAT = struct.Struct("<I")


@dataclass(slots=True)
class TableLoss:
    """What became of a table; ``lost`` is None where nobody knows how much there was."""

    rescued: int
    lost: int | None
    refused: int
    older: int


@dataclass(slots=True)
class Damage:
    """What was found in a store, where it lies now, and what became of each table.

    ``at`` is ISO 8601. ``old`` tells that the newest commits were not to be found, and what was rescued is of some time
    before: credentials that were revoked since may be valid again. ``accounts_made_anew`` had lost their records, but
    not their keys or devices: they are on the default plan, and not suspended.
    """

    at: str
    found: list[str]
    set_aside: str
    tables: dict[str, TableLoss] = field(default_factory=dict)
    old: bool = False
    accounts_made_anew: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line about what was rescued and lost."""
        if not self.tables:
            return "nothing could be rescued"
        words = [f"{table} {one.rescued} ({_lost_words(one)})" for table, one in sorted(self.tables.items())]
        if self.accounts_made_anew:
            words.append(f"accounts made anew: {', '.join(self.accounts_made_anew)}")
        return ", ".join(words) + ("; the newest commits are lost" if self.old else "")


def _lost_words(one: TableLoss) -> str:
    return "an unknown number lost" if one.lost is None else f"{one.lost} lost"


# ---------------------------------------------------------------- before the store is opened


def prepare(
    data_dir: Path, *, map_size_bytes: int, strict: bool = False, records: bool = False, rescuing: bool = True
) -> Damage | None:
    """Make sure that there is a whole store to open; tell the damage that nobody has acknowledged yet, if there is any.

    The directory's lock has to be held. A first store is made; a damaged one is set aside and rescued, or with
    ``strict`` refused as ``StoreDamaged``. ``records`` judges each record as well, which takes longer. Raises
    ``StoreError`` where the disk has no room or may not be read; the store is as it was then.
    """
    finish_moves(data_dir)
    data_file = data_dir / STORE / DATA_FILE
    if not data_file.exists():
        make_fresh(data_dir, map_size_bytes)
        return None
    findings = look(data_file, records=records) or _refused_by_lmdb(data_dir / STORE, map_size_bytes)
    if findings:
        if strict or not rescuing:
            raise StoreDamaged(refusal(data_dir / STORE, findings))
        rescue(data_dir, findings, map_size_bytes)
    return unacknowledged(data_dir)


def look(data_file: Path, *, records: bool = False, run_seconds: float = RUN_CHECK_S) -> list[Finding]:
    """Find what is wrong with a store that nobody writes to, its format included. Raises ``StoreError``."""
    report = examine(data_file, run_seconds=run_seconds)
    if not report.complete:
        log.info("the store is large: the rest of its large values is checked when they are read")
    findings = report.findings
    if not findings:
        found = stored_format(data_file)
        if found is not None and found > FORMAT:
            findings = [Finding(Kind.NEWER_FORMAT, f"the store has format {found}, and this version knows {FORMAT}")]
        elif not _is_ours(set(report.tables), found):
            findings = [Finding(Kind.FOREIGN, "it is an LMDB file, but no store of this broker, or its format is lost")]
        elif records:
            findings = list(wrong_records(data_file))
    return findings


def _refused_by_lmdb(store: Path, map_size_bytes: int) -> list[Finding]:
    """Tell what LMDB itself has against a store: whatever that is, it must not be met again at each start."""
    try:
        Environment.opened(store, map_size_bytes=map_size_bytes).close()
    except StoreDamaged as error:
        return [Finding(Kind.META, str(error))]
    return []


def _is_ours(tables: set[str], found: int | None) -> bool:
    """Tell whether a store of these tables, which says this format, can be opened."""
    if META in tables:
        return found is not None and tables <= set(TABLES)
    return {table.encode() for table in tables} <= FORMAT_0_TABLES


def wrong_records(data_file: Path) -> Iterator[Finding]:
    """Yield what is no record of its table, in a file whose pages are well."""
    with Salvage(data_file, is_record) as everything:
        for _ in everything:
            pass
        for table, account in everything.accounts.items():
            if account.refused:
                yield Finding(Kind.RECORD, f"table {table!r}: {account.refused} damaged records", table)


def stored_format(data_file: Path) -> int | None:
    """Read which format a store says it has; None where it does not say."""
    with DataFile(data_file) as file:
        metas, _ = read_metas(file)
        for meta in metas[:1]:
            trees = dict(tables_of(file, meta))
            if (tree := trees.get(META)) is None:
                return None
            for entry in TreeReader(file, tree, fresh_marks(file, meta)).entries():
                if entry.key == FORMAT_KEY and len(entry.value) == _FORMAT.size:
                    return int(_FORMAT.unpack(entry.value)[0])
    return None


def refusal(store: Path, findings: list[Finding]) -> str:
    """Say why a damaged store is not opened."""
    return f"the store in {store} is damaged: {_words(findings)}"


def make_fresh(data_dir: Path, map_size_bytes: int) -> None:
    """Make an empty store, so that it is there whole or not at all. Raises ``StoreError``."""
    _new_folder(data_dir / UNFINISHED)
    Environment.opened(data_dir / UNFINISHED, map_size_bytes=map_size_bytes).close()
    if (data_dir / STORE).exists():
        _remove_empty_store(data_dir / STORE)
    _rename(data_dir / UNFINISHED, data_dir / STORE)


def unacknowledged(data_dir: Path) -> Damage | None:
    """Read the damage that nobody has acknowledged."""
    try:
        told = json.loads((data_dir / STORE / REPORT_FILE).read_text())
        tables = {table: TableLoss(**one) for table, one in told.pop("tables").items()}
        return Damage(**told, tables=tables)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Damage("", ["the report about it cannot be read"], "")


def acknowledge(data_dir: Path) -> bool:
    """Note that the operator knows of the damage; False when there was none to know of."""
    file = data_dir / STORE / REPORT_FILE
    if not file.exists():
        return False
    file.unlink()
    sync_folder(file.parent)
    return True


def finish_moves(data_dir: Path) -> Path | None:
    """Make the renames of a rescue or restore that are left to make; the lock has to be held.

    Tells where a restore has put what it replaced, None where it replaced nothing. Raises ``StoreError``.
    """
    for begun in (UNFINISHED, UNFINISHED_RESTORE):
        shutil.rmtree(data_dir / begun, ignore_errors=True)
    try:
        rescued, restored = data_dir / RESCUED, data_dir / RESTORE_READY
        if rescued.exists():
            if (data_dir / STORE).exists():
                _rename(data_dir / STORE, data_dir / _aside_name(rescued))
            _rename(rescued, data_dir / STORE)
        return _finish_restore(data_dir, restored) if restored.exists() else None
    except (OSError, ValueError) as error:
        raise StoreError(f"what was begun in {data_dir} cannot be finished: {error}") from error


def _aside_name(rescued: Path) -> str:
    """Tell where the report of a rescue says that the damaged store is."""
    try:
        return Path(json.loads((rescued / REPORT_FILE).read_text())["set_aside"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return f"store.damaged-{_stamp()}"


def _finish_restore(data_dir: Path, restored: Path) -> Path | None:
    """Move what a backup has to its place, piece by piece, each after what it replaces."""
    aside = data_dir / f"before-restore-{_stamp()}"
    for name in (STORE, "secret", "tls"):
        if not (restored / name).exists():
            continue
        if (data_dir / name).exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            sync_folder(data_dir)
            _rename(data_dir / name, aside / name)
        _rename(restored / name, data_dir / name)
    restored.rmdir()
    sync_folder(data_dir)
    return aside if aside.exists() else None


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


# ---------------------------------------------------------------- rescuing


def rescue(data_dir: Path, findings: list[Finding], map_size_bytes: int) -> Damage:
    """Set a damaged store aside and put what can be read of it into a fresh one. Raises ``StoreError`` without room."""
    aside = data_dir / f"store.damaged-{_stamp()}"
    damage = Damage(
        datetime.now(UTC).isoformat(timespec="seconds"), [str(one) for one in findings[:50]], str(aside.absolute())
    )
    unfinished = data_dir / UNFINISHED
    log.warning("the store is damaged and is being rescued", extra={"fields": {"found": _words(findings)}})
    try:
        _new_folder(unfinished)
        _fill(unfinished, data_dir / STORE / DATA_FILE, findings, damage, map_size_bytes)
        _write_synced(unfinished / REPORT_FILE, json.dumps(asdict(damage), indent=2) + "\n")
        sync_folder(unfinished)
        _rename(unfinished, data_dir / RESCUED)
    except (OSError, lmdb.Error, StoreError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StoreError(
            f"{refusal(data_dir / STORE, findings)}; it could not be rescued and is as it was: {error}"
        ) from error
    finish_moves(data_dir)
    log.error(
        "the store was damaged: what could be rescued is in use, the damaged one is set aside",
        extra={"fields": {"found": _words(findings), "rescued": damage.summary, "set_aside": damage.set_aside}},
    )
    return damage


def _fill(folder: Path, source: Path, findings: list[Finding], damage: Damage, map_size_bytes: int) -> None:
    newer = any(one.kind is Kind.NEWER_FORMAT for one in findings)
    wanted = OF_ANY_FORMAT if newer else frozenset(TABLES)
    environment = Environment.opened(folder, map_size_bytes=map_size_bytes)
    numbers, owners = HighestNumbers(), Owners()
    try:
        with Salvage(source, is_record) as found:
            for batch in _batches(one for one in found if one.table in wanted and one[:2] != (META, FORMAT_KEY)):
                numbers.look(batch)
                owners.look(batch)
                environment.write([batch])
            made_anew = owners.missing(int(time.time()))
            environment.write([numbers.changes(), changes_of(made_anew)])
            damage.accounts_made_anew = [account.name for account in made_anew]
            damage.old = found.remains
            damage.tables = {
                table: TableLoss(one.rescued, one.lost, one.refused, one.older)
                for table, one in found.accounts.items()
                if table in wanted
            }
    finally:
        environment.close()


def _batches(found: Iterator[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for one in found:
        batch.append(one)
        size += len(one.key) + len(one.value)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _words(findings: list[Finding]) -> str:
    words = "; ".join(str(one) for one in findings[:WORDS_MAXIMUM])
    more = len(findings) - WORDS_MAXIMUM
    return f"{words}; and {more} more findings" if more > 0 else words


# ---------------------------------------------------------------- folders


def _rename(one: Path, other: Path) -> None:
    one.rename(other)
    sync_folder(other.parent)
    if one.parent != other.parent:
        sync_folder(one.parent)


def _new_folder(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)


def _remove_empty_store(folder: Path) -> None:
    """Remove a store's folder in which there is no data; a lock file may be."""
    (folder / "lock.mdb").unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        raise StoreError(f"{folder} is no store, and not empty: {error.strerror}") from error


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
