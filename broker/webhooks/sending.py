"""One POST to an endpoint: to an address that was judged, signed, with a bound on everything.

Here belongs HTTP as a client. Not here: what is sent (``batches``), and when it is sent again (``runner``). Nothing is
followed, kept open or taken from the environment; of the answer only its status counts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from contextlib import suppress

import h11

from broker.accounts.endpoints import Target

ANSWER_MAXIMUM_BYTES = 64 * 1024
ANSWER_PARTS_MAXIMUM = 200  # each is looked at by Python, while nobody else has a turn
HEAD_MAXIMUM_BYTES = 16 * 1024
READ_BYTES = 16 * 1024
RETRY_AFTER_MAXIMUM_S = 3600


class DeliveryFailed(Exception):
    """A delivery was not taken; the message is for the account. ``gone`` says that it never will be."""

    def __init__(self, message: str, *, retry_after_s: int = 0, gone: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.gone = gone


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Sign a delivery as the Standard Webhooks specification has it: HMAC-SHA256 over id, time and body."""
    key = base64.b64decode(secret.partition("_")[2])
    digest = hmac.digest(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


async def post(
    target: Target, address: str, headers: list[tuple[str, str]], body: bytes, context: ssl.SSLContext | None
) -> None:
    """Send one request to an address and wait for its answer; the caller bounds the time.

    Returns when the status is 2xx. Raises ``DeliveryFailed`` for everything else.
    """
    try:
        reader, writer = await asyncio.open_connection(
            address, target.port, ssl=context, server_hostname=None if context is None else target.host
        )
    except ssl.SSLCertVerificationError as error:
        raise DeliveryFailed(f"its certificate is not trusted: {error.verify_message}") from error
    except OSError as error:
        raise DeliveryFailed("it could not be connected to") from error
    try:
        _judge(await _exchange(reader, writer, _request(target, headers, body), body))
    except h11.RemoteProtocolError as error:
        raise DeliveryFailed("its answer is not HTTP") from error
    except (OSError, EOFError) as error:
        raise DeliveryFailed("the connection broke off") from error
    finally:
        writer.transport.abort()  # no goodbye is waited for
        with suppress(OSError):
            await writer.wait_closed()


def _request(target: Target, headers: list[tuple[str, str]], body: bytes) -> h11.Request:
    lines = [("Host", target.authority), ("Content-Length", str(len(body))), ("Connection", "close"), *headers]
    return h11.Request(method="POST", target=target.path, headers=lines)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> h11.Response:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAXIMUM_BYTES)
    writer.write((connection.send(request) or b"") + (connection.send(h11.Data(data=body)) or b""))
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    response: h11.Response | None = None
    size = parts = 0
    while parts < ANSWER_PARTS_MAXIMUM:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
            continue
        parts += 1
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            size += len(event.data)
        if response is not None and (isinstance(event, h11.EndOfMessage) or size > ANSWER_MAXIMUM_BYTES):
            break
        if isinstance(event, h11.ConnectionClosed):
            raise EOFError
    if response is None:
        raise h11.RemoteProtocolError("it says for ever that an answer will come")
    return response  # what else it says does not matter


def _judge(response: h11.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise DeliveryFailed(f"it answered {status}; redirects are not followed")
    raise DeliveryFailed(f"it answered {status}", retry_after_s=_retry_after_s(response), gone=status == 410)


def _retry_after_s(response: h11.Response) -> int:
    for name, value in response.headers:
        if name == b"retry-after" and value.isdigit() and len(value) < 10:
            return min(int(value), RETRY_AFTER_MAXIMUM_S)
    return 0
