"""A broker's start, as far as its data directory: the lock, moves that a crash has cut, the secret, the store.

Here belong the steps of ``broker.runtime`` in its order. Not here: anything above the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import finish_moves, prepare


@contextmanager
def claimed(folder: Path) -> Iterator[tuple[DataDir, bytes]]:
    """A data directory, owned, and its secret."""
    with DataDir.claim(folder) as data_dir:
        finish_moves(data_dir.path)
        yield data_dir, data_dir.secret()


def open_store(data_dir: DataDir, map_bytes: int) -> LmdbStore:
    """Open the store without any repair. Raises ``StoreDamaged`` where a start would set it aside."""
    prepare(data_dir.path, map_size_bytes=map_bytes, strict=True, records=False)
    return LmdbStore(data_dir.store_path, map_size_bytes=map_bytes)
