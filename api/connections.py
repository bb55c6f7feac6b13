"""The routes about connections and sessions: one call of ``admin.connections`` each, and its answer.

Here belongs the translation between models and snapshots. Not here: who may ask (the middleware).
"""

from __future__ import annotations

from api.connections_models import (
    ConnectionAnswer,
    ConnectionsAnswer,
    ConnectionsQuery,
    SessionAnswer,
    SessionsAnswer,
)
from api.routes import ApiRequest
from broker.admin import ConnectionView, SessionView, Which, maybe_moment_text, moment_text


async def list_connections(request: ApiRequest) -> ConnectionsAnswer:
    """List connections."""
    query: ConnectionsQuery = request.query
    page = await request.admin.connections.list_connections(_which(query), query.limit, query.cursor)
    found = [_connection(view) for view in page.items]
    return ConnectionsAnswer(connections=found, limit=query.limit, next_cursor=page.next_cursor)


async def get_connection(request: ApiRequest) -> ConnectionAnswer:
    """Show one connection."""
    return _connection(await request.admin.connections.get_connection(request.path["connection_id"]))


async def disconnect(request: ApiRequest) -> None:
    """Close one connection."""
    await request.admin.connections.disconnect(request.path["connection_id"])


async def list_sessions(request: ApiRequest) -> SessionsAnswer:
    """List sessions."""
    query: ConnectionsQuery = request.query
    page = await request.admin.connections.list_sessions(_which(query), query.limit, query.cursor)
    found = [_session(view) for view in page.items]
    return SessionsAnswer(sessions=found, limit=query.limit, next_cursor=page.next_cursor)


async def get_session(request: ApiRequest) -> SessionAnswer:
    """Show one session."""
    return _session(await request.admin.connections.get_session(request.path["session_id"]))


async def end_session(request: ApiRequest) -> None:
    """End one session."""
    await request.admin.connections.end_session(request.path["session_id"])


def _which(query: ConnectionsQuery) -> Which:
    return Which(query.account, query.device_id)


def _connection(view: ConnectionView) -> ConnectionAnswer:
    return ConnectionAnswer(
        id=view.id,
        account=view.account or None,
        principal=view.principal,
        device_id=view.device_id or None,
        client_id=view.client_id,
        session_id=view.session_id,
        listener=view.listener,
        protocol=view.protocol,
        mqtt_version=view.mqtt_version,
        address=view.address or None,
        connected_at=moment_text(view.connected_at),
        keep_alive_seconds=view.keep_alive_s,
        session_expiry_interval_seconds=view.session_expiry_interval_s,
        subscriptions=view.subscriptions,
        queued_messages=view.queued_messages,
        outbound_inflight=view.outbound_inflight,
        unsent_bytes=view.unsent_bytes,
        durability=view.durability,
    )


def _session(view: SessionView) -> SessionAnswer:
    return SessionAnswer(
        id=view.id,
        account=view.account or None,
        principal=view.principal,
        device_id=view.device_id or None,
        client_id=view.client_id,
        connection_id=view.connection_id or None,
        session_expiry_interval_seconds=view.session_expiry_interval_s,
        ends_at=maybe_moment_text(view.ends_at),
        subscriptions=view.subscriptions,
        queued_messages=view.queued_messages,
        outbound_inflight=view.outbound_inflight,
        on_disk=view.on_disk,
        has_will=view.has_will,
    )
