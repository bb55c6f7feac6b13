"""One function for each route about webhooks: one call of ``admin``, and its answer.

Here belongs the translation between models and snapshots. Not here: any rule.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.rights import require_hearing
from api.routes import ApiRequest
from api.webhook_models import (
    NewWebhookAnswer,
    WebhookAnswer,
    WebhookBody,
    WebhookChangeBody,
    WebhooksAnswer,
)
from broker.admin import WebhookView, WebhookWish, maybe_moment_text

TIMES = ("created_at", "updated_at", "paused_at", "last_success_at", "last_error_at", "next_attempt_at")
EMPTY_IS_NULL = ("topic_filter", "paused_reason", "last_error")


async def create_webhook(request: ApiRequest) -> NewWebhookAnswer:
    """Make a webhook; the answer is the only one that ever carries its secret."""
    body: WebhookBody = request.body
    wish = WebhookWish(body.url, tuple(body.events), body.topic_filter or "", body.active)
    await require_hearing(request, await request.admin.webhooks.heard(request.account_id, wish))
    view = await request.admin.webhooks.create(request.account_id, wish)
    return NewWebhookAnswer(**_fields(view), secret=view.secret)


async def list_webhooks(request: ApiRequest) -> WebhooksAnswer:
    """List webhooks, oldest first."""
    views = await request.admin.webhooks.list(request.account_id)
    return WebhooksAnswer(webhooks=[WebhookAnswer(**_fields(view)) for view in views])


async def get_webhook(request: ApiRequest) -> WebhookAnswer:
    """Show one webhook."""
    return WebhookAnswer(**_fields(await request.admin.webhooks.get(request.account_id, request.path["webhook_id"])))


async def change_webhook(request: ApiRequest) -> WebhookAnswer:
    """Change one webhook; what waits for it is delivered to where it is then."""
    body: WebhookChangeBody = request.body
    wish = WebhookWish(
        url=body.url,
        events=None if body.events is None else tuple(body.events),
        topic_filter=body.topic_filter or "" if "topic_filter" in body.model_fields_set else None,
        active=body.active,
    )
    webhook_id = request.path["webhook_id"]
    await require_hearing(request, await request.admin.webhooks.heard(request.account_id, wish, webhook_id))
    return WebhookAnswer(**_fields(await request.admin.webhooks.change(request.account_id, webhook_id, wish)))


async def delete_webhook(request: ApiRequest) -> None:
    """Remove one webhook, and what waits for it."""
    await request.admin.webhooks.delete(request.account_id, request.path["webhook_id"])


def _fields(view: WebhookView) -> dict[str, Any]:
    fields = asdict(view)
    del fields["secret"]
    for name in TIMES:
        fields[name] = maybe_moment_text(fields[name])
    for name in EMPTY_IS_NULL:
        fields[name] = fields[name] or None
    return fields
