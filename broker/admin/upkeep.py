"""The store's upkeep while the broker runs: copies, checks, figures, and the operator's word about past damage.

Here belong the verbs behind ``iot-broker backup`` and ``iot-broker store``. Not here: the same without a running
broker (``broker.cli_store``), and how it is done (``broker.storage``). What is long runs on a thread of its own without
the interpreter, so that messages flow meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from broker.config import BrokerConfig
from broker.errors import BadRequest, StoreError
from broker.storage.datafile import DATA_FILE
from broker.storage.lmdb import LmdbStore
from broker.storage.pages import Report, StateGone, examine
from broker.storage.rescue import STORE, acknowledge
from broker.storage.tables import FORMAT

TRIES = 1000


class Upkeep:
    """Verbs about a store that is open; ``on_acknowledged`` is told when the operator knows of a rescue."""

    def __init__(self, store: LmdbStore, config: BrokerConfig, on_acknowledged: Callable[[], None]) -> None:
        self._store = store
        self._config = config
        self._on_acknowledged = on_acknowledged

    async def copy(self, folder: str) -> dict[str, Any]:
        """Copy the store, as its last commit has left it, into an empty folder; gives the configuration in effect.

        Raises ``StoreError`` when it cannot be read, or the folder not be written.
        """
        if not Path(folder).is_absolute():
            raise BadRequest("folder: expected an absolute path", field="folder", provided=folder)
        await asyncio.to_thread(self._copy, Path(folder))
        return self._config.model_dump(mode="json")

    async def check(self) -> list[str]:
        """Walk all pages of the last commit's state; gives what is wrong."""
        report = await asyncio.to_thread(self._examine)
        return [str(finding) for finding in report.findings]

    async def stats(self) -> dict[str, Any]:
        """Tell what the store holds and takes."""
        report = await asyncio.to_thread(self._examine)
        return figures(report, FORMAT, self._config.store_map_size_bytes)

    async def acknowledge(self) -> bool:
        """Note that the operator knows of a rescue; False when there was none."""
        known = acknowledge(self._config.data_dir)
        self._on_acknowledged()
        return known

    def _copy(self, folder: Path) -> None:
        try:
            with self._store.borrowed() as environment:
                environment.copy(folder)
        except StoreError:
            raise
        except Exception as error:  # LMDB's are not known here
            raise StoreError(f"the store could not be copied to {folder}: {error}") from error

    def _examine(self) -> Report:
        path = self._config.data_dir / STORE / DATA_FILE
        for _ in range(TRIES):
            with self._store.borrowed() as environment, environment.held() as txn_id:
                try:
                    return examine(path, txn_id=txn_id)
                except StateGone:  # the meta page of a state is written over by the second commit after it
                    continue
        raise StoreError("the store is written so fast that no state of it could be examined")


def figures(report: Report, store_format: int | None, budget_bytes: int) -> dict[str, Any]:
    """Give a report as JSON values; ``bytes`` of a table are those of its pages."""
    return {
        "format": store_format,
        "transaction": report.txn_id,
        "file_bytes": report.file_bytes,
        "used_bytes": report.used_bytes,
        "free_bytes": report.free_pages * report.page_bytes,
        "budget_bytes": budget_bytes,
        "page_bytes": report.page_bytes,
        "used_pages": report.pages - report.free_pages,
        "free_pages": report.free_pages,
        "findings": len(report.findings),
        "tables": {
            name: {**asdict(table), "bytes": table.pages * report.page_bytes} for name, table in report.tables.items()
        },
    }
