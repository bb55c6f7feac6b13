"""How commands reach a broker: the running one over its socket, or the store of a data directory that nobody owns.

Here belongs the choice between the two. Not here: any command, and what a verb does (``broker.control``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]


def ask(file: Path | None, data_dir: Path | None, command: str, arguments: dict[str, Any]) -> Any:
    """Run a verb in the running broker; where none is running, on the store itself."""
    config = load_config(file, os.environ, Flags(data_dir=data_dir))

    async def whole() -> Any:
        async with asking(config) as one:
            return await one(command, arguments)

    return asyncio.run(whole())


@asynccontextmanager
async def asking(config: BrokerConfig) -> AsyncIterator[Ask]:
    """Give what runs verbs one after the other: in the running broker, or on the store, which then stays open."""
    async with AsyncExitStack() as stack:
        directory: Directory | None = None
        clock = SystemClock()

        async def one(command: str, arguments: dict[str, Any]) -> Any:
            nonlocal directory
            if directory is None:
                try:
                    return await control.call(config.data_dir, command, arguments)
                except (FileNotFoundError, ConnectionRefusedError):
                    directory = _opened(config, clock, stack, making=command in MAKING_COMMANDS)
            if command == "keys.create":
                await directory.ensure_account(clock.wall_s())
            return await control.execute(Operator.of(directory, NoCore(), clock), command, arguments)

        yield one


def _opened(config: BrokerConfig, clock: SystemClock, stack: AsyncExitStack, *, making: bool) -> Directory:
    """Open the store of a data directory until the stack ends; a new one where it may be made."""
    if not config.data_dir.exists() and not making:
        raise StoreError(f"there is no data directory {config.data_dir}; --data-dir says where it is")
    owned = stack.enter_context(DataDir.claim(config.data_dir))
    finish_moves(owned.path)
    secret = owned.secret()
    prepare(owned.path, map_size_bytes=config.store_map_size_bytes, rescuing=False)
    store = LmdbStore(owned.store_path, map_size_bytes=config.store_map_size_bytes)
    stack.push_async_callback(store.close)
    directory = Directory(store, secret, NoCore())
    directory.load(clock.wall_s())
    directory.usage.add((), clock.wall_s())  # the month on record may have ended
    return directory


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
