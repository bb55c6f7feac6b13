"""Who may do what: the platform's table of rights, written down a second time and by hand.

Here belongs what is expected. Not here: anything that the broker itself says about rights; and who is there
(``isolation_world``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCOPES = ("devices:read", "devices:write", "publish", "subscribe", "usage:read")

MQTT_5_NOT_AUTHORIZED, MQTT_5_TOPIC_NAME_INVALID, MQTT_5_FILTER_INVALID = 0x87, 0x90, 0x8F
CONNACK_3_NOT_AUTHORIZED, SUBACK_3_FAILURE = 5, 0x80
ADMINISTRATIVE_ACTION = 0x98

# ---------------------------------------------------------------- topics

BELOW = ("", "/below", "/far/below")
OUTBOUND = [f"{level}{end}" for level in ("telemetry", "events", "status") for end in BELOW]
INBOUND = [f"{level}{end}" for level in ("commands", "config", "firmware") for end in BELOW]

OWN_OUTBOUND = [f"devices/meter/{end}" for end in OUTBOUND]
OWN_INBOUND = [f"devices/meter/{end}" for end in INBOUND]
PRESENCE = ["devices/meter/presence", "devices/pump/presence", "devices/stranger/presence"]
OTHERS = [f"devices/{who}/{end}" for who in ("pump", "stranger") for end in ("telemetry", "events/x", "commands")]
ELSEWHERE = [
    "jobs/1", "jobs/1/2", "jobs", "devices", "devices/meter", "devices/meter/other", "devices/meter/telemetries",
    "devices/meter/presence/below", "devices//telemetry", "/devices/meter/telemetry", "Devices/meter/telemetry",
    "devices/METER/telemetry", "devices/meter /telemetry", "meter/telemetry",
]  # fmt: skip
NAMES = [*OWN_OUTBOUND, *OWN_INBOUND, *OTHERS, *ELSEWHERE, *PRESENCE]
SYSTEM = ["$SYS/broker/uptime", "$SYS", "$share/g/devices/meter/telemetry", "$CONTROL/x"]
INVALID = ["devices/+/telemetry", "devices/meter/telemetry/#", "#"]

BOUND = {  # what a key with the patterns devices/{device_id}/telemetry/# and jobs/+ covers
    *(f"devices/meter/telemetry{end}" for end in BELOW),
    "devices/pump/telemetry",
    "devices/stranger/telemetry",
    "devices//telemetry",  # `+` stands for an empty level too
    "devices/METER/telemetry",
    "devices/meter /telemetry",
    "jobs/1",
}

PUBLISHERS = ("device", "full", "publish", "subscribe", "bound")


def may_publish(kind: str, topic_name: str) -> bool:
    """Who may publish where: the broker alone says who is present, and nobody is the system."""
    if topic_name in PRESENCE or topic_name in SYSTEM or topic_name in INVALID:
        return False
    if kind == "device":
        return topic_name in OWN_OUTBOUND
    return kind in ("full", "publish") or (kind == "bound" and topic_name in BOUND)


# ---------------------------------------------------------------- filters


@dataclass(frozen=True)
class FilterRow:
    """A filter, and for whom of those who subscribe at all it is granted."""

    text: str
    device: bool
    application: bool
    bound: bool

    @property
    def inner(self) -> str:
        """What it matches; that of a shared subscription stands behind the group's name."""
        return self.text.split("/", 2)[2] if self.text.startswith("$share/") else self.text

    @property
    def is_shared(self) -> bool:
        return self.text.startswith("$share/")

    def granted(self, kind: str) -> bool:
        if kind == "device":
            return self.device
        return (kind in ("full", "subscribe") and self.application) or (kind == "bound" and self.bound)


def _rows(filters: str, *, device: bool = False, application: bool = True, bound: bool = False) -> list[FilterRow]:
    return [FilterRow(one, device, application, bound) for one in filters.split()]


