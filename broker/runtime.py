"""A whole broker in one object: its public face, and the order in which its parts come up and go down.

Here belongs what an embedder calls. Not here: the parts (``broker.assembly``), and any rule of theirs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from importlib.metadata import version
from types import TracebackType
from typing import Self

from api import application
from broker._core.reactor import HOLD_BOUNDS_NS
from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.directory import DEFAULT_NAME
from broker.admin import Admin, MetricsText, SystemClock
from broker.admin.upkeep import Upkeep
from broker.assembly.chores import every, keep_doing
from broker.assembly.core import Core
from broker.assembly.disk import DAMAGE, Disk, claim, open_disk, tell_damage
from broker.assembly.judging import Judging
from broker.assembly.platform import Platform, warn_of_missing_accounts
from broker.assembly.serving import Serving, tell_endpoints
from broker.config import BrokerConfig
from broker.doors import Endpoint, certificate_rules, claim_doors
from broker.engine.core import RareKind
from broker.errors import BrokerStopped, NotFound, StoreDamaged, WrongThread
from broker.local import LocalClients, MessageStream, PublishProperties
from broker.local.clients import Payload
from broker.net.certificates import HTTPS, Authority, CertificateStore, open_certificates
from broker.net.entrances import OPEN_ACCOUNT_ID, Entrances
from broker.net.gateway import Gateway
from broker.net.listeners import Doors, raise_descriptor_limit
from broker.observability.alarms import Alarms
from broker.observability.apart import ObserverApart
from broker.observability.logs import LogObserver
from broker.observability.metrics import CONTENT_TYPE, Metrics
from broker.ports import LOCAL_PRINCIPALS, OWN_PRINCIPALS, Authenticator, Observer, Store
from broker.reasons import ReasonCode
from broker.wire import Subscription

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 60.0
DRAIN_S = 1.0
FLUSH_STEP_S = 0.01
NS_PER_S = 1_000_000_000
NOT_RUNNING = "the broker does not run: call this inside `async with Broker(config) as broker:`"
WRONG_THREAD = (
    "this broker belongs to another thread: hand the call to its event loop with asyncio.run_coroutine_threadsafe(...)"
)


def _as_it_is(store: Store) -> Store:
    return store


class Broker:
    """``async with Broker(config) as broker:`` runs a broker in the current event loop until the block ends.

    ``authenticator`` judges clients that the core does not know, in place of the directory; ``observer`` is told what
    happens, in place of the log, from a thread of its own. ``wrap_store`` is given each store before it is used, and
    what it returns is used instead: for tests that let a disk fail. Several brokers may run in one process, each with
    a data directory of its own. Its methods belong to the thread of its event loop.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        authenticator: Authenticator | None = None,
        observer: Observer | None = None,
        wrap_store: Callable[[Store], Store] = _as_it_is,
    ) -> None:
        self._config = config
        self._authenticator = authenticator
        self._own_observer = observer
        self._wrap_store = wrap_store
        self._clock = SystemClock()
        self._thread = threading.get_ident()
        self._local: LocalClients | None = None
        self._admin: Admin | None = None
        self._platform: Platform | None = None
        self._endpoints: list[Endpoint] = []
        self._first_key: str | None = None
        self._metrics: Metrics | None = None
        self._certificates: CertificateStore | None = None
        self._doubts_records = False
        self._stack = AsyncExitStack()
        self._signals = ExitStack()
        self._stopping = asyncio.Event()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where the broker listens, with real ports; empty before the start and after the stop."""
        return tuple(self._endpoints)

    @property
    def first_key(self) -> str | None:
        """The API key that was made on the first start of this data directory, else None."""
        return self._first_key

    def endpoint(self, name: str = "mqtt") -> Endpoint:
        """Where the listener of this name listens, ``http`` or ``https``. Raises ``NotFound`` with all names."""
        for one in self._endpoints:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self._endpoints) or "none: the broker does not run"
        raise NotFound(f"there is no endpoint {name!r}; there is {names}")

    @property
    def mqtt_url(self) -> str:
        """The first listener's address, as MQTT clients on this machine take it: ``mqtt://127.0.0.1:1883``."""
        return self.endpoint(self._config.listeners[0].name).url

    @property
    def http_url(self) -> str:
        """The REST API's address, as HTTP clients on this machine take it: ``http://127.0.0.1:8080``."""
        return self.endpoint("http").url

    @property
    def https_url(self) -> str:
        """The same through TLS: ``https://127.0.0.1:8443``. Raises ``NotFound`` where HTTPS is disabled."""
        return self.endpoint(HTTPS).url

    @property
    def authority(self) -> Authority | None:
        """Whom clients have to trust, where the broker has made a certificate itself; None where it uses none."""
        return None if self._certificates is None else self._certificates.authority

    async def reload_certificates(self) -> bool:
        """Read all certificates, keys and revocation lists again now; those that changed are used from now on.

        Tells whether all of them can be used; where not, the log says why and the old ones stay. Without this changes
        are found within seconds. Raises ``BrokerStopped``.
        """
        if self._certificates is None:
            raise BrokerStopped(NOT_RUNNING)
        return await self._certificates.reload()

    @property
    def admin(self) -> Admin:
        """Everything that the REST API and the command line can do, as calls. Raises ``BrokerStopped``."""
        if self._admin is None:
            raise BrokerStopped(NOT_RUNNING)
        return self._admin

    @property
    def metrics(self) -> Metrics:
        """The broker's figures, from its start to its stop. Raises ``BrokerStopped``."""
        if self._metrics is None:
            raise BrokerStopped(NOT_RUNNING)
        return self._metrics

    # ------------------------------------------------------------ from inside the process

    async def publish(
        self,
        topic_name: str,
        payload: Payload = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        account: str | int | None = None,
        properties: PublishProperties | None = None,
    ) -> ReasonCode:
        """Publish one message into an account's topic space.

        For QoS 1 and 2 it returns when the broker has accepted the message as it does for any client: after its record
        is durable. ``account`` is a name or number; else it is that of the open listener, if there is one, or
        ``default``. Returns ``SUCCESS``, or ``NO_MATCHING_SUBSCRIBERS`` where QoS 1 or 2 reached nobody.

        Raises ``BadRequest``, ``PayloadTooLarge``, ``NotFound`` for an unknown account, ``PublishRefused``,
        ``BrokerStopped``, and ``WrongThread`` outside the thread of the broker's event loop.
        """
        local = self._inside()
        return await local.publish(self._account_id(account), topic_name, payload, qos, retain, properties or {})

    def subscribe(
        self,
        *topic_filters: str | Subscription,
        qos: int = 2,
        account: str | int | None = None,
        buffer: int = 100,
    ) -> MessageStream:
        """Subscribe in an account's topic space; see ``MessageStream`` for how messages are read and kept.

        A filter is text, with ``qos`` as the highest that deliveries have, or a ``broker.wire.Subscription`` with
        options of its own. ``buffer`` is how many messages of QoS 1 and 2 (1 to 65,535) may be on their way, read
        but not acknowledged. ``account`` is as for ``publish``. The subscription is asked for at once; it is in effect
        when ``async with`` has been entered, and without that unless very many clients subscribe at the same moment.

        Raises what ``publish`` does, and ``SubscribeRefused``.
        """
        return self._inside().subscribe(self._account_id(account), topic_filters, qos, buffer)

    def _inside(self) -> LocalClients:
        if self._local is None:
            raise BrokerStopped(NOT_RUNNING)
        if threading.get_ident() != self._thread:
            raise WrongThread(WRONG_THREAD)
        return self._local

    def _account_id(self, account: str | int | None) -> int:
        if isinstance(account, int):
            if not 0 <= account < 2**32:
                raise NotFound(f"there is no account {account}")
            return account
        if account is None and any(one.open for one in self._config.listeners):
            return OPEN_ACCOUNT_ID
        assert self._platform is not None  # it runs
        return self._platform.directory.accounts.named(DEFAULT_NAME if account is None else account).account_id

    def revoke(self, principal_id: int) -> None:
        """Cut a principal of your own Authenticator (its number there): who is no longer welcome has to leave now.

        Its connections end with 0x98, its sessions and wills with them. Nothing happens for one that is unknown; what
        the Authenticator answers from now on is its own affair. Raises ``BrokerStopped`` and ``WrongThread``.
        """
        self._inside()
        if not 0 <= principal_id < LOCAL_PRINCIPALS - OWN_PRINCIPALS:
            return  # no grant of an Authenticator's has it: it would be somebody else's
        self._reactor.shard.revoke_principal(OWN_PRINCIPALS + principal_id, self._reactor.now_ns())
        self._reactor.soon()

    def advance_clock(self, seconds: float) -> None:
        """Move all of this broker's clocks forward, for tests: what falls due meanwhile happens, in its order.

        Raises ``ValueError`` for a negative time.
        """
        self._inside()
        ns = round(seconds * NS_PER_S)
        assert self._platform is not None  # it runs
        self._platform.counting.count_at_once()  # until now it was another day
        self._clock.advance(ns)
        self._reactor.advance(ns)
        self._platform.take_all()

    # ------------------------------------------------------------ start and end

    async def __aenter__(self) -> Self:
        """Start: everything is loaded before the first listener opens.

        Raises ``ConfigError`` for an address that cannot be listened on, ``DataDirLocked`` and ``StoreError``.
        """
        try:
            self._stack = await self._started()
        except StoreDamaged:
            if self._config.strict or self._doubts_records:
                raise
            # A store whose pages are well holds a record that is not: each one is looked at, and the bad ones left out.
            self._doubts_records = True
            self._endpoints.clear()
            self._stack = await self._started()
        return self

    async def _started(self) -> AsyncExitStack:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            return stack.pop_all()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop: refuse newcomers, tell MQTT 5 clients 0x8B, flush, close the store."""
        try:
            await self._stack.aclose()
        finally:
            self._signals.close()
        self._endpoints.clear()

    async def run_until_signal(self) -> None:
        """Wait for SIGINT, SIGTERM or ``stop``; leaving the ``async with`` block then stops the broker.

        Meanwhile SIGHUP is ``reload_certificates``. The signals stay the broker's until it has stopped: a second one
        does not cut the first one's work short.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
            self._signals.callback(loop.remove_signal_handler, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        self._signals.callback(loop.remove_signal_handler, signal.SIGHUP)
        await self._stopping.wait()

    def _reload_soon(self) -> None:
        if self._certificates is not None:
            self._certificates.reload_soon()

    def stop(self) -> None:
        """Let ``run_until_signal`` return."""
        self._stopping.set()

    # ------------------------------------------------------------ start

    async def _start(self, stack: AsyncExitStack) -> None:
        config, clock = self._config, self._clock
        self._thread = threading.get_ident()
        descriptors = raise_descriptor_limit(config.capabilities.connections_maximum)
        data_dir = claim(config, stack)
        secret = data_dir.secret()
        doors = Doors.opened(config, stack)  # first of all: a taken port must not cost the first key
        disk = open_disk(data_dir, config, stack, self._wrap_store, records=self._doubts_records)
        observer = self._observer(stack)
        alarms = Alarms(observer)
        tell_damage(disk.damage, alarms, observer)
        certificates = self._certificates = open_certificates(
            config, data_dir.path / "tls", alarms, wall_s=clock.wall_s
        )
        stack.push_async_callback(self._end_certificates, certificates)
        core = Core(config, clock, disk.store, secret, alarms, self._on_local)
        core.leave_to(stack)
        self._reactor = core.reactor
        local = self._local = LocalClients(core.reactor, config.capabilities)
        stack.callback(self._end_local)
        gateway = Gateway(core.reactor, core.journal.durable)
        core.journal.before_seal = gateway.before_seal
        platform = self._platform = Platform(config, clock, core, gateway, disk.store, secret, observer, stack)
        self._first_key = await platform.directory.bootstrap(clock.wall_s())
        warn_of_missing_accounts(config.listeners, platform.directory.accounts)
        entrances = Entrances(config, core.reactor, certificates, observer)
        self._judging = self._judge(core, platform, local, entrances, observer)
        stack.push_async_callback(self._judging.end)
        core.answers = {
            RareKind.UPGRADE: lambda one: entrances.upgrades.answer(one[1], one[4], one[5]),
            RareKind.STORIES: lambda _: platform.telling.take(),
        }
        engine = self._judging.engine
        core.answer = lambda one: engine.answer((one,))
        core.start(stack)
        self._metrics = _metrics(core, disk, alarms, platform, certificates)
        admin = self._made_admin(platform, gateway, alarms)
        platform.start_webhooks(config, local, stack)
        self._judging.greet = platform.start_system_topics(admin.figures, gateway, config.system_interval_s, stack)
        serving = Serving(config, doors, certificates, entrances, self._judging.keep, core.give_way, core.has_traffic)
        api = application(admin, clock, config.http.allowed_origins, give_way=core.give_way)
        upkeep = Upkeep(disk.lmdb, config, lambda: alarms.set(DAMAGE, ""))
        self._endpoints += doors.endpoints(config)
        await serving.open(api, admin.operator, upkeep, stack)
        house = every(HOUSEKEEPING_S, lambda: _keep_house(admin, gateway), "housekeeping failed")
        keep_doing(stack, "housekeeping", house, admin.persist_seen)
        core.keep_writing(stack)
        platform.keep_going(stack)
        stack.push_async_callback(self._drain, core, admin, doors.listeners)
        admin.start_serving()
        self._admin = admin
        tell_endpoints(data_dir.path, self._endpoints, stack)
        log.info("ready", extra={"fields": {"descriptors": descriptors, "data_dir": str(config.data_dir)}})

    def _observer(self, stack: AsyncExitStack) -> Observer:
        if self._own_observer is None:
            return LogObserver(self._clock.monotonic_s)
        apart = ObserverApart(self._own_observer)
        stack.push_async_callback(apart.close)
        return apart

    def _judge(
        self, core: Core, platform: Platform, local: LocalClients, entrances: Entrances, observer: Observer
    ) -> Judging:
        authenticator = self._authenticator or DirectoryAuthenticator(
            platform.directory,
            monotonic=self._clock.monotonic_s,
            certificate_rules=certificate_rules(self._config.listeners),
            wall_s=self._clock.wall_s,
            claim_doors=claim_doors(self._config.listeners),
            tell=observer.event,
        )
        return Judging(
            core,
            authenticator,
            local,
            entrances.shown,
            observer,
            own=self._authenticator is not None,
            timeout_s=self._config.capabilities.connect_timeout_s,
        )

    def _made_admin(self, platform: Platform, gateway: Gateway, alarms: Alarms) -> Admin:
        return Admin(
            platform.directory,
            gateway,
            gateway,
            platform.counting,
            self._config,
            self._clock,
            lambda: self._endpoints,
            lambda: MetricsText(self.metrics.text(), CONTENT_TYPE),
            alarms.reasons,
            alarms.warnings,
            platform.telling.refresh,
        )

    def _on_local(self, handles: set[int]) -> None:
        if self._local is not None:
            self._local.on_local(handles)

    # ------------------------------------------------------------ stop

    async def _end_certificates(self, store: CertificateStore) -> None:
        self._certificates = None
        await store.close()

    def _end_local(self) -> None:
        local, self._local, self._admin, self._metrics = self._local, None, None, None
        if local is not None:
            local.close()

    async def _drain(self, core: Core, admin: Admin, listeners: Sequence[socket.socket]) -> None:
        admin.stop_serving()
        core.reactor.stop_accepting()
        for door in listeners:
            door.close()
        core.shard.fail_all(ReasonCode.SERVER_SHUTTING_DOWN)
        core.reactor.soon()
        for _ in range(int(DRAIN_S / FLUSH_STEP_S)):
            if not core.reactor.figures()["sockets"]:
                return
            await asyncio.sleep(FLUSH_STEP_S)


async def _keep_house(admin: Admin, gateway: Gateway) -> None:
    await admin.persist_seen()
    await admin.forget_old()
    await gateway.forget_accounts()


def _metrics(core: Core, disk: Disk, alarms: Alarms, platform: Platform, certificates: CertificateStore) -> Metrics:
    return Metrics(
        version("iot-broker"),
        {
            "core": core.shard.counters,
            "reactor": core.reactor.figures,
            "journal": core.shard.journal,
            "store": disk.store.figures,
            "alarms": alarms.figures,
            "directory": platform.directory.figures,
            "timeline": platform.directory.devices.timeline.figures,
            "certificates": certificates.figures,
        },
        HOLD_BOUNDS_NS,
    )
