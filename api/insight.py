"""The routes about what has happened to devices, and about what they may do: one call of ``admin`` each.

Here belongs the translation between models and snapshots. Not here: sentences and rules (``broker.admin``).
"""

from __future__ import annotations

from api.insight_models import (
    PolicyCheckAnswer,
    PolicyCheckBody,
    TimelineAnswer,
    TimelineEntryAnswer,
    TimelineQuery,
)
from api.routes import ApiRequest
from broker.admin import PolicyQuestion, TimelineEntry, moment_text


async def timeline(request: ApiRequest) -> TimelineAnswer:
    """Tell what has happened to a device."""
    query: TimelineQuery = request.query
    device_id = request.path["device_id"]
    page = await request.admin.timelines.read(request.account_id, device_id, query.limit, query.before)
    return TimelineAnswer(
        device_id=device_id,
        events=[_entry(entry) for entry in page.entries],
        limit=query.limit,
        next_before=page.entries[-1].number if page.has_more else None,
    )


async def check_policy(request: ApiRequest) -> PolicyCheckAnswer:
    """Tell whether a publish or a subscription would get through."""
    body: PolicyCheckBody = request.body
    question = PolicyQuestion(
        action=body.action,
        topic=body.topic,
        device_id=body.device_id or "",
        key_name=body.key_name or "",
        retain=body.retain,
        payload_bytes=body.payload_bytes,
    )
    found = await request.admin.policies.check(request.account_id, question)
    return PolicyCheckAnswer(
        allowed=found.allowed,
        rule=found.rule,
        reason=found.reason,
        reason_code=found.reason_code,
        mqtt_reason_code=found.mqtt_reason_code,
        patterns=list(found.patterns),
    )


def _entry(entry: TimelineEntry) -> TimelineEntryAnswer:
    return TimelineEntryAnswer(
        id=entry.number,
        at=moment_text(entry.at),
        first_at=moment_text(entry.first_at),
        count=entry.count,
        code=entry.code,
        message=entry.message,
        remedy=entry.remedy or None,
        protocol=entry.protocol or None,
        mqtt_version=entry.mqtt_version or None,
        address=entry.address or None,
        other_address=entry.other_address or None,
        client_id=entry.client_id or None,
        topic=entry.topic or None,
    )