FILTERS = [
    *_rows(
        "devices/meter/commands devices/meter/commands/# devices/meter/config/+ devices/meter/firmware", device=True
    ),
    *_rows("devices/meter/config/# $share/g/devices/meter/commands/# devices/meter/commands/+/below", device=True),
    *_rows(
        "devices/meter/telemetry devices/+/telemetry devices/+/telemetry/# $share/h/devices/+/telemetry", bound=True
    ),
    *_rows("jobs/1 jobs/+ $share/h/jobs/+", bound=True),
    *_rows("# + +/+ +/+/+ +/# devices/# devices/+/# devices/meter/# devices/meter/+ $share/h/# $share/h/devices/#"),
    *_rows("devices/+/commands +/meter/commands devices/pump/commands devices/stranger/commands/# devices/pump/#"),
    *_rows("devices/meter/events devices/meter/status/# devices/meter/+/below devices/meter"),
    *_rows("devices/meter/presence devices/+/presence jobs/# Devices/meter/commands /devices/meter/commands"),
    *_rows("devices/+/+/#"),
    *_rows("$SYS/# $SYS/broker/uptime"),
]
PUMP_GRANTED = {"devices/pump/commands"}  # of these filters, what the device pump is granted
INVALID_FILTERS = ["devices/meter/commands#", "devices/#/commands", "#/x", "devices/m+/commands", ""]

SUBSCRIBERS = (*PUBLISHERS, "beta device", "beta full")


# ---------------------------------------------------------------- REST

PUBLIC, ADMIN = "nobody's key", "an admin key"


@dataclass(frozen=True)
class RestRow:
    """A route: what opens it, what it answers to a request that works, and the request."""

    method: str
    path: str
    opens: str
    success: int
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict)

    @property
    def names_something(self) -> bool:
        """Whether the request names an object: by an id in braces."""
        said = [self.path, *(self.body or {}).values(), *self.query.values()]
        return any(isinstance(one, str) and "{" in one for one in said)


CA = "/v1/iot/authorities"
NEW_DEVICE = {"name": "made", "type": "sensor"}
D, W, C, A = "/v1/iot/devices", "/v1/iot/webhooks", "/v1/iot/claim-tokens", "/v1/admin"
WEBHOOK = {"url": "https://hooks.example.com/made", "events": ["warnings"]}
COMMAND = {"payload": 1}

