"""What a store does on disks that fail: each scenario runs in a process of its own, under ``faulty_disk``.

    python -P -m tests.support.disk_scenarios NAME FOLDER

Not here: the disk (``faulty_disk``). ``tests/integration/test_failing_disk.py`` runs them all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from broker.errors import StoreError
from broker.ports import StoreHealth
from broker.storage.lmdb import LmdbStore
from broker.storage.tables import DEVICES, MESSAGES, long_key
from tests.support.faulty_disk import Commands, opened

MAP_SIZE_BYTES = 16 * 1024 * 1024
RETRY_S = 0.05
WAIT_S = 10
BATCH_BYTES = 100_000


class Bench:
    """A store on a folder, and what it said."""

    def __init__(self, folder: Path, disk: Commands) -> None:
        self.folder = folder
        self.disk = disk
        self.store = LmdbStore(folder / "store", map_size_bytes=MAP_SIZE_BYTES, retry_s=RETRY_S)
        self.states: list[tuple[str, str]] = []
        self.store.watch(self._note)
        self._news = asyncio.Event()
        self._ticket = 0
        self._order: list[int] = []

    def _note(self, health: StoreHealth) -> None:
        self.states.append((health.state, health.reason))
        self._news.set()

    async def put(self, key: bytes, value: bytes = b"v", table: str = DEVICES) -> str:
        """Submit one change; returns the error's text, empty for success."""
        self._ticket += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def settled(ticket: int, error: BaseException | None) -> None:
            self._order.append(ticket)
            assert error is None or isinstance(error, StoreError)
            answer.set_result(str(error or ""))

        self.store.submit(self._ticket, [(table, key, value)], settled)
        async with asyncio.timeout(WAIT_S):
            return await answer

    async def get(self, key: bytes) -> bytes | None:
        """Read one value. Raises ``StoreError``."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def read(values: object, error: BaseException | None) -> None:
            if error is not None:
                answer.set_exception(error)
            else:
                assert isinstance(values, list)
                answer.set_result(values[0])

        self.store.read(DEVICES, [key], read)
        async with asyncio.timeout(WAIT_S):
            return await answer

    async def until(self, state: str) -> None:
        """Wait until the store has said so."""
        async with asyncio.timeout(WAIT_S):
            while not self.states or self.states[-1][0] != state:
                await self.news()

    async def until_reason(self, part: str) -> None:
        """Wait until the store has given a reason that says so."""
        async with asyncio.timeout(WAIT_S):
            while not self.states or part not in self.states[-1][1]:
                await self.news()

    async def news(self) -> None:
        """Wait for the next thing that the store says."""
        self._news.clear()
        await self._news.wait()

    async def reopen(self) -> list[bytes]:
        """Close and open again, as a restart would; returns the devices' keys."""
        await self.store.close()
        assert self._order == sorted(self._order)
        again = LmdbStore(self.folder / "store", map_size_bytes=MAP_SIZE_BYTES)
        keys = [key for key, _ in again.load(DEVICES)]
        await again.close()
        return keys


async def fails_and_recovers(bench: Bench, reason: str, *, state: str = "failed", readable: bool) -> None:
    """The failed commit has changed nothing, later ones are refused; when the disk is well, so is the store."""
    text = os.strerror(getattr(errno, reason))
    assert text in await bench.put(b"lost", bytes(BATCH_BYTES))
    assert bench.states == [(state, text)]
    assert text in await bench.put(b"refused")
    if readable:
        assert await bench.get(b"kept") == b"v"
        assert await bench.get(b"lost") is None
    await asyncio.sleep(4 * RETRY_S)
    assert bench.states == [(state, text)], "a state that lasts is told once"
    assert bench.store.figures()["healthy"] == 0
    bench.disk.heal()
    await bench.until("ok")
    assert await bench.get(b"kept") == b"v"
    assert await bench.put(b"lost", bytes(BATCH_BYTES)) == ""
    assert await bench.put(b"new") == ""
    assert bench.states == [(state, text), ("ok", "")]
    assert await bench.reopen() == [b"kept", b"lost", b"new"]


async def no_space(bench: Bench) -> None:
    bench.disk.write_error = errno.ENOSPC
    await fails_and_recovers(bench, "ENOSPC", readable=True)


async def quota_exceeded(bench: Bench) -> None:
    bench.disk.write_error = errno.EDQUOT
    await fails_and_recovers(bench, "EDQUOT", readable=True)


async def write_error(bench: Bench) -> None:
    bench.disk.write_error = errno.EIO
    await fails_and_recovers(bench, "EIO", readable=False)


async def sync_error(bench: Bench) -> None:
    bench.disk.sync_error = errno.EIO
    await fails_and_recovers(bench, "EIO", readable=False)


async def meta_error(bench: Bench) -> None:
    """The pages are written and synced, the meta page is not: LMDB itself takes no more until it is opened again."""
    bench.disk.meta_error = errno.EIO
    await fails_and_recovers(bench, "EIO", readable=False)


async def read_only(bench: Bench) -> None:
    bench.disk.write_error = bench.disk.open_error = errno.EROFS
    await fails_and_recovers(bench, "EROFS", state="read_only", readable=True)


async def gone(bench: Bench) -> None:
    """Neither written nor opened for writing: what is on disk is still read, the device may come back."""
    bench.disk.sync_error = bench.disk.open_error = errno.EIO
    await fails_and_recovers(bench, "EIO", readable=False)


