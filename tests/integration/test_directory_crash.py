"""A directory on disk: what was answered is there after SIGKILL, and nothing of it is torn."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from broker.accounts.directory import Directory
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from tests.upper import FakeCore

MAP_SIZE_BYTES = 64 * 1024 * 1024
REMOVERS = 4
CRASHES = 2

PROGRAM = """
import asyncio, sys
from pathlib import Path
from broker.accounts.device_description import DeviceDescription
from broker.accounts.directory import Directory
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore

from tests.upper import written

class NoCore:
    def __init__(self, store): self.store = store
    def put_grant(self, credential, grant): pass
    def remove_grant(self, credential): pass
    async def remove_device(self, account_id, principal_id, device_id, records): await written(self.store, records)
    def put_account(self, account_id, limits): pass
    def set_quota(self, account_id, messages_left, bytes_left): pass
    def add_quota(self, account_id, messages, bytes_count): pass

async def worker(directory, number):
    while True:
        device, password = await directory.devices.create(1, DeviceDescription("Sensor", "sensor"), 1)
        print("+", device.device_id, password, device.device_number, flush=True)
        if number % 2:
            await directory.devices.delete(1, device.device_id)
            print("-", device.device_id, flush=True)

async def main():
    owned = DataDir.claim(Path(sys.argv[1]))
    secret = owned.secret()
    store = LmdbStore(owned.store_path, map_size_bytes=64 * 1024 * 1024)
    directory = Directory(store, secret, NoCore(store))
    directory.load(1)
    await directory.bootstrap(1)
    await directory.accounts.set_plan(1, "unlimited")
    await asyncio.gather(*(worker(directory, number) for number in range(8)))

asyncio.run(main())
"""


def killed_in_the_middle(data_dir: Path, answers: int) -> list[list[str]]:
    """Run devices in and out until so many were answered, then SIGKILL; gives the answers."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        lines = [process.stdout.readline() for _ in range(answers)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    return [line.split() for line in lines if line.endswith("\n")]


def test_every_answered_change_is_there_after_sigkill_and_no_number_comes_again(tmp_path: Path) -> None:
    expected: dict[str, str] = {}
    removed: set[str] = set()
    numbers: list[int] = []
    for answers in (40, 120):
        for sign, device_id, *rest in killed_in_the_middle(tmp_path, answers):
            if sign == "+":
                expected[device_id] = rest[0]
                numbers.append(int(rest[1]))
            else:
                removed.add(device_id)
    assert len(set(numbers)) == len(numbers)

    async def look() -> None:
        with DataDir.claim(tmp_path) as owned:
            store = LmdbStore(owned.store_path, map_size_bytes=MAP_SIZE_BYTES)
            directory = Directory(store, owned.secret(), FakeCore())
            directory.load(1)
            granted = {
                device_id
                for device_id, password in expected.items()
                if directory.grant_for(device_id, password.encode()) is not None
            }
            assert not granted & removed
            # A removal may be durable though the crash came before its answer: one for each remover and crash.
            assert len(set(expected) - removed - granted) <= REMOVERS * CRASHES
            await store.close()

    asyncio.run(look())
