"""Upkeep beside a store that is written as fast as it can be: copies are of one commit, and checks find nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.admin.upkeep import Upkeep
from broker.config import BrokerConfig
from broker.errors import BadRequest, StoreError
from broker.ports import Change
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import look, prepare
from broker.storage.salvage import Salvage
from broker.storage.tables import FORMAT

MAP_BYTES = 1 << 28


@asynccontextmanager
async def busy(data_dir: Path) -> AsyncIterator[tuple[LmdbStore, Upkeep]]:
    """A store into which commit follows commit, each of them setting the same number in two tables."""
    prepare(data_dir, map_size_bytes=MAP_BYTES)
    store = LmdbStore(data_dir / "store", map_size_bytes=MAP_BYTES)
    upkeep = Upkeep(store, BrokerConfig(data_dir=data_dir), lambda: None)
    stopping = asyncio.Event()
    rng = random.Random(1)

    async def write() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            committed = asyncio.get_running_loop().create_future()
            value = number.to_bytes(8, "big")
            changes = [Change("wills", b"both", value), Change("flows", b"both", value)]
            changes += [
                Change("sessions", rng.randrange(2000).to_bytes(8, "big"), rng.randbytes(rng.choice((0, 50, 6000))))
                for _ in range(3)
            ]
            store.submit(number, changes, lambda _, error, committed=committed: committed.set_result(error))  # type: ignore[misc]
            assert await committed is None

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)
    try:
        yield store, upkeep
    finally:
        stopping.set()
        await writing
        await store.close()


def test_checks_and_figures_of_a_busy_store_are_of_one_commit(tmp_path: Path) -> None:
    async def run() -> None:
        async with busy(tmp_path) as (_, upkeep):
            for _ in range(30):
                assert await upkeep.check() == []
                told = await upkeep.stats()
                assert told["findings"] == 0
                assert told["tables"]["wills"]["entries"] == 1
                assert told["format"] == FORMAT

    asyncio.run(run())


def test_copies_of_a_busy_store_are_of_one_commit_and_never_older_than_the_call(tmp_path: Path) -> None:
    async def run() -> None:
        newest = 0
        async with busy(tmp_path / "data") as (store, upkeep):
            for number in range(10):
                folder = tmp_path / str(number)
                folder.mkdir()
                before = store.figures()["commits"]
                await upkeep.copy(str(folder))
                assert look(folder / "data.mdb") == []
                with Salvage(folder / "data.mdb") as copied:
                    both = {found.table: int.from_bytes(found.value, "big") for found in copied if found.key == b"both"}
                assert both["wills"] == both["flows"] >= max(newest, before - 1)
                newest = both["wills"]

    (tmp_path / "data").mkdir()
    asyncio.run(run())


def test_what_cannot_be_copied_is_said_and_the_store_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with busy(tmp_path) as (store, upkeep):
            with pytest.raises(StoreError, match="could not be copied"):
                await upkeep.copy(str(tmp_path / "absent"))
            with pytest.raises(BadRequest, match="absolute"):
                await upkeep.copy("relative")
            before = store.figures()["commits"]
            await asyncio.sleep(0.1)
            assert store.figures()["commits"] > before
            assert not await upkeep.acknowledge()

    asyncio.run(run())
