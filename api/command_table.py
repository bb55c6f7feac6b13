"""The rows about messages to devices.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``commands``).
"""

from __future__ import annotations

from api import command_models, commands
from api.device_table import DEVICE
from api.models import Nothing
from api.routes import LARGE_BODY_BYTES, ApiRoute, Handler
from broker.errors import Conflict, NotFound, PayloadTooLarge, QuotaExceeded, RateLimited, Unavailable


def _row(level: str, handler: Handler, summary: str) -> ApiRoute:
    return ApiRoute(
        "POST",
        f"{DEVICE}/{level}",
        handler,
        summary,
        query=command_models.SendQuery,
        body=command_models.MessageBody,
        answer=command_models.MessageAnswer,
        status=202,
        errors=(NotFound, Conflict, PayloadTooLarge, QuotaExceeded, RateLimited, Unavailable),
        scope="publish",
        topic=f"devices/{{device_id}}/{level}",
        idempotent=True,
        body_maximum_bytes=LARGE_BODY_BYTES,
        raw="payload",
        waits=True,
    )


ROUTES = (
    ApiRoute(
        "GET",
        DEVICE + "/messages/{message_id}",
        commands.get_message,
        "Tell what has become of a message",
        query=Nothing,
        body=None,
        answer=command_models.MessageDetailAnswer,
        status=200,
        errors=(NotFound, Unavailable),
        scope="devices:read",
    ),
    _row("commands", commands.send_command, "Send a command to a device"),
    _row("config", commands.send_config, "Send a device its configuration"),
    _row("firmware", commands.send_firmware, "Tell a device about firmware"),
)
