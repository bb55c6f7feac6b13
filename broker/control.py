"""The control socket: how the command line reaches a running broker, and the same verbs without one.

Here belong the verbs' names, their arguments, and JSON lines over ``DATA_DIR/control.sock``. Not here: what a verb does
(``broker.admin``). One connection carries one request and one answer; only the data directory's owner may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from broker.admin import Actor, Operator
from broker.admin.upkeep import Upkeep
from broker.errors import BadRequest, BrokerError, Unavailable

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
LINE_MAXIMUM_BYTES = 64 * 1024
REQUEST_TIMEOUT_S = 10.0
LONG_COMMANDS = "store."
READING_COMMANDS = (".list", ".show", ".export")
SHOWN_ONCE = {"keys.create": "api_key", "admin-keys.create": "admin_key"}

Verb = Callable[..., Awaitable[Any]]


class ControlRefused(BrokerError):
    """The running broker refused a request; the message is its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def execute(operator: Operator, command: str, arguments: dict[str, Any], upkeep: Upkeep | None = None) -> Any:
    """Run one verb and give its result as a JSON value. Raises ``BadRequest`` for an unknown verb or argument."""
    verbs, store_verbs = _verbs(operator), {} if upkeep is None else _store_verbs(upkeep)
    verb = verbs.get(command) or store_verbs.get(command)
    if verb is None:
        raise BadRequest(f"there is no command {command!r}", field="command", provided=command)
    try:
        call = verb(**arguments)
    except TypeError as error:
        raise BadRequest(f"{command}: {error}") from error
    if command in store_verbs:
        return await call
    if command.endswith(READING_COMMANDS):
        return _plain(command, await call)
    actor = Actor("command_line", request_id=secrets.token_hex(16))
    given = [name for name, value in arguments.items() if value]
    async with operator.audit.deed(actor, verb.__name__, fields=given):
        return _plain(command, await call)


def _verbs(operator: Operator) -> dict[str, Verb]:
    return {
        "keys.create": operator.create_key,
        "keys.list": operator.list_keys,
        "keys.revoke": operator.revoke_key,
        "admin-keys.create": operator.create_admin_key,
        "admin-keys.list": operator.list_admin_keys,
        "admin-keys.revoke": operator.revoke_admin_key,
        "accounts.create": operator.create_account,
        "accounts.list": operator.list_accounts,
        "accounts.show": operator.show_account,
        "accounts.set-plan": operator.set_plan,
        "accounts.set-durability": operator.set_durability,
        "accounts.set-queue-full-policy": operator.set_queue_full_policy,
        "accounts.set-suspended": operator.set_suspended,
        "devices.import": operator.transfer.import_devices,
        "devices.export": operator.transfer.export_devices,
    }


def _plain(command: str, result: Any) -> Any:
    """Turn what a verb gave into a JSON value; a new key stands beside its view."""
    if isinstance(result, tuple):
        view, text = result
        return {**_fields(view), SHOWN_ONCE[command]: text}
    return [_fields(view) for view in result] if isinstance(result, list) else _fields(result)


def _fields(view: Any) -> dict[str, Any]:
    """Give the fields of a flat view; ``asdict`` would copy every value of a long list."""
    return view if isinstance(view, dict) else {field.name: getattr(view, field.name) for field in fields(view)}


def _store_verbs(upkeep: Upkeep) -> dict[str, Verb]:
    return {
        "store.copy": upkeep.copy,
        "store.check": upkeep.check,
        "store.stats": upkeep.stats,
        "store.acknowledge": upkeep.acknowledge,
    }


class ControlServer:
    """Serves the verbs on ``DATA_DIR/control.sock`` (0600); only the owner of the directory's lock may start one."""

    def __init__(self, data_dir: Path, operator: Operator, upkeep: Upkeep | None = None) -> None:
        self._upkeep = upkeep
        self._path = data_dir / SOCKET_NAME
        self._operator = operator
        self._server: asyncio.Server | None = None
        self._requests: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the socket, in place of one that a dead broker left. Raises ``OSError``."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(self._path) as address:
                listening.bind(address)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE_MAXIMUM_BYTES)
        except OSError:
            listening.close()
            raise

    async def stop(self) -> None:
        """Close the socket and end the requests that are still running."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S) as deadline:
                answer = await self._answer(reader, deadline)
                deadline.reschedule(asyncio.get_running_loop().time() + REQUEST_TIMEOUT_S)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # the caller has gone, or never spoke, or the broker stops; asyncio before 3.12 shouts at the last
        finally:
            self._requests.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, deadline: asyncio.Timeout) -> dict[str, Any]:
        try:
            command, arguments = _parsed(await reader.readline())
            if command.startswith(LONG_COMMANDS):
                deadline.reschedule(None)  # a copy takes as long as it takes
            return {"result": await execute(self._operator, command, arguments, self._upkeep)}
        except BrokerError as error:
            return {"error": {"code": error.code, "message": str(error)}}
        except ValueError:
            return {"error": {"code": "INVALID_PARAMETER", "message": "the request is no JSON line"}}
        except Exception:
            log.exception("a control request failed")
            return {"error": {"code": "INTERNAL_ERROR", "message": "the broker failed; see its log"}}


async def call(data_dir: Path, command: str, arguments: dict[str, Any]) -> Any:
    """Ask the running broker of a data directory; gives the result as a JSON value.

    Raises ``ConnectionError`` or ``FileNotFoundError`` when none is running, ``ControlRefused`` when it refuses.
    """
    with _reachable(data_dir / SOCKET_NAME) as address:
        reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        answered = await reader.read()  # to the end: a list of all keys may be long
    finally:
        writer.close()
    if not answered.endswith(b"\n"):
        raise Unavailable("the broker ended without an answer")
    answer = json.loads(answered)
    if "error" in answer:
        raise ControlRefused(answer["error"]["code"], answer["error"]["message"])
    return answer["result"]


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    request = json.loads(line)
    if not isinstance(request, dict) or set(request) != {"command", "arguments"}:
        raise ValueError("a request has a command and arguments")
    command, arguments = request["command"], request["arguments"]
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise ValueError("a command is text and arguments an object")
    return command, arguments


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Give an address for a socket's path that fits into the 107 bytes which the kernel allows for one."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
