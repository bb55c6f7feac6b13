"""What may be read and commanded from outside MQTT, as frozen snapshots: the one face that ``api`` and the CLI see.

Not here: HTTP, JSON, command lines; and no rule that belongs to a lower floor.
"""

from broker.accounts.device_description import DeviceChange, DeviceDescription
from broker.admin.clock import Clock, SystemClock
from broker.admin.connections import ConnectionView, Page, SessionView, Which
from broker.admin.operator import Operator
from broker.admin.policy_check import PolicyAnswer, PolicyQuestion
from broker.admin.service import Admin
from broker.admin.timelines import TimelineEntry, TimelinePage
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

__all__ = [
    "AccountView",
    "Admin",
    "Clock",
    "CommandReceipt",
    "ConnectionInfo",
    "ConnectionView",
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
    "Page",
    "PasswordView",
    "PolicyAnswer",
    "PolicyQuestion",
    "QuotaView",
    "SessionView",
    "StatsView",
    "SystemClock",
    "TimelineEntry",
    "TimelinePage",
    "UsageView",
    "Which",
]
