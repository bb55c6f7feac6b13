"""Who is connected and which sessions there are, for those who look after a broker: listed, looked at, ended.

Here belong the operator's verbs about them, over all accounts. Not here: what an account may know about its devices
(``service``), HTTP (``api``). A page costs what it holds, or a bounded look at what it does not: nothing walks all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from broker.accounts.directory import Directory
from broker.errors import NotFound
from broker.ports import Durability
from broker.stories import PROTOCOLS_OF_DOORS, VERSIONS, ConnectionNow, SessionNow

NS_PER_S = 1_000_000_000
HANDLE_DIGITS = 16
LEVELS = {one.level: one.value for one in Durability}
OPEN = ""  # in an account's place: an open listener's, or an embedder's own

ViewT = TypeVar("ViewT")


class ConnectionSource(Protocol):
    """The core, asked for connections and sessions; pages go on with the cursor that they return, 0 at the end."""

    def connections(self, cursor: int, at_most: int, account_id: int | None) -> tuple[Sequence[ConnectionNow], int]:
        """Give a page of connections, of one account or of all."""
        ...

    def sessions(self, cursor: int, at_most: int, account_id: int | None) -> tuple[Sequence[SessionNow], int]:
        """Give a page of sessions."""
        ...

    def connections_of(self, principal_id: int) -> Sequence[ConnectionNow]:
        """Give a principal's connections."""
        ...

    def sessions_of(self, principal_id: int) -> Sequence[SessionNow]:
        """Give a principal's sessions."""
        ...

    def connection(self, handle: int) -> ConnectionNow | None:
        """Give one connection; None for one that is no more."""
        ...

    def disconnect(self, handle: int) -> None:
        """Close a connection with 0x98."""
        ...

    async def end_session(self, principal_id: int, client_id: str) -> bool:
        """End a session, and its connection with 0x98; returns when that is on disk. False: there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A network connection. ``connected_at`` is seconds of UTC; ``account`` is empty for one that has no name."""

    id: str
    account: str
    principal: str
    device_id: str
    client_id: str
    session_id: str
    listener: str
    protocol: str
    mqtt_version: str
    address: str
    connected_at: int
    keep_alive_s: int
    session_expiry_interval_s: int
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    unsent_bytes: int
    durability: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session. ``connection_id`` is empty while its client is away; ``ends_at`` is None unless that is known."""

    id: str
    account: str
    principal: str
    device_id: str
    client_id: str
    connection_id: str
    session_expiry_interval_s: int
    ends_at: int | None
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    on_disk: bool
    has_will: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[ViewT]):
    """Part of a list, and the cursor behind it; None when nothing is left."""

    items: Sequence[ViewT]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class Which:
    """Whose connections or sessions: of an account by its name, of one device of it, or everybody's."""

    account: str | None = None
    device_id: str | None = None


