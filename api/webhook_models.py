"""Bodies and answers about webhooks.

Here belong fields, ranges and their refusals. Not here: what a webhook does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from api.models import Answer, Body, never_null, refusal

EventName = Literal["presence", "telemetry", "warnings"]


def _once_each(events: list[str] | None) -> list[str] | None:
    if events is not None and len(set(events)) != len(events):
        raise ValueError("each event once")
    return events


Events = Annotated[
    list[EventName],
    Field(min_length=1, max_length=3, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_once_each),
]
Url = Annotated[str, Field(min_length=1, max_length=2048, json_schema_extra={"pattern": "^https?://"})]
Filter = Annotated[str, Field(min_length=1, max_length=1024)]


class WebhookBody(Body):
    """POST /webhooks: where to tell what; ``topic_filter`` is that of ``telemetry``, all of it where there is none."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["topic_filter"], "properties": {"topic_filter": {"type": "string"}}},
            "then": {"properties": {"events": {"contains": {"const": "telemetry"}}}},
        }
    )

    url: Url
    events: Events
    topic_filter: Filter | None = None
    active: bool = True

    @model_validator(mode="after")
    def _filters_what_it_gets(self) -> WebhookBody:
        if self.topic_filter is not None and "telemetry" not in self.events:
            raise refusal("topic_filter", "telemetry among the events, or no filter")
        return self


class WebhookChangeBody(Body):
    """PATCH /webhooks/{webhook_id}: what is named is changed; ``active`` true ends a pause, null empties the filter."""

    url: Url | None = Field(None, json_schema_extra=never_null)
    events: Events | None = Field(None, json_schema_extra=never_null)
    topic_filter: Filter | None = None
    active: bool | None = Field(None, json_schema_extra=never_null)

    @field_validator("url", "events", "active", mode="before")
    @classmethod
    def _cannot_be_emptied(cls, value: object) -> object:
        if value is None:
            raise ValueError("a value, or the field left out")
        return value


class WebhookAnswer(Answer):
    """A webhook, and how it is doing since the broker's start; a time is null where it never was.

    ``paused_reason`` says why the broker delivers nothing more to it. ``queued``, ``delivered`` and ``dropped`` (by
    reason) count events, ``failures`` the attempts since the last success.
    """

    webhook_id: str
    url: str
    events: list[EventName]
    topic_filter: str | None
    active: bool
    created_at: str
    updated_at: str
    paused_at: str | None
    paused_reason: str | None
    queued: int
    delivered: int
    dropped: dict[str, int]
    failures: int
    last_success_at: str | None
    last_error: str | None
    last_error_at: str | None
    next_attempt_at: str | None


class NewWebhookAnswer(WebhookAnswer):
    """A webhook that was made just now: ``secret``, with which its deliveries are signed, is shown this once."""

    secret: str = Field(repr=False)


class WebhooksAnswer(Answer):
    """All webhooks of an account, oldest first."""

    webhooks: list[WebhookAnswer]
