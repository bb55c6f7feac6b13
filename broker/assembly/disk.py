"""The data directory and the store in it: claimed, mended where it is damaged, opened.

Here belongs the order of these steps, and what is said of a damage. Not here: mending (``broker.storage.rescue``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from broker.config import BrokerConfig
from broker.observability.alarms import Alarms
from broker.ports import Observer, Store
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import Damage, finish_moves, prepare

DAMAGE = "damage"


@dataclass(frozen=True, slots=True)
class Disk:
    """An open store. ``store`` is what the broker uses, ``lmdb`` what is below it; ``damage`` was found and mended."""

    lmdb: LmdbStore
    store: Store
    damage: Damage | None


def claim(config: BrokerConfig, stack: AsyncExitStack) -> DataDir:
    """Take the data directory for this process, and finish what a crash left half done. Raises ``DataDirLocked``."""
    data_dir = stack.enter_context(DataDir.claim(config.data_dir))
    finish_moves(data_dir.path)
    return data_dir


def open_disk(
    data_dir: DataDir, config: BrokerConfig, stack: AsyncExitStack, wrap: Callable[[Store], Store], *, records: bool
) -> Disk:
    """Open the store, mended before that unless ``config.strict``; with ``records`` each record is looked at as well.

    Raises ``StoreError``, and ``StoreDamaged`` where it must not be mended.
    """
    size = config.store_map_size_bytes
    damage = prepare(data_dir.path, map_size_bytes=size, strict=config.strict, records=records)
    lmdb = LmdbStore(data_dir.store_path, map_size_bytes=size)
    store = wrap(lmdb)
    stack.push_async_callback(store.close)
    return Disk(lmdb, store, damage)


def tell_damage(damage: Damage | None, alarms: Alarms, observer: Observer) -> None:
    """Say what was rescued, at each start until the operator has acknowledged it; the broker does its work."""
    if damage is None:
        return
    reason = (
        f"the store was damaged on {damage.at} and rescued: {damage.summary}; the damaged one is {damage.set_aside}"
    )
    observer.event(
        "store_rescued", at=damage.at, found=damage.found, set_aside=damage.set_aside, rescued=damage.summary
    )
    alarms.set(DAMAGE, reason, ready=True)
