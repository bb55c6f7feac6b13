"""Rules of answers in parts: who hangs up is given up, and the first such answer costs what the others cost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.streaming import Parts

SCOPE = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_parts_are_written_in_order_without_a_library_that_has_to_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"[1", b",2", b"]"):
            yield part
            await asyncio.sleep(0)

    monkeypatch.delattr(anyio, "create_task_group")
    asyncio.run(Parts(parts(), 207, media_type="application/json")(dict(SCOPE), never, send))
    assert sent[0]["status"] == 207
    assert [one["body"] for one in sent[1:]] == [b"[1", b",2", b"]", b""]


def test_who_hangs_up_is_not_written_for_any_more() -> None:
    ended = False

    async def parts() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            ended = True

    async def gone() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    async def body() -> None:
        with pytest.raises(ClientDisconnect):
            await Parts(parts())(dict(SCOPE), gone, send)
        assert ended

    asyncio.run(body())


def test_what_bulk_registration_needs_is_made_with_the_application_and_nothing_else() -> None:
    """All models together are a sixth of a start's time; those of a first bulk registration held the loop."""
    program = (
        "import api\n"
        "from unittest.mock import Mock\n"
        "from api import device_bodies, models, webhook_models\n"
        "needed = models.Nothing, device_bodies.DeviceBody, models.NewDeviceAnswer, models.MqttCredentialsAnswer\n"
        "assert not any(one.__pydantic_complete__ for one in needed)\n"
        "api.application(Mock())\n"
        "assert all(one.__pydantic_complete__ for one in needed)\n"
        "assert not webhook_models.WebhookBody.__pydantic_complete__\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
