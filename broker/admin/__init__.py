"""What may be read and commanded from outside MQTT, as frozen snapshots: the one face that ``api`` and the CLI see.

Not here: HTTP, JSON, command lines; and no rule that belongs to a lower floor.
"""

from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.webhooks import WebhookWish
from broker.admin.clock import Clock, SystemClock
from broker.admin.operator import Operator
from broker.admin.registration import Outcome
from broker.admin.service import Admin
from broker.admin.views import (
    AccountView,
    CommandReceipt,
    ConnectionInfo,
    CredentialsInfo,
    DeviceCounts,
    DeviceFilter,
    DeviceLogin,
    DevicePage,
    DeviceView,
    KeyContext,
    KeyView,
    MetricsText,
    MqttCredentials,
    PasswordView,
    QuotaView,
    StatsView,
    UsageView,
)
from broker.admin.webhooks import WebhookView

__all__ = [
    "AccountView",
    "Admin",
    "Clock",
    "CommandReceipt",
    "ConnectionInfo",
    "CredentialsInfo",
    "DeviceChange",
    "DeviceCounts",
    "DeviceDescription",
    "DeviceFilter",
    "DeviceLogin",
    "DevicePage",
    "DeviceView",
    "KeyContext",
    "KeyView",
    "MetricsText",
    "MqttCredentials",
    "Operator",
    "Outcome",
    "PasswordView",
    "QuotaView",
    "StatsView",
    "SystemClock",
    "UsageView",
    "WebhookView",
    "WebhookWish",
]
