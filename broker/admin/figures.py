"""What an account may know about itself in figures: its quota, its usage by day, how it stands at this moment.

Here belong the verbs behind ``/quota``, ``/usage`` and ``/stats``. Not here: counting (``accounts``), how bytes become
GB and days text (``api``).
"""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from weakref import WeakValueDictionary

from broker.accounts.counting import Counting
from broker.accounts.days import KEPT_DAYS, day_of
from broker.accounts.directory import Directory
from broker.accounts.history import Period
from broker.accounts.records import Device
from broker.admin.clock import Clock
from broker.admin.standing import DeviceStanding
from broker.admin.views import DeviceCounts, QuotaView, StatsView, UsageView, UsedByDevice, UsedDay
from broker.config import Capabilities
from broker.errors import BadRequest
from broker.ports import PROTOCOLS, FigureSource

EPOCH = date(1970, 1, 1)
DAYS_BEFORE = 7  # the start, where none is given, stands so many days before the end
SLICE_DEVICES = 200  # looked at between two turns of the loop
FRESH_DEVICES = 1000  # up to so many are looked at for each question; of more, what was seen a moment ago will do
OLD_S = 1
TYPES = ("sensor", "actuator", "gateway", "other")
TYPES_MAXIMUM = 50  # told by name; who has more kinds finds the rest as ``other``


class Figures:
    """Figures of accounts that exist, up to this moment, also while the disk takes nothing.

    Raises ``Unavailable`` where the disk cannot be read.
    """

    def __init__(
        self,
        directory: Directory,
        counting: Counting,
        core: FigureSource,
        standing: DeviceStanding,
        clock: Clock,
        capabilities: Capabilities,
    ) -> None:
        self._directory = directory
        self._counting = counting
        self._core = core
        self._standing = standing
        self._clock = clock
        self._payload_maximum_bytes = capabilities.maximum_payload_bytes
        self._counted: dict[int, DeviceCounts] = {}  # of accounts with very many devices alone
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def quota(self, account_id: int) -> QuotaView:
        """Tell what an account's plan allows, what it has used, and when that begins anew."""
        await self._counting.count()
        plan = self._directory.accounts.plan(account_id)
        used = self._directory.usage.of(account_id)
        return QuotaView(
            plan=plan.name,
            devices_maximum=plan.devices_maximum,
            messages_per_month=plan.messages_per_month,
            bytes_per_month=plan.bytes_per_month,
            payload_maximum_bytes=min(plan.payload_maximum_bytes, self._payload_maximum_bytes),
            device_messages_per_s=plan.device_messages_per_s,
            devices=self._directory.devices.count(account_id),
            messages=used.messages,
            bytes=used.bytes,
            ends_at=self._directory.usage.ends_at(self._clock.wall_s()),
        )

    # ------------------------------------------------------------ usage

    async def usage(
        self, account_id: int, start: date | None = None, end: date | None = None, device_id: str | None = None
    ) -> UsageView:
        """Tell what an account, or one device of it, has used in a period of days of UTC.

        The end is today where none is given, the start seven days before the end. Raises ``NotFound``, and
        ``BadRequest`` for a period that ends before it starts or is too long.
        """
        first, last = self._period(start, end)
        device = None if device_id is None else self._directory.devices.get(account_id, device_id)
        await self._counting.count()
        days = range((first - EPOCH).days, (last - EPOCH).days + 1)
        history = self._directory.history
        if device is None:
            period = await history.of_account(account_id, days, self._directory.devices.knows)
            total = self._directory.devices.count(account_id)
        else:
            period, total = await history.of_device(account_id, device.device_number, days), 1
        return UsageView(
            start=first,
            end=last,
            messages=sum(day.messages for day in period.days),
            bytes=sum(day.bytes for day in period.days),
            active_devices=period.active_devices,
            total_devices=total,
            days=[
                UsedDay(EPOCH + timedelta(day.day), day.messages, day.bytes, day.active_devices) for day in period.days
            ],
            top=self._top(period),
        )

    def _period(self, start: date | None, end: date | None) -> tuple[date, date]:
        last = end or EPOCH + timedelta(day_of(self._clock.wall_s()))
        first = start or max(last - timedelta(DAYS_BEFORE), EPOCH)
        if first > last:
            field, provided, expected = "start_date", first, f"a date that is not after the end, {last.isoformat()}"
            if start is None:
                field, provided, expected = "end_date", last, "a date that is not before the start"
            raise BadRequest(
                f"{field}: expected {expected}", field=field, provided=provided.isoformat(), expected=expected
            )
        if (last - first).days >= KEPT_DAYS:
            expected = f"at most {KEPT_DAYS} days until the end, {last.isoformat()}"
            raise BadRequest(
                f"start_date: expected {expected}",
                field="start_date",
                provided=first.isoformat(),
                expected=expected,
            )
        return first, last

    def _top(self, period: Period) -> list[UsedByDevice]:
        found = ((self._directory.devices.numbered(number), used) for number, used in period.top)
        return [UsedByDevice(device.device_id, device.name, *used) for device, used in found if device is not None]

    # ------------------------------------------------------------ stats

    async def stats(self, account_id: int, *, counted: bool = True) -> StatsView:
        """Tell how an account stands; where it need not be ``counted`` for that, as it was a second or so ago."""
        devices = await self._devices(account_id)
        if counted:
            await self._counting.count()
        today = await self._directory.history.day(account_id, day_of(self._clock.wall_s()))
        month = self._directory.usage.of(account_id)
        rates = self._counting.rate(account_id)
        now = self._core.account_standing(account_id)
        return StatsView(
            devices=devices,
            connections=sum(now.connections),
            connections_peak_today=max(now.connections_peak, today.connections_peak),
            connections_by_protocol=dict(zip(PROTOCOLS, now.connections, strict=True)),
            messages_today=today.messages,
            bytes_today=today.bytes,
            messages_this_month=month.messages,
            bytes_this_month=month.bytes,
            messages_per_s_in=rates[0],
            messages_per_s_out=rates[1],
            retained_count=now.retained_count,
            retained_bytes=now.retained_bytes,
        )

    async def _devices(self, account_id: int) -> DeviceCounts:
        """Look at each device; where there are very many, not for every question anew."""
        if self._directory.devices.count(account_id) <= FRESH_DEVICES:
            self._counted.pop(account_id, None)
            return await self._count_devices(account_id)
        async with self._locks.setdefault(account_id, asyncio.Lock()):
            counted = self._counted.get(account_id)
            if counted is None or not 0 <= self._clock.wall_s() - counted.updated_at <= OLD_S:
                counted = self._counted[account_id] = await self._count_devices(account_id)
            return counted

    async def _count_devices(self, account_id: int) -> DeviceCounts:
        adding = _DeviceCounting(self._core, self._standing)
        for principal_id in self._directory.keys.principals_of(account_id):
            adding.add_principal(principal_id)
        async for part in self._directory.devices.slices(account_id, SLICE_DEVICES):
            for device in part:
                adding.add(device)
        return adding.counts(self._clock.wall_s())


