"""Certificates are exchanged while clients publish: nobody who is connected notices, whoever comes sees the new one."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import aiomqtt
import pytest

from tests.integration.printed import LOOPBACK
from tests.integration.served import Login, Served
from tests.support import pki

CLIENTS = 20
EXCHANGES = 5
WITHIN_S = 20.0
PAUSE_S = 0.05
DOORS = ("mqtts", "wss")


class Files:
    """A certificate and its key in files, replaced as ACME clients do it: each renamed over the old one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate, self.key = folder / "server.pem", folder / "server.key"

    def exchange(self) -> bytes:
        """Put a new pair into its place; gives the new certificate (DER)."""
        issued = pki.issue("server", by=pki.trusted(), names=(LOOPBACK,))
        issued.write(self._folder)
        return issued.der


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.exchange()
    return made


@pytest.fixture
def served(serve: Callable[..., Served], files: Files) -> Served:
    """A broker whose encrypted listeners have these files."""
    own = {"certificate_file": str(files.certificate), "private_key_file": str(files.key), "port": 0}
    listeners = [{"transport": "tcp", "port": 0}, {"transport": "tls", **own}, {"transport": "wss", **own}]
    return serve(environment={"IOT_BROKER_LISTENERS": json.dumps(listeners)})


def context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pki.trusted().pem.decode())


def handshake(port: int, trusting: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection of a newcomer's, who trusts the authority alone."""
    raw = socket.create_connection((LOOPBACK, port), 15)
    return trusting.wrap_socket(raw, server_hostname=LOOPBACK, session=session)


def shown(port: int) -> bytes | None:
    """The certificate (DER) that a newcomer sees."""
    with handshake(port, context()) as one:
        return one.getpeercert(binary_form=True)


def all_show(served: Served, certificate: bytes) -> bool:
    """Whether newcomers see this certificate at both doors."""
    return all(shown(served.port(name)) == certificate for name in DOORS)


def client_of(served: Served, name: str, username: str, password: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        LOOPBACK,
        served.port(name),
        username=username,
        password=password,
        tls_context=context(),
        transport="websockets" if name == "wss" else "tcp",
        websocket_path="/mqtt" if name == "wss" else None,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; it is looked at from a thread, for as long as it likes."""
    async with asyncio.timeout(WITHIN_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the broker is another process
            await asyncio.sleep(0.02)


class Load:
    """Devices that publish by both doors, and an application that gets all of it."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._over = asyncio.Event()
        self._is_listening = asyncio.Event()
        self._devices = [served.register(f"device {number}") for number in range(CLIENTS)]
        self.acknowledged: dict[str, int] = {}
        self.arrived: dict[str, list[int]] = defaultdict(list)

    async def listen(self) -> None:
        """Collect everything, until cancelled."""
        async with client_of(self._served, "mqtts", "apikey", self._served.api_key) as client:
            await client.subscribe("devices/+/telemetry", qos=1)
            self._is_listening.set()
            async for message in client.messages:
                self.arrived[message.topic.value].append(int(bytes(message.payload)))  # type: ignore[arg-type]

    def publishers(self) -> list[asyncio.Task[None]]:
        """Start to publish; a connection that is lost ends its task with an error."""
        pairs = enumerate(self._devices)
        return [asyncio.create_task(self._publish(DOORS[number % 2], device)) for number, device in pairs]

    async def _publish(self, name: str, device: Login) -> None:
        async with client_of(self._served, name, device.username, device.password) as client:
            await self._is_listening.wait()
            topic_name = device.topic("telemetry")
            self.acknowledged[topic_name] = 0
            while not self._over.is_set():
                await client.publish(topic_name, str(self.acknowledged[topic_name]), qos=1)
                self.acknowledged[topic_name] += 1
                await asyncio.sleep(PAUSE_S)

    async def end(self, publishers: Sequence[asyncio.Task[None]]) -> None:
        """Let the publishers end, and wait until all that was acknowledged has arrived."""
        self._over.set()
        await asyncio.gather(*publishers)
        await until(lambda: all(len(self.arrived[name]) >= count for name, count in self.acknowledged.items()))


def test_nobody_is_dropped_while_certificates_are_exchanged_under_load(served: Served, files: Files) -> None:
    async def exchange(load: Load, number: int) -> None:
        certificate = files.exchange()
        if number % 2:  # else the broker sees by itself that they have changed
            served.send_signal(signal.SIGHUP)
        await until(lambda: all_show(served, certificate))
        before = dict(load.acknowledged)
        await until(lambda: all(load.acknowledged[name] > count for name, count in before.items()))

    async def whole() -> None:
        load = Load(served)
        listening = asyncio.create_task(load.listen())
        publishers = load.publishers()
        await until(lambda: len(load.arrived) == CLIENTS)
        for number in range(EXCHANGES):
            await exchange(load, number)
            assert [one for one in (*publishers, listening) if one.done()] == []
        await load.end(publishers)
        assert {name: list(range(count)) for name, count in load.acknowledged.items()} == load.arrived
        listening.cancel()

    asyncio.run(asyncio.wait_for(whole(), 50))


def test_sessions_from_before_an_exchange_are_resumed_after_it(served: Served, files: Files) -> None:
    """Else a renewed certificate would bring all devices' full handshakes at once."""
    for name in DOORS:
        trusting = context()
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2  # where a session is whole with the handshake
        with handshake(served.port(name), trusting) as first:
            session = first.session
        certificate = files.exchange()
        served.send_signal(signal.SIGHUP)
        asyncio.run(until(lambda certificate=certificate: all_show(served, certificate)))
        with handshake(served.port(name), trusting, session) as again:
            assert again.session_reused