REST = [
    RestRow("GET", D, "devices:read", 200),
    RestRow("GET", D + "/{device_id}", "devices:read", 200),
    RestRow("GET", D + "/{device_id}/timeline", "devices:read", 200),
    RestRow("GET", D + "/{device_id}/messages/{message_id}", "devices:read", 200),
    RestRow("GET", "/v1/iot/credentials", "devices:read", 200),
    RestRow("GET", "/v1/iot/audit", "devices:read", 200),
    RestRow("GET", W, "devices:read", 200),
    RestRow("GET", W + "/{webhook_id}", "devices:read", 200),
    RestRow("GET", CA, "devices:read", 200),
    RestRow("GET", CA + "/{authority_id}", "devices:read", 200),
    RestRow("GET", C, "devices:read", 200),
    RestRow("GET", C + "/{claim_id}", "devices:read", 200),
    RestRow(
        "POST", "/v1/iot/policy/check", "devices:read", 200,
        {"device_id": "{device_id}", "action": "publish", "topic": "x"},
    ),
    RestRow(
        "POST", "/v1/iot/policy/check", "devices:read", 200,
        {"key_name": "{key_name}", "action": "publish", "topic": "x"},
    ),
    RestRow("POST", D, "devices:write", 201, NEW_DEVICE),
    RestRow("POST", D + "/bulk", "devices:write", 200, {"devices": [NEW_DEVICE]}),
    RestRow("PATCH", D + "/{device_id}", "devices:write", 200, {"name": "changed"}),
    RestRow("POST", D + "/{device_id}/credentials/rotate", "devices:write", 200),
    RestRow("DELETE", D + "/{device_id}", "devices:write", 204),
    RestRow("POST", W, "devices:write", 201, WEBHOOK),
    RestRow("PATCH", W + "/{webhook_id}", "devices:write", 200, {"active": False}),
    RestRow("DELETE", W + "/{webhook_id}", "devices:write", 204),
    RestRow("POST", CA, "devices:write", 400, {"name": "made", "certificate": "none"}),
    RestRow("POST", CA + "/{authority_id}/verify", "devices:write", 400, {"certificate": "none"}),
    RestRow("DELETE", CA + "/{authority_id}", "devices:write", 204),
    RestRow("POST", C, "devices:write", 201, {"name": "made"}),
    RestRow("DELETE", C + "/{claim_id}", "devices:write", 204),
    RestRow("POST", D + "/{device_id}/commands", "publish", 202, COMMAND),
    RestRow("POST", D + "/{device_id}/config", "publish", 202, COMMAND),
    RestRow("POST", D + "/{device_id}/firmware", "publish", 202, COMMAND),
    RestRow("GET", "/v1/iot/quota", "usage:read", 200),
    RestRow("GET", "/v1/iot/usage", "usage:read", 200),
    RestRow("GET", "/v1/iot/usage", "usage:read", 200, None, {"device_id": "{device_id}"}),
    RestRow("GET", "/v1/iot/stats", "usage:read", 200),
    RestRow("GET", A + "/accounts", ADMIN, 200),
    RestRow("POST", A + "/accounts", ADMIN, 201, {"name": "made"}),
    RestRow("GET", A + "/accounts/{account_id}", ADMIN, 200),
    RestRow("PATCH", A + "/accounts/{account_id}", ADMIN, 200, {"plan": "free"}),
    RestRow("GET", A + "/plans", ADMIN, 200),
    RestRow("GET", A + "/keys", ADMIN, 200),
    RestRow("GET", A + "/keys", ADMIN, 200, None, {"account_id": "{account_id}"}),
    RestRow("POST", A + "/keys", ADMIN, 201, {"account_id": "{account_id}", "name": "made"}),
    RestRow("GET", A + "/keys/{key_id}", ADMIN, 200),
    RestRow("DELETE", A + "/keys/{key_id}", ADMIN, 204),
    RestRow("GET", A + "/admin-keys", ADMIN, 200),
    RestRow("DELETE", A + "/admin-keys/{key_id}", ADMIN, 403),  # another one than that which asks
    RestRow("GET", A + "/audit", ADMIN, 200),
    RestRow("GET", A + "/connections", ADMIN, 200),
    RestRow("GET", A + "/connections/{connection_id}", ADMIN, 200),
    RestRow("DELETE", A + "/connections/{connection_id}", ADMIN, 204),
    RestRow("GET", A + "/sessions", ADMIN, 200),
    RestRow("GET", A + "/sessions/{session_id}", ADMIN, 200),
    RestRow("DELETE", A + "/sessions/{session_id}", ADMIN, 204),
    RestRow("GET", "/healthz", PUBLIC, 200),
    RestRow("GET", "/readyz", PUBLIC, 200),
    RestRow("GET", "/metrics", PUBLIC, 200),
    RestRow("GET", "/openapi.json", PUBLIC, 200),
    RestRow("GET", "/docs", PUBLIC, 200),
]  # fmt: skip


def rest_status(row: RestRow, knocks_with: str, scopes: tuple[str, ...], *, exists: bool) -> int:
    """What a request is answered; ``knocks_with`` a key: "account", "suspended", "bound", "admin", or "nothing"."""
    if row.opens == PUBLIC:
        return row.success
    if row.opens == ADMIN:
        if knocks_with != "admin":
            return 401
    elif knocks_with in ("admin", "nothing"):
        return 401
    elif knocks_with == "suspended" or row.opens not in scopes or (knocks_with == "bound" and row.opens == "publish"):
        return 403
    return row.success if exists else 404
