"""A broker in a thread of its own, as tests drive it: without an event loop of theirs, or beside one.

Here belong its start and end, and the commands of a test. Not here: faults (``faults``, ``proxy``, ``store``), pytest.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from broker.accounts.device_description import DeviceDescription
from broker.config import BrokerConfig
from broker.errors import BrokerStopped
from broker.local import PublishProperties
from broker.local.clients import Payload
from broker.ports import Authenticator, Observer, Store
from broker.reasons import ReasonCode
from broker.runtime import Broker
from broker.testing.faults import Faults
from broker.testing.inbox import Inbox
from broker.testing.proxy import Proxy
from broker.testing.store import FaultyStore
from broker.wire import Subscription

HOST = "127.0.0.1"
START_S = 30.0
CALL_S = 30.0
WAIT_S = 5.0
STEP_S = 0.01
MAP_SIZE_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device and how it logs in."""

    device_id: str
    username: str
    password: str

    @property
    def client_id(self) -> str:
        """The client id to connect with: its device id, which names it in ``faults`` too."""
        return self.device_id

    def topic(self, end: str) -> str:
        """Name a topic of its own: ``topic("telemetry")`` is ``devices/{device_id}/telemetry``."""
        return f"devices/{self.device_id}/{end}"


class Clock:
    """The broker's clock, which a test moves; the world's clock goes on beside it."""

    def __init__(self, harness: BrokerUnderTest) -> None:
        self._harness = harness
        self._moved: asyncio.Event | None = None
        self._ahead_s = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass at once: keep alives, expiries, will delays and delayed packets fall due, in their order.

        Raises ``ValueError`` for a negative time.
        """
        self._harness.call(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        self._harness.broker.advance_clock(seconds)
        self._ahead_s += seconds
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock, in the broker's loop."""
        until = time.monotonic() + self._ahead_s + seconds
        while (left := until - time.monotonic() - self._ahead_s) > 0:
            if self._moved is None:
                self._moved = asyncio.Event()
            moved = self._moved
            try:
                async with asyncio.timeout(left):
                    await moved.wait()
            except TimeoutError:
                return


