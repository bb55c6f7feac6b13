"""The routes of messages to devices: one call of ``admin.commands`` each, and its answer in the contract's words.

Here belongs the translation between models and snapshots. Not here: any rule, and any HTTP.
"""

from __future__ import annotations

from api.command_models import MessageAnswer, MessageBody
from api.routes import ApiRequest
from broker.admin import DeviceMessage, MessageKind, MessageReceipt
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


async def _send(request: ApiRequest, kind: MessageKind, *, retained: bool) -> MessageAnswer:
    body: MessageBody = request.body
    message = DeviceMessage(
        kind,
        _payload(body),
        body.qos,
        retained if body.retain is None else body.retain,
        body.expiry_seconds or 0,
    )
    receipt = await request.admin.commands.send(
        request.account_id, request.path["device_id"], message, request.keeping(_receipt)
    )
    return _receipt(receipt)


def _receipt(receipt: MessageReceipt) -> MessageAnswer:
    return MessageAnswer.model_validate(
        {"message_id": receipt.message_id, "topic": receipt.topic_name, "state": receipt.state}
    )


def _payload(body: MessageBody) -> bytes:
    try:
        return body.payload_bytes()
    except ValueError as error:
        raise BadRequest(f"payload: expected {error}", field="payload", expected=str(error)) from error
