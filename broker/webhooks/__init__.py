"""Webhooks on their way: what happens in an account, told to its endpoints over HTTP, never at MQTT's expense.

Not here: the records (``broker.accounts.webhooks``) and their API.
"""

from broker.webhooks.service import WebhookService

__all__ = ["WebhookService"]
