"""Queries and answers about connections and sessions, for those who look after a broker.

Here belong fields and ranges. Not here: what a request does (``connections``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.models import Answer, Query, WholeNumber


class ConnectionsQuery(Query):
    """Which of them, and which part: ``cursor`` is the ``next_cursor`` of the answer before."""

    account: str | None = Field(None, max_length=64)
    device_id: str | None = Field(None, max_length=64)
    limit: Annotated[WholeNumber, Field(ge=1, le=100)] = 50
    cursor: Annotated[WholeNumber, Field(ge=0, lt=2**32)] = 0


class ConnectionAnswer(Answer):
    """A network connection; ``account`` is null for one that has no name here, as behind an open listener."""

    id: str
    account: str | None
    principal: str
    device_id: str | None
    client_id: str
    session_id: str
    listener: str
    protocol: str
    mqtt_version: str
    address: str | None
    connected_at: str
    keep_alive_seconds: int
    session_expiry_interval_seconds: int
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    unsent_bytes: int
    durability: str


class SessionAnswer(Answer):
    """A session; ``connection_id`` is null while its client is away, ``ends_at`` while nobody knows when that is."""

    id: str
    account: str | None
    principal: str
    device_id: str | None
    client_id: str
    connection_id: str | None
    session_expiry_interval_seconds: int
    ends_at: str | None
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    on_disk: bool
    has_will: bool


class ConnectionsAnswer(Answer):
    """Part of the connections; ``next_cursor`` is null when nothing is left."""

    connections: list[ConnectionAnswer]
    limit: int
    next_cursor: int | None


class SessionsAnswer(Answer):
    """Part of the sessions, a few more than ``limit`` at times; ``next_cursor`` is null when nothing is left."""

    sessions: list[SessionAnswer]
    limit: int
    next_cursor: int | None