class BrokerUnderTest:
    """A running broker with a proxy before it: ``with BrokerUnderTest() as broker:``, or the fixture ``iot_broker``.

    ``data_dir``: where it keeps its data; else a directory that goes with it. ``open``: let everybody in without a
    password. ``capabilities``: limits, by name. ``config``: anything else of ``BrokerConfig``. ``authenticator`` and
    ``observer`` are the broker's. All methods may be called from any thread, and need no event loop.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        open: bool = False,  # noqa: A002 - the word of the configuration
        capabilities: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        authenticator: Authenticator | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._own_dir = None if data_dir else Path(tempfile.mkdtemp(prefix="iot-broker-"))
        self._config = BrokerConfig.model_validate(
            {
                "data_dir": data_dir or self._own_dir,
                "listeners": [{"host": HOST, "port": 0, "open": open}],
                "http": {"port": 0},
                "store_map_size_bytes": MAP_SIZE_BYTES,
                "capabilities": dict(capabilities or {}),
                **(config or {}),
            }
        )
        self._authenticator = authenticator
        self._observer = observer
        self._stores: list[FaultyStore] = []
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._broker: Broker | None = None
        self._proxy: Proxy | None = None
        self._thread: threading.Thread | None = None
        self._api_key = ""
        self.faults = Faults(self)
        self.clock = Clock(self)

    # ------------------------------------------------------------ where and who

    @property
    def broker(self) -> Broker:
        """The broker itself, whose methods belong to its own thread: see ``call``."""
        if self._broker is None:
            raise BrokerStopped("the broker under test does not run")
        return self._broker

    @property
    def host(self) -> str:
        """Where MQTT clients connect."""
        return HOST

    @property
    def port(self) -> int:
        """The port where MQTT clients connect, so that faults reach them."""
        assert self._proxy is not None, "the broker under test does not run"
        return self._proxy.port

    @property
    def mqtt_url(self) -> str:
        """``mqtt://127.0.0.1:PORT``."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def direct_port(self) -> int:
        """The broker's own port, past the faults."""
        return self.broker.endpoint(self._config.listeners[0].name).port

    @property
    def http_url(self) -> str:
        """The REST API's address."""
        return self.broker.http_url

    @property
    def api_key(self) -> str:
        """A key of the account ``default``: for HTTP, and for applications as the password of the user ``apikey``."""
        return self._api_key

    @property
    def client_ids(self) -> list[str]:
        """Ids of the clients that are connected now."""
        return [] if self._proxy is None else self._proxy.client_ids()

    # ------------------------------------------------------------ what a test does

    def register_device(
        self, name: str = "Device under test", device_type: str = "sensor", device_id: str = ""
    ) -> Device:
        """Register a device in the account ``default``; its id is generated unless given."""

        async def register() -> Device:
            admin = self.broker.admin
            account = next(one for one in await admin.operator.list_accounts() if one.name == "default")
            description = DeviceDescription(name, device_type, device_id=device_id)
            view, login = await admin.create_device(account.account_id, description)
            return Device(view.device_id, login.username, login.password)

        return self.call(register())

    def publish(
        self,
        topic_name: str,
        payload: Payload = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        account: str | int | None = None,
        properties: PublishProperties | None = None,
    ) -> ReasonCode:
        """Publish from inside the broker: see ``Broker.publish``."""
        return self.call(
            self.broker.publish(topic_name, payload, qos=qos, retain=retain, account=account, properties=properties)
        )

    def subscribe(self, *topic_filters: str | Subscription, qos: int = 2, account: str | int | None = None) -> Inbox:
        """Receive from inside the broker: see ``Broker.subscribe``. In effect when it returns."""

        async def subscribe() -> Inbox:
            stream = self.broker.subscribe(*topic_filters, qos=qos, account=account, buffer=1000)
            return Inbox(await stream.__aenter__(), self.submit)

        return self.call(subscribe())

    def wait_connected(self, client_id: str, timeout_s: float = WAIT_S) -> None:
        """Wait until a client has been let in. Raises ``AssertionError`` with those who are."""
        self.wait_until(lambda: client_id in self.client_ids, timeout_s, lambda: f"connected: {self.client_ids}")

    def wait_disconnected(self, client_id: str, timeout_s: float = WAIT_S) -> None:
        """Wait until a client is gone. Raises ``AssertionError``."""
        self.wait_until(lambda: client_id not in self.client_ids, timeout_s, lambda: f"{client_id!r} is connected")

    def wait_until(
        self, condition: Callable[[], object], timeout_s: float = WAIT_S, why: Callable[[], str] = lambda: ""
    ) -> None:
        """Wait until a condition holds. Raises ``AssertionError`` when it does not in time."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"not within {timeout_s} s: {why() or condition}")
            time.sleep(STEP_S)

    # ------------------------------------------------------------ into its thread

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the broker's loop; the future is thread-safe."""
        if self._loop is None or self._broker is None:
            work.close()
            raise BrokerStopped("the broker under test does not run")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the broker's loop and wait for what it returns or raises."""
        return self.submit(work).result(CALL_S)

    def cut(self, client_id: str) -> None:
        """Cut a client's network connection: see ``faults.disconnect``."""

        async def cut() -> None:
            assert self._proxy is not None
            self._proxy.cut(client_id)

        self.call(cut())

    def set_full_disk(self, full: bool) -> None:
        """Let every commit fail, or end that: see ``faults.full_disk``."""

        async def fill() -> None:
            for store in self._stores:
                store.full = full

        self.call(fill())

    # ------------------------------------------------------------ start and end

    def start(self) -> Self:
        """Start, and return when it is ready. Raises what ``Broker`` raises at its start."""
        self._started = Future()
        self._thread = threading.Thread(target=self._run, name="iot-broker-under-test", daemon=True)
        self._thread.start()
        try:
            self._started.result(START_S)
        except BaseException:
            self._thread.join(CALL_S)
            raise
        return self

    def stop(self) -> None:
        """Stop as an operator does; again is no error. ``start`` starts it again with the data it had."""
        if self._thread is None:
            return
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            loop.call_soon_threadsafe(end.set)
        self._thread.join(CALL_S)
        assert not self._thread.is_alive(), "the broker under test does not stop"
        self._thread = None

    def restart(self) -> None:
        """Stop and start again on the same data directory, on other ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_dir is not None:
            shutil.rmtree(self._own_dir, ignore_errors=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # is raised where start() waits
            if not self._started.done():
                self._started.set_exception(error)
            else:
                raise

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._stores.clear()
        broker = Broker(self._config, authenticator=self._authenticator, observer=self._observer, wrap_store=self._wrap)
        async with broker:
            port = broker.endpoint(self._config.listeners[0].name).port
            async with Proxy(port, self.faults, self.clock.sleep) as self._proxy:
                self._broker = broker
                self._api_key = broker.first_key or self._api_key
                self._started.set_result(None)
                try:
                    await self._end.wait()
                finally:
                    self._broker = None
        self._proxy = None

    def _wrap(self, store: Store) -> FaultyStore:
        wrapped = FaultyStore(store)
        self._stores.append(wrapped)
        return wrapped

    def refused_commits(self) -> int:
        """How many commits have failed on a full disk."""
        return sum(store.refused for store in self._stores)
