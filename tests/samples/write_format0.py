"""Write a data directory of format 0 with the code of its time: the version that stands first on the module path.

    PYTHONPATH=CHECKOUT python -P tests/samples/write_format0.py FOLDER

Not here: anything of later versions. ``make`` runs this. What was written is in ``expected.json`` beside it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from broker.accounts.device_description import DeviceDescription
from broker.accounts.directory import Directory
from broker.ports import Change
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from broker.storage.tables import JOURNAL

NOW_S = 1_763_800_000  # 2025-11-22T08:26:40Z
MAP_SIZE_BYTES = 16 * 1024 * 1024


class NoCore:
    """Takes grants that nobody will use."""

    def __getattr__(self, _name: str) -> object:
        return lambda *_: None


async def write(folder: Path) -> dict[str, object]:
    with DataDir.claim(folder) as data_dir:
        secret = data_dir.secret()
        store = LmdbStore(data_dir.store_path, map_size_bytes=MAP_SIZE_BYTES)
        directory = Directory(store, secret, NoCore())
        directory.load(1)
        expected = await fill(directory)
        store.submit(1, [Change(JOURNAL, bytes(8), b"a batch of which nothing outlives the process")], lambda *_: None)
        await directory.flush()
        await store.close()
    (folder / "lock").unlink()
    return expected


async def fill(directory: Directory) -> dict[str, object]:
    first_key = await directory.bootstrap(NOW_S)
    default = directory.accounts.named("default").account_id
    other = await directory.accounts.create("Muller and Sons", NOW_S, "free")
    _, key = await directory.keys.create(other.account_id, "dashboard", NOW_S)
    revoked, revoked_key = await directory.keys.create(default, "old", NOW_S)
    await directory.keys.revoke(revoked.key_id, NOW_S)
    directory.keys.note_use(directory.keys.find(key).key_id, NOW_S)
    devices = [
        await add(directory, default, DeviceDescription("Temperature Sensor 01", "sensor")),
        await add(directory, default, DeviceDescription("Pump", "actuator", "in the cellar", '{"floor":-1}', "pump-7")),
        await add(directory, other.account_id, DeviceDescription("Gateway", "gateway")),
    ]
    gone, _ = await directory.devices.create(default, DeviceDescription("Gone", "sensor"), NOW_S)
    await directory.devices.delete(default, gone.device_id)
    return {
        "format": 0,
        "accounts": {"default": "unlimited", other.name: "free"},
        "keys": {"default": first_key, other.name: key},
        "revoked_key": revoked_key,
        "devices": devices,
        "gone_device": gone.device_id,
    }


async def add(directory: Directory, account_id: int, description: DeviceDescription) -> dict[str, str]:
    device, password = await directory.devices.create(account_id, description, NOW_S)
    account = directory.accounts.get(account_id).name
    return {
        "account": account,
        "device_id": device.device_id,
        "name": device.name,
        "username": device.user_name,
        "password": password,
    }


if __name__ == "__main__":
    where = Path(sys.argv[1])
    told = asyncio.run(write(where))
    (where / "expected.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