class Connections:
    """Verbs about connections and sessions; ``listeners`` are the names of the listeners, in their order."""

    def __init__(self, directory: Directory, core: ConnectionSource, listeners: Sequence[str]) -> None:
        self._directory = directory
        self._core = core
        self._listeners = listeners

    async def list_connections(self, which: Which, limit: int, cursor: int = 0) -> Page[ConnectionView]:
        """Give a page: up to ``limit`` of them. Raises ``NotFound`` for an unknown account or device."""
        found: list[ConnectionNow] = []
        account_id, number = self._whose(which)
        if number is not None:
            rows = sorted(self._core.connections_of(number), key=lambda one: one.handle)
            return self._part([self._connection(one) for one in rows], limit, cursor)
        while len(found) < limit:
            page, cursor = self._core.connections(cursor, limit - len(found), account_id)
            found += page
            if cursor == 0:
                break
            await asyncio.sleep(0)  # it may have looked at very many that are not asked for
        return Page([self._connection(one) for one in found], cursor or None)

    async def list_sessions(self, which: Which, limit: int, cursor: int = 0) -> Page[SessionView]:
        """Give a page: ``limit`` or a few more, and one twice where very many come meanwhile. Raises the same."""
        found: list[SessionNow] = []
        account_id, number = self._whose(which)
        if number is not None:
            rows = sorted(self._core.sessions_of(number), key=lambda one: one.client_id)
            return self._part([self._session(one) for one in rows], limit, cursor)
        while len(found) < limit:
            page, cursor = self._core.sessions(cursor, limit - len(found), account_id)
            found += page
            if cursor == 0:
                break
            await asyncio.sleep(0)
        return Page([self._session(one) for one in found], cursor or None)

    async def get_connection(self, connection_id: str) -> ConnectionView:
        """Show one connection. Raises ``NotFound``."""
        return self._connection(self._need_connection(connection_id))

    async def get_session(self, session_id: str) -> SessionView:
        """Show one session. Raises ``NotFound``."""
        principal_id, client_id = _session_of(session_id)
        for one in self._core.sessions_of(principal_id):
            if one.client_id == client_id:
                return self._session(one)
        raise NotFound("there is no such session")

    async def disconnect(self, connection_id: str) -> None:
        """Close a connection with 0x98; its session goes on as after any other end. Raises ``NotFound``."""
        self._core.disconnect(self._need_connection(connection_id).handle)

    async def end_session(self, session_id: str) -> None:
        """End a session with all that waits in it, and its connection; durable when it returns. Raises ``NotFound``."""
        principal_id, client_id = _session_of(session_id)
        if not await self._core.end_session(principal_id, client_id):
            raise NotFound("there is no such session")

    # ------------------------------------------------------------ inside

    def _whose(self, which: Which) -> tuple[int | None, int | None]:
        """Give the account's number and the device's, None for each that is not asked for."""
        account_id = None if which.account is None else self._directory.accounts.named(which.account).account_id
        if which.device_id is None:
            return account_id, None
        if account_id is not None:
            return account_id, self._directory.devices.get(account_id, which.device_id).device_number
        device = self._directory.devices.named(which.device_id)
        if device is None:
            raise NotFound("there is no such device, or several accounts have one of this id: name the account")
        return device.account_id, device.device_number

    def _need_connection(self, connection_id: str) -> ConnectionNow:
        handle = _handle_of(connection_id)
        found = None if handle is None else self._core.connection(handle)
        if found is None:
            raise NotFound("there is no such connection")
        return found

    @staticmethod
    def _part(views: Sequence[ViewT], limit: int, cursor: int) -> Page[ViewT]:
        """Give part of what one principal has: a cursor is a place then."""
        behind = cursor + limit
        return Page(views[cursor:behind], behind if behind < len(views) else None)

    def _account_name(self, account_id: int) -> str:
        return self._directory.accounts.get(account_id).name if account_id in self._directory.accounts else OPEN

    def _connection(self, row: ConnectionNow) -> ConnectionView:
        return ConnectionView(
            id=_id_of_handle(row.handle),
            account=self._account_name(row.account_id),
            principal=row.principal,
            device_id=row.device_id,
            client_id=row.client_id,
            session_id=_session_id(row.principal_id, row.client_id),
            listener=self._listeners[row.listener] if row.listener < len(self._listeners) else "",
            protocol=PROTOCOLS_OF_DOORS[row.door],
            mqtt_version=VERSIONS.get(row.version, ""),
            address=row.address,
            connected_at=row.connected_at_ns // NS_PER_S,
            keep_alive_s=row.keep_alive_s,
            session_expiry_interval_s=row.session_expiry_interval_s,
            subscriptions=row.subscriptions,
            queued_messages=row.queued_messages,
            outbound_inflight=row.outbound_inflight,
            unsent_bytes=row.unsent_bytes,
            durability=LEVELS[row.durability],
        )

    def _session(self, row: SessionNow) -> SessionView:
        return SessionView(
            id=_session_id(row.principal_id, row.client_id),
            account=self._account_name(row.account_id),
            principal=row.principal,
            device_id=row.device_id,
            client_id=row.client_id,
            connection_id=_id_of_handle(row.handle) if row.handle else "",
            session_expiry_interval_s=row.session_expiry_interval_s,
            ends_at=row.ends_at_ns // NS_PER_S or None,
            subscriptions=row.subscriptions,
            queued_messages=row.queued_messages,
            outbound_inflight=row.outbound_inflight,
            on_disk=row.on_disk,
            has_will=row.has_will,
        )


def _id_of_handle(handle: int) -> str:
    return f"{handle:0{HANDLE_DIGITS}x}"


def _handle_of(connection_id: str) -> int | None:
    """Read what ``_id_of_handle`` wrote, in that spelling alone."""
    try:
        handle = int(connection_id, 16)
    except ValueError:
        return None
    return handle if handle > 0 and _id_of_handle(handle) == connection_id else None


def _session_id(principal_id: int, client_id: str) -> str:
    return f"{principal_id}." + base64.urlsafe_b64encode(client_id.encode()).decode().rstrip("=")


def _session_of(session_id: str) -> tuple[int, str]:
    """Read what ``_session_id`` wrote. Raises ``NotFound`` for anything else."""
    number, _, name = session_id.partition(".")
    try:
        principal_id = int(number)
        client_id = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (ValueError, binascii.Error):
        raise NotFound("there is no such session") from None
    if not 0 <= principal_id < 2**32 or _session_id(principal_id, client_id) != session_id:
        raise NotFound("there is no such session")
    return principal_id, client_id
