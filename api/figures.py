"""The routes about figures: one call of ``admin.figures`` each, and its answer in the contract's words and units.

Here belongs how counts become MB, GB, percentages and text. Not here: any counting.
"""

from __future__ import annotations

from api.figure_models import (
    QuotaAnswer,
    QuotaLimits,
    QuotaPercentage,
    QuotaUsage,
    StatsAnswer,
    StatsBandwidth,
    StatsConnections,
    StatsDevices,
    StatsMessages,
    StatsRetained,
    StatsSessions,
    UsageAnswer,
    UsageDayAnswer,
    UsageDeviceAnswer,
    UsagePeriod,
    UsageQuery,
    UsageSummary,
)
from api.routes import ApiRequest
from broker.admin import moment_text

KB = 1024  # of a message's size, where 1,024 KB are 1,048,576 bytes
MB = 10**6
GB = 10**9


async def quota(request: ApiRequest) -> QuotaAnswer:
    """Tell what the plan allows and what has been used of it."""
    view = await request.admin.figures.quota(request.account_id)
    limits = QuotaLimits(
        max_devices=view.devices_maximum,
        max_messages_per_month=view.messages_per_month,
        max_bandwidth_gb=view.bytes_per_month // GB,
        max_message_size_kb=view.payload_maximum_bytes // KB,
        messages_per_second_per_device=view.device_messages_per_s,
    )
    usage = QuotaUsage(
        current_devices=view.devices, messages_this_month=view.messages, bandwidth_used_gb=gigabytes(view.bytes)
    )
    return QuotaAnswer(
        plan=view.plan,
        limits=limits,
        usage=usage,
        percentage_used=QuotaPercentage(
            devices=percentage(view.devices, view.devices_maximum),
            messages=percentage(view.messages, view.messages_per_month),
            bandwidth=percentage(view.bytes, view.bytes_per_month),
        ),
        reset_date=moment_text(view.ends_at),
        max_devices=limits.max_devices,
        current_devices=usage.current_devices,
        max_messages_per_month=limits.max_messages_per_month,
        current_messages=usage.messages_this_month,
        max_bandwidth_gb=limits.max_bandwidth_gb,
        current_bandwidth_gb=usage.bandwidth_used_gb,
    )


async def usage(request: ApiRequest) -> UsageAnswer:
    """Tell what was used on each day of a period."""
    query: UsageQuery = request.query
    view = await request.admin.figures.usage(request.account_id, query.start_date, query.end_date, query.device_id)
    return UsageAnswer(
        period=UsagePeriod(start_date=view.start.isoformat(), end_date=view.end.isoformat()),
        summary=UsageSummary(
            total_messages=view.messages,
            total_bandwidth_mb=megabytes(view.bytes),
            active_devices=view.active_devices,
            total_devices=view.total_devices,
        ),
        daily_breakdown=[
            UsageDayAnswer(
                date=day.day.isoformat(),
                messages=day.messages,
                bandwidth_mb=megabytes(day.bytes),
                active_devices=day.active_devices,
            )
            for day in view.days
        ],
        top_devices=[
            UsageDeviceAnswer(
                device_id=one.device_id, name=one.name, messages=one.messages, bandwidth_mb=megabytes(one.bytes)
            )
            for one in view.top
        ],
    )


async def stats(request: ApiRequest) -> StatsAnswer:
    """Tell how the account stands at this moment."""
    view = await request.admin.figures.stats(request.account_id)
    devices = view.devices
    return StatsAnswer(
        devices=StatsDevices(
            total=devices.total,
            active=devices.active,
            inactive=devices.inactive,
            error=devices.error,
            online=devices.online,
        ),
        connections=StatsConnections(
            current=view.connections,
            peak_today=view.connections_peak_today,
            by_protocol=view.connections_by_protocol,
        ),
        messages=StatsMessages(
            today=view.messages_today,
            this_month=view.messages_this_month,
            per_second_in=round(view.messages_per_s_in, 1),
            per_second_out=round(view.messages_per_s_out, 1),
        ),
        bandwidth=StatsBandwidth(today_mb=megabytes(view.bytes_today), this_month_gb=gigabytes(view.bytes_this_month)),
        retained=StatsRetained(count=view.retained_count, bytes=view.retained_bytes),
        sessions=StatsSessions(persistent=devices.persistent_sessions, queued_messages=devices.queued_messages),
        by_type=devices.by_type,
        updated_at=moment_text(devices.updated_at),
    )


def megabytes(count: int) -> float:
    """Give bytes in MB, exact to the byte."""
    return round(count / MB, 6)


def gigabytes(count: int) -> float:
    """Give bytes in GB, exact to the byte."""
    return round(count / GB, 9)


def percentage(used: int, maximum: int) -> float:
    """Give hundredths with one decimal."""
    return round(100 * used / maximum, 1)
