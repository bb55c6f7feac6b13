"""The rows about webhooks.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``webhooks``).
"""

from __future__ import annotations

from api import models, webhook_models, webhooks
from api.routes import BASE_PATH, ApiRoute
from broker.errors import Conflict, NotFound, PayloadTooLarge, Unavailable

WEBHOOKS = BASE_PATH + "/webhooks"
WEBHOOK = WEBHOOKS + "/{webhook_id}"

ROUTES = (
    ApiRoute(
        "GET",
        WEBHOOKS,
        webhooks.list_webhooks,
        "List webhooks",
        query=models.Nothing,
        body=None,
        answer=webhook_models.WebhooksAnswer,
        status=200,
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        WEBHOOKS,
        webhooks.create_webhook,
        "Make a webhook",
        query=models.Nothing,
        body=webhook_models.WebhookBody,
        answer=webhook_models.NewWebhookAnswer,
        status=201,
        errors=(Conflict, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "GET",
        WEBHOOK,
        webhooks.get_webhook,
        "Show a webhook",
        query=models.Nothing,
        body=None,
        answer=webhook_models.WebhookAnswer,
        status=200,
        errors=(NotFound,),
        scope="devices:read",
    ),
    ApiRoute(
        "PATCH",
        WEBHOOK,
        webhooks.change_webhook,
        "Change a webhook",
        query=models.Nothing,
        body=webhook_models.WebhookChangeBody,
        answer=webhook_models.WebhookAnswer,
        status=200,
        errors=(NotFound, Conflict, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "DELETE",
        WEBHOOK,
        webhooks.delete_webhook,
        "Remove a webhook",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Conflict, Unavailable),
        scope="devices:write",
    ),
)
