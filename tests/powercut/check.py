"""What must hold of a store after a cut: it opens as it is, and holds a whole number of tickets, all promised ones.

Here belongs the judgement about one image, for the store alone. Not here: which images there are (``cuts``, ``look``),
or what clients of a whole broker were promised.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Protocol

import lmdb

from broker.errors import BrokerError
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from broker.storage.tables import DEVICES
from tests.powercut.history import USED_TABLES, History, digest_of
from tests.powercut.start import claimed, open_store

DATA = "data"
"""The data directory's name below the watched folder."""


class Check(Protocol):
    """A ledger of what was promised, and the judge of what is found."""

    def hear(self, mark: str) -> bool:
        """Take a driver's mark; whether more is promised now."""
        ...

    def look(self, folder: Path, *, closely: bool) -> str:
        """Open what a disk holds, as a start would; says what is wrong, or an empty string."""
        ...


class StoreCheck:
    """For a log of ``write_store``."""

    def __init__(self, seed: int, tickets: int, map_bytes: int) -> None:
        self._history = History(seed, tickets)
        self._map_bytes = map_bytes
        self._asked = self._promised = 0
        self._secret = ""

    def hear(self, mark: str) -> bool:
        """Take one of the writer's marks."""
        what, value = mark.split()
        match what:
            case "asked":
                self._asked = max(self._asked, int(value))
            case "promised":
                self._promised = max(self._promised, int(value))
            case "secret" if not self._promised:
                self._secret = value
        return what == "promised"

    def look(self, folder: Path, *, closely: bool) -> str:
        """Open the data directory and compare; ``closely``: write to it, and open it once more."""
        try:
            return asyncio.run(self._look(folder / DATA, closely))
        except (BrokerError, lmdb.Error, OSError) as error:
            return f"it does not open: {type(error).__name__}: {error}".replace(str(folder), "")

    async def _look(self, folder: Path, closely: bool) -> str:
        with claimed(folder) as (data_dir, secret):
            if secret.hex() != self._secret and self._promised:
                return "the secret is another one"
            store = open_store(data_dir, self._map_bytes)
            try:
                wrong = self._compare(store)
                if closely and not wrong:
                    wrong = await _use(store)
            finally:
                await store.close()
            return wrong or (await self._once_more(data_dir) if closely else "")

    async def _once_more(self, data_dir: DataDir) -> str:
        store = open_store(data_dir, self._map_bytes)
        try:
            return self._compare(store)
        finally:
            await store.close()

    def _compare(self, store: LmdbStore) -> str:
        found = self._history.find(digest_of({table: store.load(table) for table in USED_TABLES}))
        if found is None:
            return f"it holds no whole number of tickets ({self._promised} promised, {self._asked} asked for)"
        if not self._promised <= found <= self._asked:
            return f"it holds {found} tickets, {self._promised} were promised, {self._asked} asked for"
        return ""


def _settle(settled: asyncio.Future[BaseException | None], _ticket: int, error: BaseException | None) -> None:
    settled.set_result(error)


async def _use(store: LmdbStore) -> str:
    """Commit something large, and take it away again."""
    for ticket, value in ((1, bytes(50_000)), (2, None)):
        settled: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        store.submit(ticket, [(DEVICES, b"afterwards", value)], partial(_settle, settled))
        if (error := await settled) is not None:
            return f"it cannot be written: {error}"
    return ""
