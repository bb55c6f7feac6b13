"""The recorded programs that move whole stores: a backup, its restore, the rescue of a damaged store.

    python -P -m tests.powercut.move KIND ROOT LOG MAP_BYTES

KIND is ``backup`` (of ROOT/data into ROOT/backup), ``restore`` (of ROOT/../backup into ROOT/data), ``rescue`` (of
ROOT/data), or ``state``, which only looks and marks what is there. All mark ``done`` when they would say so to a user.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from broker.storage import backup
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import prepare
from broker.storage.tables import TABLES
from tests.powercut.history import digest_of
from tests.powercut.journal import Marks
from tests.powercut.start import claimed

DATA, BACKUP = "data", "backup"


async def state(folder: Path, map_bytes: int, *, strict: bool) -> str:
    """Start on a data directory; its secret and a digest of all that is in its store."""
    with claimed(folder) as (data_dir, secret):
        prepare(data_dir.path, map_size_bytes=map_bytes, strict=strict)
        store = LmdbStore(data_dir.store_path, map_size_bytes=map_bytes)
        try:
            return f"{secret.hex()}-{digest_of({table: store.load(table) for table in TABLES}):x}"
        finally:
            await store.close()


def back_up(root: Path) -> None:
    """As the command line does it where no broker runs."""
    with claimed(root / DATA) as (data_dir, secret):
        gathering = backup.begin(root / BACKUP)
        backup.copy_store(data_dir.store_path, gathering / "store")
        backup.finish(gathering, root / BACKUP, secret, {})


def main() -> None:
    """Read the command line."""
    kind, root, log, map_bytes = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    marks = Marks(log)
    match kind:
        case "backup":
            back_up(root)
        case "restore":
            backup.restore(root.parent / BACKUP, root / DATA, force=True, set_aside=lambda _: None)
        case "rescue":
            with claimed(root / DATA) as (data_dir, _):
                prepare(data_dir.path, map_size_bytes=map_bytes)
        case _:
            marks.put(f"state {asyncio.run(state(root / DATA, map_bytes, strict=False))}")
    marks.put("done")


if __name__ == "__main__":
    main()
