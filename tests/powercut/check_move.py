"""What must hold of a data directory when power goes in a backup, a restore or a rescue: the old or the new, whole.

Here belongs that judgement. Not here: the programs themselves (``move``).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import lmdb

from broker.errors import BrokerError
from broker.storage import backup
from tests.powercut.move import BACKUP, DATA, state

STORE_FILE = Path("store") / "data.mdb"


class MoveCheck:
    """``old`` and ``new`` are states, as ``move.state`` tells them; ``before`` is the folder as it was."""

    def __init__(self, kind: str, old: str, new: str, before: str, map_bytes: int) -> None:
        self._kind = kind
        self._old = old
        self._new = new
        self._before = Path(before) / DATA
        self._map_bytes = map_bytes
        self._done = False

    def hear(self, mark: str) -> bool:
        """Take a mark: that it is done."""
        self._done = self._done or mark == "done"
        return self._done

    def look(self, folder: Path, *, closely: bool) -> str:
        """Start, and start again; nothing between the old and the new."""
        try:
            if self._kind == "backup" and (wrong := self._look_at_backup(folder)):
                return wrong
            found = self._state(folder)
            if closely and self._state(folder) != found:
                return "the second start finds something else"
        except (BrokerError, lmdb.Error, OSError) as error:
            return f"it does not start: {type(error).__name__}: {error}".replace(str(folder), "")
        if found not in ((self._new,) if self._done or self._kind == "rescue" else (self._old, self._new)):
            return f"it holds neither what was there nor what comes: {found}"
        return "" if self._is_kept(folder / DATA, found) else "what was there is not kept"

    def _state(self, folder: Path) -> str:
        return asyncio.run(state(folder / DATA, self._map_bytes, strict=self._kind != "rescue"))

    def _look_at_backup(self, folder: Path) -> str:
        if not (folder / BACKUP).exists():
            return "the backup is missing" if self._done else ""
        backup.verify_backup(folder / BACKUP)
        return ""

    def _is_kept(self, data: Path, found: str) -> bool:
        """What a restore or a rescue replaces is set aside, byte for byte."""
        if self._kind == "backup" or found == self._old:
            return True
        pattern = f"before-restore-*/{STORE_FILE}" if self._kind == "restore" else "store.damaged-*/data.mdb"
        return [one.read_bytes() for one in data.glob(pattern)] == [(self._before / STORE_FILE).read_bytes()]
