"""What an account may read and command: its devices, their logins, messages to them.

Here belong the verbs behind the REST API, one for each route. Not here: HTTP and JSON (``api``), the operator's verbs
(``operator``), and any rule of MQTT.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from broker.accounts.counting import Counting
from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.directory import Directory
from broker.accounts.records import Device
from broker.admin.clock import Clock
from broker.admin.figures import Figures
from broker.admin.operator import Operator
from broker.admin.registration import Registration
from broker.admin.standing import DeviceStanding
from broker.admin.views import (
    CommandReceipt,
    ConnectionInfo,
    CredentialsInfo,
    DeviceFilter,
    DeviceLogin,
    DevicePage,
    DeviceView,
    KeyContext,
    MetricsText,
    MqttCredentials,
)
from broker.admin.webhooks import WebhookDesk
from broker.config import BrokerConfig
from broker.doors import Endpoint
from broker.errors import AuthFailed, NotFound, PayloadTooLarge, PermissionDenied, Unavailable
from broker.policy.credentials import new_message_id
from broker.ports import PROTOCOLS, FigureSource, Publisher

MQTT_VERSIONS = ("3.1.1", "5.0")
BEST_FIRST = ("mqtts", "mqtt", "wss", "ws")  # what a new device is told to use

SLICE_LOGINS = 100  # as many as are rendered between two turns of the loop


class Admin:
    """The face of a running broker for everything outside MQTT.

    ``operator``, ``figures``, ``registration`` and ``webhooks`` have verbs of their own. ``endpoints`` is asked for the
    listeners as they really listen, when clients are told ports. Until ``start_serving`` and after ``stop_serving`` the
    broker is not ready, and changes are refused as ``Unavailable``. ``tell_figures`` gives the text of ``metrics``;
    without it there is none. ``troubles`` says what is wrong with the broker as a whole; while it says anything the
    broker is not ready, and takes what it can. ``warnings`` says what somebody has to know though all is taken.
    """

    def __init__(
        self,
        directory: Directory,
        publisher: Publisher,
        core: FigureSource,
        counting: Counting,
        config: BrokerConfig,
        clock: Clock,
        endpoints: Callable[[], Sequence[Endpoint]],
        tell_figures: Callable[[], MetricsText] | None = None,
        troubles: Callable[[], Sequence[str]] = tuple,
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._directory = directory
        self._publisher = publisher
        self._standing = DeviceStanding(directory, core, clock)
        self._config = config
        self._clock = clock
        self._endpoints = endpoints
        self._tell_figures = tell_figures
        self._troubles = troubles
        self._warnings = warnings
        self._serving = False
        self.operator = Operator(directory, clock)
        self.registration = Registration(directory.batch, clock, self._require_serving, self._registered)
        self.webhooks = WebhookDesk(directory.webhooks, config, clock, self._require_serving)
        self.figures = Figures(directory, counting, core, self._standing, clock, config.capabilities)

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
        """Refuse requests from now on."""
        self._serving = False

    def authenticate_key(self, api_key: str) -> KeyContext:
        """Tell who asks. Raises ``AuthFailed`` with one text for all reasons, ``PermissionDenied`` when suspended."""
        key = self._directory.keys.find(api_key)
        if key is None:
            raise AuthFailed("a valid API key is required")
        if self._directory.accounts.get(key.account_id).suspended:
            raise PermissionDenied("this account is suspended")
        self._directory.keys.note_use(key.key_id, self._clock.wall_s())
        return KeyContext(key.account_id, key.key_id, key.name)

    def metrics(self, *, from_loopback: bool) -> MetricsText:
        """Tell the figures of the whole broker. Raises ``NotFound`` to whom the configuration does not tell them."""
        allowed = self._config.http.metrics
        if self._tell_figures is None or allowed == "off" or (allowed == "loopback" and not from_loopback):
            raise NotFound("there is no such path")
        return self._tell_figures()

    async def create_device(
        self, account_id: int, description: DeviceDescription
    ) -> tuple[DeviceView, MqttCredentials]:
        """Register a device; durable when it returns.

        Raises ``QuotaExceeded``, ``Conflict``, ``BadRequest`` for an id that is no topic level, ``Unavailable``.
        """
        self._require_serving()
        device, password = await self._directory.devices.create(account_id, description, self._clock.wall_s())
        return self._registered(device, password)

    def _registered(self, device: Device, password: str) -> tuple[DeviceView, MqttCredentials]:
        return self._view(device), self._credentials(device, password)

    async def get_device(self, account_id: int, device_id: str) -> DeviceView:
        """Show one device. Raises ``NotFound``."""
        return self._detail(self._directory.devices.get(account_id, device_id))

    async def list_devices(self, account_id: int, limit: int, offset: int, which: DeviceFilter) -> DevicePage:
        """Show a page of an account's devices, newest first and stable."""
        devices = self._directory.devices
        if which == DeviceFilter():
            found, total = devices.page(account_id, limit, offset), devices.count(account_id)
        else:
            found, total = await devices.search(account_id, self._matcher(which), limit, offset)
        return DevicePage([self._view(device) for device in found], total)

    async def change_device(self, account_id: int, device_id: str, change: DeviceChange) -> DeviceView:
        """Change a device; durable when it returns, and who may not stay connected is cut.

        Raises ``NotFound``, ``Conflict`` for a certificate of another device, ``BadRequest``, ``Unavailable``.
        """
        self._require_serving()
        changed = await self._directory.devices.change(account_id, device_id, change, self._clock.wall_s())
        return self._detail(changed)

    async def rotate_password(self, account_id: int, device_id: str, overlap_s: int) -> tuple[MqttCredentials, int]:
        """Give a device a new password; durable when it returns, with the moment (UTC) at which the old one ends.

        The old one lets in for ``overlap_s`` more; who came in with one that has ended is cut. Raises ``NotFound``.
        """
        self._require_serving()
        now_s = self._clock.wall_s()
        device, password = await self._directory.devices.rotate(account_id, device_id, overlap_s, now_s)
        return self._credentials(device, password), device.previous_until or now_s

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

    async def send_command(self, account_id: int, device_id: str, payload: bytes, qos: int = 1) -> CommandReceipt:
        """Publish to a device's commands, with QoS 0 or 1; with QoS 1 it is on disk when this returns.

        Raises ``NotFound``, and ``PayloadTooLarge`` over the capabilities' maximum payload.
        """
        self._require_serving()
        device = self._directory.devices.get(account_id, device_id)
        if len(payload) > self._config.capabilities.maximum_payload_bytes:
            raise PayloadTooLarge(f"payload: at most {self._config.capabilities.maximum_payload_bytes} bytes")
        topic_name = f"devices/{device.device_id}/commands"
        sessions = await self._publisher.publish(account_id, topic_name, payload, qos)
        return CommandReceipt(new_message_id(), topic_name, "sent" if sessions else "no_subscriber")

    async def persist_seen(self) -> None:
        """Store when devices were last seen, passwords and keys last used; asked every minute and before the stop."""
        devices = self._directory.devices
        for account_id in devices.account_ids():
            async for part in devices.slices(account_id, SLICE_LOGINS):
                seen = ((device.device_number, self._standing.last_seen(device)) for device in part)
                await devices.sightings.record({number: at for number, at in seen if at is not None})
                await devices.passwords.record_use(self._standing.passwords_used(part))
        await self._directory.flush()

    def _require_serving(self) -> None:
        if not self._serving:
            raise Unavailable("the broker is not taking requests now")

    def _detail(self, device: Device) -> DeviceView:
        return replace(self._view(device), passwords=self._standing.passwords(device))

    def _view(self, device: Device) -> DeviceView:
        return DeviceView(
            device_id=device.device_id,
            name=device.name,
            description=device.description,
            device_type=device.device_type,
            status=self._standing.status(device),
            metadata_json=device.metadata_json,
            created_at=device.created_at,
            updated_at=device.updated_at,
            last_seen=self._standing.last_seen(device),
            online=self._standing.online(device),
            username=device.user_name,
            certificate_fingerprint=device.certificate_fingerprint,
        )

    def _matcher(self, which: DeviceFilter) -> Callable[[Device], bool]:
        needle = which.search.casefold()

        def matches(device: Device) -> bool:
            return (
                (not which.device_type or device.device_type == which.device_type)
                and (not needle or needle in device.name.casefold() or needle in device.description.casefold())
                and (not which.status or self._standing.status(device) == which.status)
            )

        return matches

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
