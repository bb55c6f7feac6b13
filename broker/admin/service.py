"""What an account may read and change: its devices and their logins.

Here belong the verbs behind the REST API, one for each route. Not here: HTTP and JSON (``api``), messages to devices
(``commands``), figures (``figures``), the operator's verbs (``operator``), and any rule of MQTT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from broker.accounts.counting import Counting
from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.device_search import Sought
from broker.accounts.directory import Directory
from broker.accounts.records import Device
from broker.admin.access import Access
from broker.admin.accounts import AccountVerbs
from broker.admin.admin_keys import AdminKeyVerbs
from broker.admin.answers import Answers, Keeping, kept_by
from broker.admin.audit import AuditTrail
from broker.admin.authorities import AuthorityVerbs
from broker.admin.claims import ClaimVerbs
from broker.admin.clock import Clock
from broker.admin.commands import Commands
from broker.admin.connections import Connections, ConnectionSource
from broker.admin.figures import Figures
from broker.admin.keys import KeyVerbs
from broker.admin.operator import Operator
from broker.admin.policy_check import PolicyCheck, PolicyJudge
from broker.admin.registration import Registration
from broker.admin.standing import DeviceStanding
from broker.admin.timelines import Timelines
from broker.admin.transfer import Transfer
from broker.admin.views import (
    ConnectionInfo,
    CredentialsInfo,
    DeviceFilter,
    DeviceLogin,
    DevicePage,
    DeviceView,
    MetricsText,
    MqttCredentials,
    PasswordView,
)
from broker.admin.webhooks import WebhookDesk
from broker.config import BrokerConfig
from broker.doors import Endpoint
from broker.errors import NotFound, Unavailable
from broker.ports import PROTOCOLS, FigureSource, OpenConnection, Publisher

MQTT_VERSIONS = ("3.1.1", "5.0")
BEST_FIRST = ("mqtts", "mqtt", "wss", "ws")  # what a new device is told to use

SLICE_LOGINS = 100  # as many as are rendered between two turns of the loop
TURN_VIEWS = 25  # the same of devices with all that is known of them


class CoreSource(FigureSource, ConnectionSource, PolicyJudge, Protocol):
    """All that is asked of the core here."""


class Admin:
    """The face of a running broker for everything outside MQTT.

    ``access``, ``accounts``, ``keys``, ``admin_keys``, ``audit``, ``operator``, ``figures``, ``registration``,
    ``commands``, ``answers``, ``timelines``, ``policies``, ``connections``, ``webhooks``, ``claims`` and
    ``authorities``    have verbs of their own.

    ``endpoints`` is asked for the listeners as they really listen, when clients are told ports. Until ``start_serving``
    and after ``stop_serving`` the broker is not ready, and changes are refused as ``Unavailable``. ``tell_figures``
    gives the text of ``metrics``; without it there is none. ``troubles`` says what is wrong with the broker as a whole;
    while it says anything the broker is not ready, and takes what it can. ``warnings`` says what somebody has to know
    though all is taken. ``gather`` brings what has happened to devices until now into their timelines.
    """

    def __init__(
        self,
        directory: Directory,
        publisher: Publisher,
        core: CoreSource,
        counting: Counting,
        config: BrokerConfig,
        clock: Clock,
        endpoints: Callable[[], Sequence[Endpoint]],
        tell_figures: Callable[[], MetricsText] | None = None,
        troubles: Callable[[], Sequence[str]] = tuple,
        warnings: Callable[[], Sequence[str]] = tuple,
        gather: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._directory = directory
        self._standing = DeviceStanding(directory, core, clock)
        self._config = config
        self._clock = clock
        self._endpoints = endpoints
        self._tell_figures = tell_figures
        self._troubles = troubles
        self._warnings = warnings
        self._serving = False
        self.access = Access(directory, core, clock)
        self.keys = KeyVerbs(directory, core, clock)
        self.accounts = AccountVerbs(directory, clock)
        self.admin_keys = AdminKeyVerbs(directory, clock)
        self.audit = AuditTrail(directory, clock)
        self.registration = Registration(directory.batch, clock, self._require_serving, self._registered)
        self.operator = Operator(self.accounts, self.keys, self.admin_keys, self.audit, Transfer(directory, clock))
        self.timelines = Timelines(directory) if gather is None else Timelines(directory, gather)
        self.policies = PolicyCheck(directory, core)
        self.connections = Connections(directory, core, [one.name for one in config.listeners])
        self.webhooks = WebhookDesk(directory.webhooks, config, clock, self._require_serving)
        self.authorities = AuthorityVerbs(directory, clock, self._require_serving)
        self.claims = ClaimVerbs(directory, clock, self._require_serving)
        self.figures = Figures(directory, counting, core, self._standing, clock, config.capabilities)
        self.answers = Answers(directory.answers, clock)
        self.commands = Commands(
            directory, publisher, clock, config.capabilities.maximum_payload_bytes, self._require_serving
        )

    @property
    def not_ready_because(self) -> str:
        """Why the broker should get no new work: it starts or stops, or something is wrong; empty when it is ready."""
        if not self._serving:
            return "it is starting or stopping"
        return "; ".join(self._troubles())

    @property
    def degraded_because(self) -> str:
        """What somebody has to know about a broker that is ready; empty when there is nothing."""
        return "; ".join(self._warnings())

    def start_serving(self) -> None:
        """Take requests from now on."""
        self._serving = True

    def stop_serving(self) -> None:
        """Refuse requests from now on; who waits for something is answered."""
        self._serving = False
        self.commands.stop()

    def metrics(self, *, from_loopback: bool) -> MetricsText:
        """Tell the figures of the whole broker. Raises ``NotFound`` to whom the configuration does not tell them."""
        allowed = self._config.http.metrics
        if self._tell_figures is None or allowed == "off" or (allowed == "loopback" and not from_loopback):
            raise NotFound("there is no such path")
        return self._tell_figures()

    async def create_device(
        self,
        account_id: int,
        description: DeviceDescription,
        keeping: Keeping[tuple[DeviceView, MqttCredentials]] | None = None,
    ) -> tuple[DeviceView, MqttCredentials]:
        """Register a device; durable when it returns, together with what ``keeping`` says of the outcome.

        Raises ``QuotaExceeded``, ``Conflict``, ``BadRequest`` for an id that is no topic level, ``Unavailable``.
        """
        self._require_serving()
        beside = kept_by(keeping, self._registered)
        made = await self._directory.devices.create(account_id, description, self._clock.wall_s(), beside)
        return self._registered(*made)

    def _registered(self, device: Device, password: str) -> tuple[DeviceView, MqttCredentials]:
        return self._view(device), self._credentials(device, password)

    async def get_device(self, account_id: int, device_id: str) -> DeviceView:
        """Show one device. Raises ``NotFound``."""
        return self._detail(self._directory.devices.get(account_id, device_id))

    async def list_devices(self, account_id: int, limit: int, offset: int, which: DeviceFilter) -> DevicePage:
        """Show a page of an account's devices, newest first and stable."""
        devices = self._directory.devices
        views: list[DeviceView] = []
        if which == DeviceFilter():
            numbers, total = devices.page_numbers(account_id, limit, offset), devices.count(account_id)
            for start in range(0, len(numbers), TURN_VIEWS):
                if start:
                    await asyncio.sleep(0)  # a device may be removed meanwhile
                found = map(devices.numbered, numbers[start : start + TURN_VIEWS])
                views += [self._view(one) for one in found if one is not None]
            return DevicePage(views, total)
        sought = Sought(which.search, which.device_type, which.status)
        matching, total = await devices.search(account_id, sought, self._standing.is_in_error, limit, offset)
        for start in range(0, len(matching), TURN_VIEWS):
            if start:
                await asyncio.sleep(0)
            views += map(self._view, matching[start : start + TURN_VIEWS])
        return DevicePage(views, total)

    async def change_device(self, account_id: int, device_id: str, change: DeviceChange) -> DeviceView:
        """Change a device; durable when it returns, and who may not stay connected is cut.

        Raises ``NotFound``, ``Conflict`` for a certificate of another device, ``BadRequest``, ``Unavailable``.
        """
        self._require_serving()
        changed = await self._directory.devices.change(account_id, device_id, change, self._clock.wall_s())
        return self._detail(changed)

    async def rotate_password(
        self,
        account_id: int,
        device_id: str,
        overlap_s: int,
        keeping: Keeping[tuple[MqttCredentials, int]] | None = None,
    ) -> tuple[MqttCredentials, int]:
        """Give a device a new password; durable when it returns, with the moment (UTC) at which the old one ends.

        The old one lets in for ``overlap_s`` more; who came in with one that has ended is cut. What ``keeping`` says of
        the outcome is on disk with it. Raises ``NotFound``.
        """
        self._require_serving()
        now_s = self._clock.wall_s()

        def told(device: Device, password: str) -> tuple[MqttCredentials, int]:
            return self._credentials(device, password), device.previous_until or now_s

        beside = kept_by(keeping, told)
        return told(*await self._directory.devices.rotate(account_id, device_id, overlap_s, now_s, beside))

    async def delete_device(self, account_id: int, device_id: str) -> None:
        """Remove a device for good and cut its connections; durable when it returns. Raises ``NotFound``."""
        self._require_serving()
        await self._directory.devices.delete(account_id, device_id)

    async def credentials_info(self, account_id: int, limit: int | None = None, offset: int = 0) -> CredentialsInfo:
        """Tell where and as whom the devices connect: all of them, or one page when ``limit`` is given."""
        devices = self._directory.devices
        parts = (
            devices.slices(account_id, SLICE_LOGINS) if limit is None else _one(devices.page(account_id, limit, offset))
        )
        return CredentialsInfo(self._connection_info(), self._logins(parts), devices.count(account_id))

    async def persist_seen(self) -> None:
        """Store when devices were last seen, passwords and keys last used; asked every minute and before the stop."""
        devices = self._directory.devices
        for account_id in devices.account_ids():
            async for numbers in devices.numbers(account_id, SLICE_LOGINS):
                part = [device for number in numbers if (device := self._seen_since_start(number)) is not None]
                seen = ((device.device_number, self._standing.last_seen(device)) for device in part)
                await devices.sightings.record({number: at for number, at in seen if at is not None})
                await devices.passwords.record_use(self._standing.passwords_used(part))
        self.keys.note_connects()
        await self._directory.flush()

    def _seen_since_start(self, number: int) -> Device | None:
        """Give a device, if there is anything new to tell of it: of most of a large fleet there is nothing."""
        return self._directory.devices.numbered(number) if self._standing.was_seen(number) else None

    async def forget_old(self) -> None:
        """Remove what is kept for a time alone: answers, the audit log, what became of messages; asked every minute."""
        await self._directory.forget_old(self._clock.wall_s())

    def _require_serving(self) -> None:
        if not self._serving:
            raise Unavailable("the broker is not taking requests now")

    def _detail(self, device: Device) -> DeviceView:
        return self._view(device, self._standing.passwords(device), self._standing.connection(device))

    def _view(
        self, device: Device, passwords: Sequence[PasswordView] = (), now: OpenConnection | None = None
    ) -> DeviceView:
        last_seen, online = self._standing.seen(device)
        return DeviceView(
            device_id=device.device_id,
            name=device.name,
            description=device.description,
            device_type=device.device_type,
            status=self._standing.status(device),
            metadata_json=device.metadata_json,
            created_at=device.created_at,
            updated_at=device.updated_at,
            last_seen=last_seen,
            online=online,
            username=device.user_name,
            certificate_fingerprint=device.certificate_fingerprint,
            passwords=passwords,
            connected_at=None if now is None else now.connected_at,
            protocol="" if now is None else now.protocol,
            address="" if now is None else now.address,
        )

    async def _logins(self, parts: AsyncIterator[Sequence[Device]]) -> AsyncIterator[Sequence[DeviceLogin]]:
        async for part in parts:
            yield [
                DeviceLogin(
                    device.device_id, device.name, device.user_name, device.device_id, self._standing.status(device)
                )
                for device in part
            ]

    def _credentials(self, device: Device, password: str) -> MqttCredentials:
        info = self._connection_info()
        protocol = next((name for name in BEST_FIRST if name in info.ports), BEST_FIRST[0])
        port = info.ports.get(protocol, 0)
        return MqttCredentials(device.user_name, password, device.device_id, info.broker, port, protocol)

    def _connection_info(self) -> ConnectionInfo:
        """Build from the listeners, the first of each protocol, and what is configured to be told instead.

        A Unix socket is nothing for devices: it has no port, and whoever may use it knows where it is.
        """
        listening = {one.protocol: one.port for one in reversed(self._endpoints()) if not one.unix_path}
        told = {**listening, **{str(name): port for name, port in self._config.public_ports.items()}}
        ports = {name: told[name] for name in PROTOCOLS if name in told}
        return ConnectionInfo(self._config.public_host, ports, list(ports), MQTT_VERSIONS)


async def _one(devices: Sequence[Device]) -> AsyncIterator[Sequence[Device]]:
    yield devices
