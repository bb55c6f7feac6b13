"""Queries and answers about figures as the contract spells them: quota, usage, stats.

Here belong fields and units: MB and GB are powers of ten, exact to the byte. Not here: where the figures come from
(``broker.admin``).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator, Field

from api.models import Answer, Query

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FIRST_YEAR = 1970
DATE_EXPECTED = "a date as YYYY-MM-DD, from 1970-01-01 on"


def _date(value: object) -> object:
    """Take a day of the calendar in one spelling; ISO 8601 has many."""
    if isinstance(value, str):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            raise ValueError(DATE_EXPECTED) from None
        if DATE.fullmatch(value) is None or day.year < FIRST_YEAR:
            raise ValueError(DATE_EXPECTED)
        return day
    return value


DateOfQuery = Annotated[date, BeforeValidator(_date)]


class UsageQuery(Query):
    """Which days, both included, and of which device; all of them without one."""

    start_date: DateOfQuery | None = None
    end_date: DateOfQuery | None = None
    device_id: str | None = Field(None, max_length=64)


class QuotaLimits(Answer):
    """What the plan allows."""

    max_devices: int
    max_messages_per_month: int
    max_bandwidth_gb: int
    max_message_size_kb: int
    messages_per_second_per_device: int


class QuotaUsage(Answer):
    """What has been used of it."""

    current_devices: int
    messages_this_month: int
    bandwidth_used_gb: float


class QuotaPercentage(Answer):
    """The same in hundredths; more than 100 for what was on its way, and where a plan has become smaller."""

    devices: float
    messages: float
    bandwidth: float


class QuotaAnswer(Answer):
    """The long form and the short one, which has the last six."""

    plan: str
    limits: QuotaLimits
    usage: QuotaUsage
    percentage_used: QuotaPercentage
    reset_date: str
    max_devices: int
    current_devices: int
    max_messages_per_month: int
    current_messages: int
    max_bandwidth_gb: int
    current_bandwidth_gb: float


class UsagePeriod(Answer):
    """Both dates are included."""

    start_date: str
    end_date: str


class UsageSummary(Answer):
    """Of the whole period."""

    total_messages: int
    total_bandwidth_mb: float
    active_devices: int
    total_devices: int


class UsageDayAnswer(Answer):
    """One day of UTC."""

    date: str
    messages: int
    bandwidth_mb: float
    active_devices: int


class UsageDeviceAnswer(Answer):
    """One of the devices with most messages."""

    device_id: str
    name: str
    messages: int
    bandwidth_mb: float


class UsageAnswer(Answer):
    """Usage by day, the newest first."""

    period: UsagePeriod
    summary: UsageSummary
    daily_breakdown: list[UsageDayAnswer]
    top_devices: list[UsageDeviceAnswer]


class StatsDevices(Answer):
    """By status; ``online`` ones may have any."""

    total: int
    active: int
    inactive: int
    error: int
    online: int


class StatsConnections(Answer):
    """Over the network."""

    current: int
    peak_today: int
    by_protocol: dict[str, int]


class StatsMessages(Answer):
    """Both directions together, but for the last two."""

    today: int
    this_month: int
    per_second_in: float
    per_second_out: float


class StatsBandwidth(Answer):
    """Both directions together."""

    today_mb: float
    this_month_gb: float


class StatsRetained(Answer):
    """As budgets count it."""

    count: int
    bytes: int


class StatsSessions(Answer):
    """``persistent`` ones outlive their connections; messages are those that wait in queues."""

    persistent: int
    queued_messages: int


class StatsAnswer(Answer):
    """An account at this moment; devices, sessions and types at ``updated_at``."""

    devices: StatsDevices
    connections: StatsConnections
    messages: StatsMessages
    bandwidth: StatsBandwidth
    retained: StatsRetained
    sessions: StatsSessions
    by_type: dict[str, int]
    updated_at: str
