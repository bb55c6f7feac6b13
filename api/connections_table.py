"""The rows about connections and sessions, for the operator alone.

Here belong the rows. Not here: what a row is (``routes``), what it does (``connections``).
"""

from __future__ import annotations

from api import connections, connections_models, models
from api.routes import ADMIN_PATH, ApiRoute
from broker.errors import NotFound, Unavailable

CONNECTIONS = ADMIN_PATH + "/connections"
SESSIONS = ADMIN_PATH + "/sessions"

ROUTES = (
    ApiRoute(
        "GET",
        CONNECTIONS,
        connections.list_connections,
        "List network connections",
        query=connections_models.ConnectionsQuery,
        body=None,
        answer=connections_models.ConnectionsAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "GET",
        CONNECTIONS + "/{connection_id}",
        connections.get_connection,
        "Show a network connection",
        query=models.Nothing,
        body=None,
        answer=connections_models.ConnectionAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "DELETE",
        CONNECTIONS + "/{connection_id}",
        connections.disconnect,
        "Close a network connection",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound,),
    ),
    ApiRoute(
        "GET",
        SESSIONS,
        connections.list_sessions,
        "List sessions",
        query=connections_models.ConnectionsQuery,
        body=None,
        answer=connections_models.SessionsAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "GET",
        SESSIONS + "/{session_id}",
        connections.get_session,
        "Show a session",
        query=models.Nothing,
        body=None,
        answer=connections_models.SessionAnswer,
        status=200,
        errors=(NotFound,),
    ),
    ApiRoute(
        "DELETE",
        SESSIONS + "/{session_id}",
        connections.end_session,
        "End a session, with all that waits in it, and its connection",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Unavailable),
    ),
)
