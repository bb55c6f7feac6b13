"""What may be read and commanded from outside MQTT, as frozen snapshots: the one face that ``api`` and the CLI see.

Not here: HTTP, JSON, command lines; and no rule that belongs to a lower floor.
"""

from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.accounts.ledger import Companion
from broker.admin.answers import Claim, GivenAnswer
from broker.admin.clock import Clock, SystemClock
from broker.admin.message_views import AnswerView, DeviceMessage, MessageKind, MessageView
from broker.admin.operator import Operator
from broker.admin.service import Admin
from broker.admin.views import (
    AccountView,
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

__all__ = [
    "AccountView",
    "Admin",
    "AnswerView",
    "Claim",
    "Clock",
    "Companion",
    "ConnectionInfo",
    "CredentialsInfo",
    "DeviceChange",
    "DeviceCounts",
    "DeviceDescription",
    "DeviceFilter",
    "DeviceLogin",
    "DeviceMessage",
    "DevicePage",
    "DeviceView",
    "GivenAnswer",
    "KeyContext",
    "KeyView",
    "MessageKind",
    "MessageView",
    "MetricsText",
    "MqttCredentials",
    "Operator",
    "PasswordView",
    "QuotaView",
    "StatsView",
    "SystemClock",
    "UsageView",
]
