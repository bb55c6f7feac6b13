"""Formats of the store: which one is found, and the steps from each to the next.

Here belongs what older versions wrote, as far as it must be understood. Not here: records of the present format. Each
step is one transaction with the number of the format it makes, so a crash leaves the store at the format before or
after it. A sample of every format there was is in ``tests/samples``, and a test opens each.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

import lmdb

from broker.errors import StoreDamaged, StoreTooNew
from broker.storage.tables import ACCOUNTS, COUNTERS, DEVICES, FORMAT, FORMAT_KEY, JOURNAL, KEYS, META, SEEN, TABLES

log = logging.getLogger(__name__)

NOTHING = -1
"""The format of an environment in which nothing was ever written."""

FORMAT_0_TABLES = frozenset(name.encode() for name in (ACCOUNTS, KEYS, DEVICES, SEEN, COUNTERS, JOURNAL))

_FORMAT = struct.Struct("<I")

Step = Callable[[lmdb.Environment, "lmdb.Transaction[bytes]"], None]


def format_of(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> int:
    """Tell the format of what is there; ``NOTHING`` where there is nothing.

    Raises ``StoreTooNew`` for a later one than this version knows, ``StoreDamaged`` for what is no store of ours.
    """
    names = {key for key, _ in transaction.cursor()}
    if not names:
        return NOTHING
    if META.encode() not in names:
        if names <= FORMAT_0_TABLES:
            return 0
        raise StoreDamaged(f"{environment.path()} holds an LMDB environment that is no store of this broker")
    value = transaction.get(FORMAT_KEY, db=environment.open_db(META.encode(), txn=transaction, create=False))
    if value is None or len(value) != _FORMAT.size:
        raise StoreDamaged(f"the store in {environment.path()} does not say which format it has")
    (found,) = _FORMAT.unpack(value)
    if found > FORMAT:
        raise StoreTooNew(
            f"the store in {environment.path()} has format {found}, and this version knows {FORMAT} and older ones: "
            "it was written by a later version of the broker"
        )
    return int(found)


def migrate(environment: lmdb.Environment, found: int) -> None:
    """Bring a store from the format that was found to the present one, step by step. Raises what LMDB raises."""
    if found == NOTHING:
        _run(environment, _make_tables, FORMAT)
        return
    for number in range(found, FORMAT):
        _run(environment, STEPS[number], number + 1)
        log.info("the store has format %d now, it had %d", number + 1, number)


def _run(environment: lmdb.Environment, step: Step, makes: int) -> None:
    with environment.begin(write=True) as transaction:
        step(environment, transaction)
        meta = environment.open_db(META.encode(), txn=transaction)
        transaction.put(FORMAT_KEY, _FORMAT.pack(makes), db=meta)


def _make_tables(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> None:
    for table in TABLES:
        environment.open_db(table.encode(), txn=transaction)


def _from_0_to_1(environment: lmdb.Environment, transaction: lmdb.Transaction[bytes]) -> None:
    """Format 0 had nothing that outlived the process in its journal."""
    if transaction.get(JOURNAL.encode()) is not None:
        transaction.drop(environment.open_db(JOURNAL.encode(), txn=transaction), delete=True)
    _make_tables(environment, transaction)


def _from_1_to_2(_environment: lmdb.Environment, _transaction: lmdb.Transaction[bytes]) -> None:
    """Format 2 may have runs in flow records, which the versions of format 1 would leave out; what there is stays."""


STEPS: tuple[Step, ...] = (_from_0_to_1, _from_1_to_2)
"""The step at position n makes format n + 1 of format n."""
