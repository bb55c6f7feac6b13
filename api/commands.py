"""The routes of messages to devices: one call of ``admin.commands`` each, and its answer in the contract's words.

Here belongs the translation between models and snapshots. Not here: any rule, and any HTTP.
"""

from __future__ import annotations

import base64
from typing import Any

from api.command_models import MessageAnswer, MessageBody, MessageDetailAnswer, ResponseAnswer, SendQuery
from api.jsontext import parse_value
from api.routes import ApiRequest
from broker.admin import AnswerView, DeviceMessage, MessageKind, MessageView, maybe_moment_text, moment_text
from broker.errors import BadRequest


async def send_command(request: ApiRequest) -> MessageAnswer:
    """Publish a command to a device."""
    return await _send(request, "commands", retained=False)


async def send_config(request: ApiRequest) -> MessageAnswer:
    """Publish a device's configuration: retained, unless the body says otherwise."""
    return await _send(request, "config", retained=True)


async def send_firmware(request: ApiRequest) -> MessageAnswer:
    """Publish word of firmware to a device."""
    return await _send(request, "firmware", retained=False)


async def get_message(request: ApiRequest) -> MessageDetailAnswer:
    """Tell what has become of a message."""
    view = await request.admin.commands.get(request.account_id, request.path["device_id"], request.path["message_id"])
    return MessageDetailAnswer(
        **_fields(view),
        qos=view.qos,
        created_at=moment_text(view.created_at),
        expires_at=maybe_moment_text(view.expires_at),
        sent_at=maybe_moment_text(view.sent_at),
        acknowledged_at=maybe_moment_text(view.acknowledged_at),
        answered_at=maybe_moment_text(view.answered_at),
        ended_at=maybe_moment_text(view.ended_at),
    )


async def _send(request: ApiRequest, kind: MessageKind, *, retained: bool) -> MessageAnswer:
    body: MessageBody = request.body
    query: SendQuery = request.query
    message = DeviceMessage(
        kind,
        _payload(body),
        body.qos,
        retained if body.retain is None else body.retain,
        body.expiry_seconds or 0,
        body.message_id or "",
    )
    view = await request.admin.commands.send(
        request.account_id, request.path["device_id"], message, request.keeping(_told), query.wait
    )
    return _told(view)


def _told(view: MessageView) -> MessageAnswer:
    return MessageAnswer(**_fields(view))


def _fields(view: MessageView) -> dict[str, Any]:
    return {
        "message_id": view.message_id,
        "topic": view.topic_name,
        "state": view.state,
        "reason": view.reason,
        "response": None if view.answer is None else _response(view.answer),
    }


def _response(answer: AnswerView) -> ResponseAnswer:
    at, payload = moment_text(answer.at), answer.payload
    if payload is None:
        return ResponseAnswer(at=at, bytes=answer.payload_bytes)
    try:
        return ResponseAnswer(at=at, bytes=answer.payload_bytes, payload=parse_value(payload))
    except ValueError:
        text = base64.b64encode(payload).decode()
        return ResponseAnswer(at=at, bytes=answer.payload_bytes, payload_base64=text)


def _payload(body: MessageBody) -> bytes:
    try:
        return body.payload_bytes()
    except ValueError as error:
        raise BadRequest(f"payload: expected {error}", field="payload", expected=str(error)) from error
