"""What may be read and commanded from outside MQTT, as frozen snapshots: the one face that ``api`` and the CLI see.

Not here: HTTP, JSON, command lines; and no rule that belongs to a lower floor.
"""

from broker.accounts.accounts import AccountChange
from broker.accounts.authorities import AuthorityWish
from broker.accounts.claims import ClaimWish
from broker.accounts.deeds import INSTALLATION, Actor
from broker.accounts.device_description import CHOSEN_ID, RESERVED_IDS, DeviceChange, DeviceDescription
from broker.accounts.ledger import Companion
from broker.accounts.moments import MOMENT_EXPECTED, maybe_moment_text, moment_text, parse_moment
from broker.accounts.plans import Plan
from broker.accounts.webhooks import WebhookWish
from broker.admin.admin_keys import AdminKeyView
from broker.admin.answers import Claim, GivenAnswer
from broker.admin.audit import AuditView
from broker.admin.authorities import AuthorityView
from broker.admin.claims import ClaimView, RefusalView
from broker.admin.clock import Clock, SystemClock
from broker.admin.connections import ConnectionView, Page, SessionView, Which
from broker.admin.key_views import KeyContext, KeyView
from broker.admin.message_views import AnswerView, DeviceMessage, MessageKind, MessageView
from broker.admin.operator import Operator
from broker.admin.policy_check import PolicyAnswer, PolicyQuestion
from broker.admin.registration import Outcome
from broker.admin.service import Admin
from broker.admin.timelines import TimelineEntry, TimelinePage
from broker.admin.views import (
    AccountView,
    ConnectionInfo,
    CredentialsInfo,
    DeviceCounts,
    DeviceFilter,
    DeviceLogin,
    DevicePage,
    DeviceView,
    MetricsText,
    MqttCredentials,
    PasswordView,
    QuotaView,
    StatsView,
    UsageView,
)
from broker.admin.webhooks import WebhookView

__all__ = [
    "CHOSEN_ID",
    "INSTALLATION",
    "MOMENT_EXPECTED",
    "RESERVED_IDS",
    "AccountChange",
    "AccountView",
    "Actor",
    "Admin",
    "AdminKeyView",
    "AnswerView",
    "AuditView",
    "AuthorityView",
    "AuthorityWish",
    "Claim",
    "ClaimView",
    "ClaimWish",
    "Clock",
    "Companion",
    "ConnectionInfo",
    "ConnectionView",
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
    "Outcome",
    "Page",
    "PasswordView",
    "Plan",
    "PolicyAnswer",
    "PolicyQuestion",
    "QuotaView",
    "RefusalView",
    "SessionView",
    "StatsView",
    "SystemClock",
    "TimelineEntry",
    "TimelinePage",
    "UsageView",
    "WebhookView",
    "WebhookWish",
    "Which",
    "maybe_moment_text",
    "moment_text",
    "parse_moment",
]
