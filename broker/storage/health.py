"""What an error of the disk means, and when a budget is used up: the judgement behind ``StoreHealth``.

Here belongs what is decided. Not here: doing anything about it (``lmdb``).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

import lmdb

from broker.errors import StoreDamaged, StoreError
from broker.ports import StoreState

FULL_PERCENT = 90
WELL_PERCENT = 85
NO_ROOM_BYTES = 1024 * 1024  # with less than this free, a write that fails has failed for want of room

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_KNOWN = (*_NO_ROOM, errno.EIO, errno.EROFS, errno.EACCES)
_DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)
# The environment is as it was after these: the transaction was refused before it touched the disk.
_HARMLESS = (lmdb.MapFullError, lmdb.BadValsizeError, lmdb.TxnFullError)


class Trouble(NamedTuple):
    """What a failed commit has left: the state, why, and whether what is on disk has to be read again to be known."""

    state: StoreState
    reason: str
    unsure: bool


def trouble_of(error: BaseException, folder: Path) -> Trouble | None:
    """Judge why a commit or an opening has failed; None when the disk is not to blame, but the changes."""
    if isinstance(error, StoreDamaged):
        return Trouble("failed", str(error), unsure=True)
    if isinstance(error, StoreError):
        return trouble_of(error.__cause__, folder) if error.__cause__ is not None else None
    if isinstance(error, _HARMLESS) or not isinstance(error, lmdb.Error | OSError):
        return None
    number = _number(error)
    if number == errno.EIO and _has_no_room(folder):
        number = errno.ENOSPC  # LMDB takes a short write for an I/O error
    if number in (errno.EROFS, errno.EACCES):
        return Trouble("read_only", os.strerror(number), unsure=False)
    if number in _NO_ROOM:
        return Trouble("failed", os.strerror(number), unsure=False)
    return Trouble("failed", os.strerror(number) if number > 0 else str(error), unsure=True)


def budget_state(used_bytes: int, budget_bytes: int, now: StoreState) -> StoreState:
    """Tell whether a budget is used up, given whether it was: full from 90 %, and then until less than 85 %."""
    percent = FULL_PERCENT if now == "ok" else WELL_PERCENT
    return "full" if used_bytes * 100 >= budget_bytes * percent else "ok"


def full_reason(budget_bytes: int) -> str:
    """Say what is full."""
    return f"{FULL_PERCENT} % of the store's budget of {budget_bytes} bytes are used"


def _number(error: BaseException) -> int:
    """Return the system's number of an error; 0 where it has none, and below 0 for LMDB's own."""
    if isinstance(error, lmdb.ReadonlyError):
        return errno.EROFS
    if isinstance(error, OSError):
        return error.errno or 0
    number = int(getattr(error, "code", 0))  # older versions of the binding have the words alone
    return number or next((known for known in _KNOWN if str(error).endswith(os.strerror(known))), 0)


def _has_no_room(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < NO_ROOM_BYTES