class _DeviceCounting:
    """Devices and principals, added up."""

    def __init__(self, core: FigureSource, standing: DeviceStanding) -> None:
        self._core = core
        self._standing = standing
        self._by_status = {"active": 0, "inactive": 0, "error": 0}
        self._by_type = dict.fromkeys(TYPES, 0)
        self._online = self._persistent = self._queued = 0

    def add(self, device: Device) -> None:
        """Look at a device and its sessions."""
        self._online += self.add_principal(device.device_number) > 0
        self._by_status[self._standing.status(device)] += 1
        kind = device.device_type
        if kind not in self._by_type and len(self._by_type) >= TYPES_MAXIMUM:
            kind = "other"
        self._by_type[kind] = self._by_type.get(kind, 0) + 1

    def add_principal(self, principal_id: int) -> int:
        """Look at a principal's sessions; gives its connections."""
        has = self._core.standing(principal_id)
        self._persistent += has.persistent_sessions
        self._queued += has.queued_messages
        return has.connections

    def counts(self, now_s: int) -> DeviceCounts:
        """Give the sums."""
        return DeviceCounts(
            total=sum(self._by_status.values()),
            online=self._online,
            by_type=self._by_type,
            persistent_sessions=self._persistent,
            queued_messages=self._queued,
            updated_at=now_s,
            **self._by_status,
        )
