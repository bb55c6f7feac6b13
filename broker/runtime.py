"""A whole broker in one object: wiring, start, drain, stop, signals.

Here belongs the order in which the floors come up and go down. Not here: any rule of theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from api import application
from broker._core.reactor import HOLD_BOUNDS_NS, Reactor
from broker._core.shard import Shard
from broker.accounts.authenticator import DirectoryAuthenticator
from broker.accounts.counting import Counting
from broker.accounts.directory import DEFAULT_NAME, Directory
from broker.accounts.telling import Telling
from broker.accounts.warnings import QuotaWarning
from broker.admin import Admin, MetricsText, SystemClock
from broker.admin.system_topics import SystemTopics
from broker.admin.upkeep import Upkeep
from broker.config import BrokerConfig
from broker.control import ControlServer
from broker.doors import Endpoint, certificate_rules, claim_doors
from broker.engine import Engine
from broker.engine.core import RareKind, RarePacket
from broker.errors import BrokerStopped, NotFound, StoreDamaged, WrongThread
from broker.local import LocalClients, MessageStream, PublishProperties
from broker.local.clients import Payload
from broker.net.certificates import HTTPS, Authority, CertificateStore, TlsMaterial, open_certificates
from broker.net.entrances import OPEN_ACCOUNT_ID, OPEN_PRINCIPAL_ID, Entrances
from broker.net.front import HttpFront
from broker.net.gateway import Gateway, core_limits
from broker.net.listeners import Doors, raise_descriptor_limit
from broker.observability.alarms import Alarms
from broker.observability.apart import ObserverApart
from broker.observability.logs import LogObserver
from broker.observability.metrics import CONTENT_TYPE, Metrics
from broker.ports import (
    LOCAL_PRINCIPALS,
    OWN_PRINCIPALS,
    Authenticator,
    ConnectRequest,
    Grant,
    Observer,
    Refusal,
    Store,
)
from broker.reasons import ReasonCode
from broker.storage.data_dir import DataDir
from broker.storage.journal import JournalWriter
from broker.storage.lmdb import LmdbStore
from broker.storage.rescue import Damage, finish_moves, prepare
from broker.webhooks import WebhookService
from broker.wire import Subscription

log = logging.getLogger(__name__)

DAMAGE = "damage"
OVERLAP_LOOK_S = 0.5
HOUSEKEEPING_S = 60.0
WRITE_S = 0.2
DRAIN_S = 1.0
FLUSH_STEP_S = 0.01
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
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
        self._directory: Directory | None = None
        self._counting: Counting | None = None
        self._telling: Telling | None = None
        self._endpoints: list[Endpoint] = []
        self._first_key: str | None = None
        self._metrics: Metrics | None = None
        self._certificates: CertificateStore | None = None
        self._front: HttpFront | None = None
        self._entrances: Entrances | None = None
        self._judging: set[asyncio.Task[None]] = set()
        self._greeted: Callable[[int], None] = lambda _: None
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
        assert self._directory is not None  # it runs
        return self._directory.accounts.named(DEFAULT_NAME if account is None else account).account_id

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
        assert self._counting is not None  # it runs
        self._counting.count_at_once()  # until now it was another day
        self._clock.advance(ns)
        self._reactor.advance(ns)
        self._counting.count_at_once()
        assert self._telling is not None
        self._telling.take_all()
        assert self._directory is not None
        self._directory.end_overdue(self._clock.wall_s())

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
        loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        descriptors = raise_descriptor_limit(self._config.capabilities.connections_maximum)
        data_dir = stack.enter_context(DataDir.claim(self._config.data_dir))
        finish_moves(data_dir.path)
        secret = data_dir.secret()
        doors = Doors.opened(self._config, stack)  # first of all: a taken port must not cost the first key
        damage = prepare(
            data_dir.path,
            map_size_bytes=self._config.store_map_size_bytes,
            strict=self._config.strict,
            records=self._doubts_records,
        )
        lmdb_store = LmdbStore(data_dir.store_path, map_size_bytes=self._config.store_map_size_bytes)
        store = self._wrap_store(lmdb_store)
        stack.push_async_callback(store.close)
        observer = self._observer(stack)
        alarms = Alarms(observer)
        if damage is not None:
            _tell_damage(damage, alarms, observer)
        self._open_certificates(data_dir, stack, alarms)
        upkeep = Upkeep(lmdb_store, self._config, lambda: alarms.set(DAMAGE, ""))
        shard = Shard(
            core_limits(self._config.capabilities),
            secret=secret,
            hash_seed=_hash_seed(secret),
            now_ns=self._clock.monotonic_ns(),
        )
        self._reactor = Reactor(
            shard, on_rare=self._on_rare, on_batch=self._on_batch, again=loop.call_soon, on_local=self._on_local
        )
        stack.callback(self._reactor.close)
        shard.set_wall(self._clock.monotonic_ns(), self._clock.wall_ns())
        self._journal = JournalWriter(
            shard,
            store,
            monotonic_ns=self._clock.monotonic_ns,
            settled=self._reactor.soon,
            refusing=lambda reason: alarms.set("store", reason),
        )
        stack.push_async_callback(self._journal.close)
        self._local = LocalClients(self._reactor, self._config.capabilities)
        stack.callback(self._end_local)
        gateway = Gateway(self._reactor, self._journal.durable)
        self._journal.before_seal = gateway.before_seal
        config = self._config
        directory = Directory(
            store,
            secret,
            gateway,
            budgets=config.account_budgets,
            audit_limits=config.audit,
            webhooks=config.webhooks,
            registration=config.registration,
            wall_ms=lambda: self._clock.wall_ns() // NS_PER_MS,
        )
        stack.callback(directory.chosen_passwords.close)
        _loaded(directory, self._clock.wall_s())
        self._restore(shard, store, directory)
        self._counting = Counting(directory.usage, gateway, self._clock.wall_ns, self._clock.monotonic_ns)
        self._counting.count_at_once()  # the month on record may have ended
        directory.usage.warnings.watch(partial(_tell_warning, observer))
        self._telling = Telling(
            directory.devices,
            gateway,
            gateway,
            self._clock.wall_ns,
            self._clock.monotonic_ns,
            self._config.restart_grace_s,
        )
        shard.watch_stories()
        self._directory = directory
        self._first_key = await directory.bootstrap(self._clock.wall_s())
        self._judge = self._authenticator or DirectoryAuthenticator(
            directory,
            monotonic=self._clock.monotonic_s,
            certificate_rules=certificate_rules(self._config.listeners),
            wall_s=self._clock.wall_s,
            claim_doors=claim_doors(self._config.listeners),
            tell=observer.event,
        )
        self._engine = Engine(
            shard, self._ask, self._reactor.peer, observer, self._reactor.peer_certificate, self._greet
        )
        assert self._certificates is not None  # just opened
        self._entrances = Entrances(self._config, self._reactor, self._certificates, observer)
        stack.push_async_callback(self._end_judging)
        loop.add_reader(self._reactor.fileno(), self._reactor.on_ready)
        stack.callback(loop.remove_reader, self._reactor.fileno())
        self._metrics = Metrics(
            version("iot-broker"),
            {
                "core": shard.counters,
                "reactor": self._reactor.figures,
                "journal": shard.journal,
                "store": store.figures,
                "alarms": alarms.figures,
                "directory": directory.figures,
                "timeline": directory.devices.timeline.figures,
                "certificates": self._certificate_figures,
            },
            HOLD_BOUNDS_NS,
        )
        admin = Admin(
            directory,
            gateway,
            gateway,
            self._counting,
            self._config,
            self._clock,
            lambda: self._endpoints,
            self._tell_figures,
            alarms.reasons,
            alarms.warnings,
            self._telling.refresh,
        )
        self._start_webhooks(directory, stack)
        self._start_system_topics(admin, gateway, stack)
        await self._open_doors(stack, admin, doors, upkeep)
        housekeeping = asyncio.create_task(self._keep_house(admin, gateway), name="housekeeping")
        stack.push_async_callback(self._end_housekeeping, housekeeping, admin)
        writing = asyncio.create_task(self._keep_writing(shard), name="journal")
        stack.push_async_callback(_end, writing)
        counting = asyncio.create_task(self._counting.run(), name="usage")
        stack.push_async_callback(self._end_counting, counting, self._counting)
        overdue = asyncio.create_task(self._end_overdue(directory), name="passwords and keys")
        stack.push_async_callback(_end, overdue)
        telling = asyncio.create_task(self._telling.run(), name="stories")
        stack.push_async_callback(_end_telling, telling, self._telling)
        stack.push_async_callback(self._drain, admin, doors.listeners)
        admin.start_serving()
        self._admin = admin
        self._tell_endpoints(data_dir, stack)
        log.info("ready", extra={"fields": {"descriptors": descriptors, "data_dir": str(self._config.data_dir)}})

    def _start_webhooks(self, directory: Directory, stack: AsyncExitStack) -> None:
        assert self._local is not None  # just made
        subscribe = partial(self._local.subscribe, qos=0, buffer=1)
        service = WebhookService(
            directory.webhooks,
            subscribe,
            self._config.webhooks,
            wall_s=self._clock.wall_s,
            monotonic_s=self._clock.monotonic_s,
        )
        directory.usage.warnings.watch(service.warn)
        service.start()
        stack.push_async_callback(service.stop)

    def _start_system_topics(self, admin: Admin, gateway: Gateway, stack: AsyncExitStack) -> None:
        assert self._directory is not None  # just made
        topics = SystemTopics(self._directory, admin.figures, gateway, self._config.system_interval_s)
        self._directory.usage.warnings.watch(topics.warn)
        self._greeted = lambda handle: _greet(topics, gateway.account_of(handle))
        task = asyncio.create_task(topics.run(), name="figures below $SYS")
        stack.push_async_callback(_end, task)

    def _greet(self, handle: int) -> None:
        self._greeted(handle)

    def _restore(self, shard: Shard, store: Store, directory: Directory) -> None:
        """Bring back what is on disk, before anybody comes; what cannot be read is left out, and said."""
        known = directory.known()
        started = self._clock.monotonic_ns()
        wrong = shard.restore(
            store.scan,
            started,
            self._clock.wall_ns(),
            known=lambda one: one == OPEN_PRINCIPAL_ID or known(one),
            restart_grace_s=self._config.restart_grace_s,
        )
        for table, count in wrong.items():
            log.error("%d records of table %s are damaged and were left out", count, table)
        took_s = (self._clock.monotonic_ns() - started) / NS_PER_S
        log.info("restored", extra={"fields": {**shard.journal(), "took_s": round(took_s, 3)}})

    def _open_certificates(self, data_dir: DataDir, stack: AsyncExitStack, alarms: Alarms) -> None:
        """Read or make the certificates of all that is encrypted, and take changed ones from now on."""
        store = open_certificates(self._config, data_dir.path / "tls", alarms, wall_s=self._clock.wall_s)
        store.on_change(self._take_certificate)
        store.start()
        self._certificates = store
        stack.push_async_callback(self._end_certificates, store)

    def _take_certificate(self, name: str, material: TlsMaterial) -> None:
        """Let handshakes that begin from now on have this certificate; ``name`` is the listener's, or ``https``.

        Raises ``ValueError`` when it is not taken; the old one stays in use.
        """
        if name == HTTPS and self._front is not None:
            self._front.take(material)
        elif self._entrances is not None:
            self._entrances.take(name, material)
            self._keep_judging(self._entrances.shown.cut())

    def _certificate_figures(self) -> dict[str, object]:
        assert self._certificates is not None  # it runs
        return self._certificates.figures()

    async def _open_doors(self, stack: AsyncExitStack, admin: Admin, doors: Doors, upkeep: Upkeep) -> None:
        assert self._certificates is not None  # opened before
        assert self._entrances is not None
        self._entrances.open(doors)
        self._endpoints += doors.endpoints(self._config)
        api = application(admin, self._clock, self._config.http.allowed_origins)
        self._front = HttpFront(api, doors, self._certificates, self._config)
        stack.push_async_callback(self._front.stop)
        await self._front.start()
        control = ControlServer(self._config.data_dir, admin.operator, upkeep)
        await control.start()
        stack.push_async_callback(control.stop)

    def _tell_endpoints(self, data_dir: DataDir, stack: AsyncExitStack) -> None:
        """Write ``DATA_DIR/endpoints.json``, for scripts that let the system pick ports."""
        file = data_dir.path / "endpoints.json"
        new = file.with_suffix(".new")
        stack.callback(file.unlink, missing_ok=True)
        try:
            new.write_text(json.dumps([asdict(one) for one in self._endpoints], indent=2) + "\n")
            new.replace(file)
        except OSError as error:  # nobody is kept from connecting by a full disk
            file.unlink(missing_ok=True)  # what a dead one has left
            log.warning("%s could not be written: %s", file, error.strerror)

    # ------------------------------------------------------------ while it runs

    def _tell_figures(self) -> MetricsText:
        return MetricsText(self.metrics.text(), CONTENT_TYPE)

    def _on_rare(self, rare: list[RarePacket]) -> None:
        for one in rare:
            try:
                if one[0] == RareKind.UPGRADE and self._entrances is not None:
                    self._entrances.upgrades.answer(one[1], one[4], one[5])
                elif one[0] == RareKind.STORIES and self._telling is not None:
                    self._telling.take()
                else:
                    self._engine.answer((one,))
            except Exception:  # one connection's trouble is not the others'
                log.exception("a rare packet could not be answered")
                self._reactor.shard.fail_connection(one[1], ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    def _on_batch(self) -> None:
        self._journal.write()
        self._journal.read_wanted()

    async def _keep_writing(self, shard: Shard) -> None:
        """Write what nobody waits for, look at the disk, and bring what is on it to those who wait for it."""
        while True:
            await asyncio.sleep(WRITE_S)
            try:
                shard.set_wall(self._clock.monotonic_ns(), self._clock.wall_ns())
                self._journal.write()
                self._journal.look()
            except Exception:
                log.exception("the journal could not be written")

    def _on_local(self, handles: set[int]) -> None:
        if self._local is not None:
            self._local.on_local(handles)

    def _ask(self, handle: int, request: ConnectRequest) -> None:
        if self._local is not None and (grant := self._local.grant_of(handle)) is not None:
            self._engine.judged(handle, grant)
            return
        self._keep_judging(self._decide(handle, request))

    def _keep_judging(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _decide(self, handle: int, request: ConnectRequest) -> None:
        try:
            async with asyncio.timeout(self._config.capabilities.connect_timeout_s):  # nobody waits any longer
                outcome = await self._judge.authenticate(request)
            if self._authenticator is not None:
                outcome = _judgement(outcome)
        except Exception:
            log.exception("the authenticator failed")
            outcome = Refusal(ReasonCode.SERVER_UNAVAILABLE)
        try:
            self._enter(handle, request, outcome)
        except Exception:  # the connection was refused; who wrote the Authenticator must hear why
            log.exception("the authenticator gave a grant that cannot be kept")
        self._reactor.soon()

    def _enter(self, handle: int, request: ConnectRequest, outcome: Grant | Refusal) -> None:
        shown = None if self._entrances is None or not request.certificate else self._entrances.shown
        if shown is not None and shown.is_revoked(request.listener, request.certificate):  # since its handshake
            outcome = Refusal(ReasonCode.NOT_AUTHORIZED)
        self._engine.judged(handle, outcome)
        if shown is not None:
            shown.note(handle, request.listener, request.certificate)

    async def _keep_house(self, admin: Admin, gateway: Gateway) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await admin.persist_seen()
                await admin.forget_old()
                await gateway.forget_accounts()
            except Exception:
                log.exception("housekeeping failed")

    async def _end_overdue(self, directory: Directory) -> None:
        """Let passwords end when their overlap is over, and keys when they expire."""
        while True:
            await asyncio.sleep(OVERLAP_LOOK_S)
            try:
                directory.end_overdue(self._clock.wall_s())
            except Exception:
                log.exception("a password or key could not be ended")

    def _observer(self, stack: AsyncExitStack) -> Observer:
        if self._own_observer is None:
            return LogObserver(self._clock.monotonic_s)
        apart = ObserverApart(self._own_observer)
        stack.push_async_callback(apart.close)
        return apart

    # ------------------------------------------------------------ stop

    async def _end_certificates(self, store: CertificateStore) -> None:
        self._certificates = self._front = self._entrances = None
        await store.close()

    def _end_local(self) -> None:
        local, self._local, self._admin, self._metrics = self._local, None, None, None
        if local is not None:
            local.close()

    async def _end_housekeeping(self, task: asyncio.Task[None], admin: Admin) -> None:
        await _end(task)
        await admin.persist_seen()

    async def _end_counting(self, task: asyncio.Task[None], counting: Counting) -> None:
        await _end(task)
        await counting.settle()  # where the disk takes nothing, the rest of the stop is not to be missed for it

    async def _drain(self, admin: Admin, doors: Sequence[socket.socket]) -> None:
        admin.stop_serving()
        self._reactor.stop_accepting()
        for door in doors:
            door.close()
        self._reactor.shard.fail_all(ReasonCode.SERVER_SHUTTING_DOWN)
        self._reactor.soon()
        for _ in range(int(DRAIN_S / FLUSH_STEP_S)):
            if not self._reactor.figures()["sockets"]:
                return
            await asyncio.sleep(FLUSH_STEP_S)

    async def _end_judging(self) -> None:
        for task in self._judging:
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)


def _greet(topics: SystemTopics, account_id: int | None) -> None:
    if account_id is not None:
        topics.greet(account_id)


def _loaded(directory: Directory, now_s: int) -> None:
    """Load the directory; whatever is wrong with its records, they are damaged."""
    try:
        directory.load(now_s)
    except StoreDamaged:
        raise
    except Exception as error:
        raise StoreDamaged(f"the store's accounts, keys or devices cannot be read: {error!r}") from error


def _tell_warning(observer: Observer, warning: QuotaWarning) -> None:
    """Say that an account comes to the end of what its plan allows."""
    observer.event(
        "quota_warning",
        account=warning.account,
        kind=warning.kind,
        percent=warning.percent,
        used=warning.used,
        maximum=warning.maximum,
        month=warning.month,
    )


def _tell_damage(damage: Damage, alarms: Alarms, observer: Observer) -> None:
    """Say what was rescued, at each start until the operator has acknowledged it; the broker does its work."""
    reason = (
        f"the store was damaged on {damage.at} and rescued: {damage.summary}; the damaged one is {damage.set_aside}"
    )
    observer.event(
        "store_rescued", at=damage.at, found=damage.found, set_aside=damage.set_aside, rescued=damage.summary
    )
    alarms.set(DAMAGE, reason, ready=True)


def _judgement(outcome: object) -> Grant | Refusal:
    """Return what an embedder's Authenticator answered, as the core takes it, or raise what is wrong with it."""
    if not isinstance(outcome, Grant | Refusal):
        raise TypeError(f"authenticate() has to return a Grant or a Refusal, not {outcome!r}")
    if isinstance(outcome, Refusal):
        return outcome
    number = OWN_PRINCIPALS + outcome.principal_id  # the directory gives numbers of its own
    if not OWN_PRINCIPALS <= number < LOCAL_PRINCIPALS:
        expected = f"0 to {LOCAL_PRINCIPALS - OWN_PRINCIPALS - 1}"
        raise ValueError(f"principal_id: expected {expected}, not {outcome.principal_id}")
    return replace(outcome, principal_id=number, credential=b"")  # the table is the directory's


def _hash_seed(secret: bytes) -> int:
    """Give the seed of hashes, some of which are on disk: the same at each start, and nobody else's."""
    return int.from_bytes(hashlib.blake2b(b"hash seed", key=secret, digest_size=8).digest(), "little")


async def _end_telling(task: asyncio.Task[None], telling: Telling) -> None:
    await _end(task)
    await telling.finish()  # everybody is gone, and it is written that they are


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
