"""An open, embeddable, multi-tenant MQTT broker and device platform.

Here belong the names that an embedding program needs, found when they are asked for: importing this package starts
nothing, opens nothing and loads nothing. ``docs/embedding.md`` shows how they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.accounts.device_description import DeviceDescription
    from broker.config import BrokerConfig, Capabilities
    from broker.doors import Endpoint, HttpConfig, HttpsConfig, ListenerConfig
    from broker.errors import (
        BadRequest,
        BrokerError,
        BrokerStopped,
        ConfigError,
        PublishRefused,
        SubscribeRefused,
        SubscriptionEnded,
    )
    from broker.local import Message, MessageStream, PublishProperties
    from broker.ports import Authenticator, ConnectRequest, Durability, Grant, GrantLimits, Observer, Policy, Refusal
    from broker.reasons import DropReason, ReasonCode
    from broker.runtime import Broker
    from broker.wire import Subscription

_HOMES = {
    "accounts.devices": ("DeviceDescription",),
    "config": ("BrokerConfig", "Capabilities"),
    "doors": ("Endpoint", "HttpConfig", "HttpsConfig", "ListenerConfig"),
    "errors": (
        "BadRequest",
        "BrokerError",
        "BrokerStopped",
        "ConfigError",
        "PublishRefused",
        "SubscribeRefused",
        "SubscriptionEnded",
    ),
    "local": ("Message", "MessageStream", "PublishProperties"),
    "ports": ("Authenticator", "ConnectRequest", "Durability", "Grant", "GrantLimits", "Observer", "Policy", "Refusal"),
    "reasons": ("DropReason", "ReasonCode"),
    "runtime": ("Broker",),
    "wire": ("Subscription",),
}

__all__ = [
    "Authenticator",
    "BadRequest",
    "Broker",
    "BrokerConfig",
    "BrokerError",
    "BrokerStopped",
    "Capabilities",
    "ConfigError",
    "ConnectRequest",
    "DeviceDescription",
    "DropReason",
    "Durability",
    "Endpoint",
    "Grant",
    "GrantLimits",
    "HttpConfig",
    "HttpsConfig",
    "ListenerConfig",
    "Message",
    "MessageStream",
    "Observer",
    "Policy",
    "PublishProperties",
    "PublishRefused",
    "ReasonCode",
    "Refusal",
    "SubscribeRefused",
    "Subscription",
    "SubscriptionEnded",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"broker.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
