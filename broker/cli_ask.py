"""How a command reaches a running broker, or the store itself where none runs.

Here belongs that way. Not here: commands, and what a verb does (``control``, ``broker.admin``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker import control
from broker.accounts.directory import Directory
from broker.admin import Operator, SystemClock
from broker.config import BrokerConfig, Flags, load_config
from broker.errors import StoreError, Unavailable
from broker.ports import AccountLimits, Grant, OpenConnection, Presence
from broker.storage.data_dir import DataDir
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import finish_moves, prepare

MAKING_COMMANDS = ("keys.create", "admin-keys.create")  # also where nothing is yet


def ask(file: Path | None, data_dir: Path | None, command: str, arguments: dict[str, Any]) -> Any:
    """Run a verb in the running broker; where none is running, on the store itself."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))
    return asyncio.run(_ask_either(config, command, arguments))


async def _ask_either(config: BrokerConfig, command: str, arguments: dict[str, Any]) -> Any:
    try:
        return await control.call(config.data_dir, command, arguments)
    except (FileNotFoundError, ConnectionRefusedError):
        return await _on_the_store(config, command, arguments)


async def _on_the_store(config: BrokerConfig, command: str, arguments: dict[str, Any]) -> Any:
    if not config.data_dir.exists() and command not in MAKING_COMMANDS:
        raise StoreError(f"there is no data directory {config.data_dir}")
    with DataDir.claim(config.data_dir) as owned:
        finish_moves(owned.path)
        secret = owned.secret()
        prepare(owned.path, map_size_bytes=config.store_map_size_bytes, rescuing=False)
        store = LmdbStore(owned.store_path, map_size_bytes=config.store_map_size_bytes)
        try:
            clock = SystemClock()
            directory = Directory(store, secret, NoCore())
            directory.load(clock.wall_s())
            directory.usage.add((), clock.wall_s())  # the month on record may have ended
            if command == "keys.create":
                await directory.ensure_account(clock.wall_s())
            operator = Operator.of(directory, NoCore(), clock)
            return await control.execute(operator, command, arguments)
        finally:
            await store.close()


class NoCore:
    """The grant table where no broker runs: nobody is connected."""

    def presence(self, principal_id: int) -> Presence:
        """Tell that nobody is there."""
        del principal_id
        return Presence(0, 0)

    def newest_connection(self, principal_id: int) -> OpenConnection | None:
        """Tell that nobody is there."""
        del principal_id
        return None

    def credential_used_ns(self, credential: bytes) -> int:
        """Tell that nobody came in."""
        del credential
        return 0

    def put_grant(self, credential: bytes, grant: Grant) -> None:
        """Take a grant that nobody will use."""

    def remove_grant(self, credential: bytes) -> None:
        """Cut nobody."""

    async def remove_device(
        self, account_id: int, principal_id: int, device_id: str, records: Sequence[tuple[str, bytes]]
    ) -> None:
        """Refuse: what a device has on disk is the core's to end."""
        del account_id, principal_id, records
        raise Unavailable(f"device {device_id!r} can be removed by a running broker alone")

    def put_account(self, account_id: int, limits: AccountLimits) -> None:
        """Limit nobody."""

    def set_quota(self, account_id: int, messages_left: int, bytes_left: int) -> None:
        """Stop nobody."""

    def add_quota(self, account_id: int, messages: int, bytes_count: int) -> None:
        """Stop nobody."""