async def damaged(bench: Bench) -> None:
    """A disk that takes writes again but has lost pages is not well: nothing is promised on top of them."""
    for number in range(100):
        assert await bench.put(b"%d" % number, bytes(200)) == ""
    bench.disk.sync_error = errno.EIO
    assert await bench.put(b"lost") != ""
    file = bench.folder / "store" / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    bench.disk.heal()
    await bench.until_reason("is damaged")
    assert "damaged" in await bench.put(b"refused")
    await asyncio.sleep(4 * RETRY_S)
    assert [state for state, _ in bench.states] == ["failed", "failed"]
    file.write_bytes(whole)
    await bench.until("ok")
    assert await bench.put(b"new") == ""
    assert len(await bench.reopen()) == 102


async def another_disk(bench: Bench) -> None:
    """What stands in the store's place afterwards is not it: nothing is made anew, nothing older is taken for it."""
    store = bench.folder / "store"
    older = (store / "data.mdb").read_bytes()
    assert await bench.put(b"later") == ""
    bench.disk.write_error = errno.ENOSPC
    assert await bench.put(b"lost") != ""
    store.rename(bench.folder / "aside")
    bench.disk.heal()
    await bench.until_reason("is gone")
    assert not store.exists()
    store.mkdir()
    await asyncio.sleep(4 * RETRY_S)
    assert list(store.iterdir()) == []
    (store / "data.mdb").write_bytes(older)
    await bench.until_reason("was on disk")
    await asyncio.sleep(4 * RETRY_S)
    assert {state for state, _ in bench.states} == {"failed"}
    shutil.rmtree(store)
    (bench.folder / "aside").rename(store)
    await bench.until("ok")
    assert await bench.reopen() == [b"kept", b"later"]


async def no_larger_file(bench: Bench) -> None:
    """The kernel's own refusal, with no help from the faulty disk: a limit of this process's."""
    length = (bench.folder / "store" / "data.mdb").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (length + 8192, unlimited))
    assert await bench.put(b"lost", bytes(BATCH_BYTES)) != ""
    assert bench.states[-1][0] == "failed"
    await asyncio.sleep(4 * RETRY_S)
    assert bench.states[-1][0] == "failed"
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    await bench.until("ok")
    assert await bench.put(b"lost", bytes(BATCH_BYTES)) == ""
    assert await bench.reopen() == [b"kept", b"lost"]


async def a_little_space(bench: Bench) -> None:
    """A disk on which small commits fit is not well for the large one that has failed: no state comes and goes."""
    length = (bench.folder / "store" / "data.mdb").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (length + 15 * 4096, unlimited))
    assert await bench.put(b"lost", bytes(10 * BATCH_BYTES)) != ""
    await asyncio.sleep(6 * RETRY_S)
    assert [state for state, _ in bench.states] == ["failed"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    await bench.until("ok")
    assert await bench.reopen() == [b"kept"]


async def slow_sync(bench: Bench) -> None:
    """A slow disk is no broken one; reads do not wait for it, and it is told how slow it is."""
    bench.disk.sync_delay_ms = 400
    pending = asyncio.ensure_future(bench.put(b"slow"))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.2):
        assert await bench.get(b"kept") == b"v"
    assert await pending == ""
    figures = bench.store.figures()
    assert figures["last_sync_ns"] == figures["longest_sync_ns"] > 400_000_000
    assert figures["commit_counts"][9:] != [0] * 5
    assert bench.states == []
    assert await bench.reopen() == [b"kept", b"slow"]


async def stopping(bench: Bench) -> None:
    """A stop does not wait for a disk that fails: every ticket has its error, and what was durable is there."""
    bench.disk.write_error = errno.ENOSPC
    assert await bench.put(b"lost") != ""
    pending = [asyncio.ensure_future(bench.put(b"%d" % number)) for number in range(10)]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await bench.store.close()
    assert all(await asyncio.gather(*pending))
    bench.disk.heal()
    assert await bench.reopen() == [b"kept"]


async def full_budget(bench: Bench) -> None:
    """From 90 % used it is full and still commits; it is well again below 85 %, though its file is as long."""
    number = 0
    while not bench.states:
        assert await bench.put(long_key(number), bytes(BATCH_BYTES), MESSAGES) == ""
        number += 1
        assert number * BATCH_BYTES < MAP_SIZE_BYTES
    health = bench.store.health
    assert (health.state, health.budget_bytes) == ("full", MAP_SIZE_BYTES)
    assert 0.9 * MAP_SIZE_BYTES <= health.used_bytes < 0.92 * MAP_SIZE_BYTES
    assert await bench.put(b"small") == ""
    length = bench.store.figures()["file_bytes"]
    deleted = 0
    while bench.states[-1][0] == "full":
        assert await delete(bench, long_key(deleted)) == ""
        deleted += 1
    assert 0.05 * MAP_SIZE_BYTES < deleted * BATCH_BYTES < 0.08 * MAP_SIZE_BYTES
    assert [state for state, _ in bench.states] == ["full", "ok"]
    assert bench.store.figures()["file_bytes"] == length
    assert bench.store.health.free_bytes > 6 * BATCH_BYTES
    assert await bench.reopen() == [b"kept", b"small"]


async def delete(bench: Bench, key: bytes) -> str:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    bench.store.submit(0, [(MESSAGES, key, None)], lambda _, error: answer.set_result(str(error or "")))
    async with asyncio.timeout(WAIT_S):
        return await answer


SCENARIOS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    function.__name__: function
    for function in (
        no_space,
        quota_exceeded,
        write_error,
        sync_error,
        meta_error,
        read_only,
        gone,
        damaged,
        another_disk,
        no_larger_file,
        a_little_space,
        slow_sync,
        stopping,
        full_budget,
    )
}


async def run(name: str, folder: Path) -> None:
    bench = Bench(folder, opened())
    assert await bench.put(b"kept") == ""
    await SCENARIOS[name](bench)
    await bench.store.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
