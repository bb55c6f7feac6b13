"""One request for each row of the table that works as it stands: the description of the API shows it, a test sends it.

Here belong values for paths, queries and bodies. Not here: what a row takes (``*_table``), and how an example is shown
(``openapi``). A test fails for a row that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.routes import ADMIN_PATH, BASE_PATH

DEVICE = {"device_id": "iot_dev_k3v7q2m5x4t6wz2a"}
ACCOUNT = {"account_id": "1"}
KEY = {"key_id": "7"}
MESSAGE = {**DEVICE, "message_id": "msg_q2m5x4t6wz2ak3v7q2m5x4t6wz"}
CONNECTION = {"connection_id": "4294967296"}
SESSION = {"session_id": "9.cHVtcA"}
WEBHOOK = {"webhook_id": "wh_m5x4t6wz2ak3v7q2"}
AUTHORITY = {"authority_id": "ca_x4t6wz2ak3v7q2m5"}
AUTHORITIES = BASE_PATH + "/authorities"
AUTHORITY_PEM = (  # an authority whose key nobody has kept
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBODCB4KADAgECAgEBMAoGCCqGSM49BAMCMBsxGTAXBgNVBAMMEEV4YW1wbGUg\n"
    "UHVtcHMgQ0EwIBcNMjAwMTAxMDAwMDAwWhgPMjA5OTEyMzEwMDAwMDBaMBsxGTAX\n"
    "BgNVBAMMEEV4YW1wbGUgUHVtcHMgQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n"
    "AASftC47rqxpLDn2kfJXUtuu2vwqn98hRW1mn+PgjZoB/Ly/4n8TJuOhTvzeP+GI\n"
    "5ow7H3pOOWd0vTGoEgX8cduxoxMwETAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49\n"
    "BAMCA0cAMEQCIDZPRaYvZPqhbEwzu9JJKo2R+9ujFVMilgQUXBCFTd3CAiBUN48d\n"
    "HGDXyPhA5imiRIoSllysDiF4sM9ZiATTtFS+Ug==\n"
    "-----END CERTIFICATE-----\n"
)
CLAIM = {"claim_id": "claim_t6wz2ak3v7q2m5x4"}
WEBHOOKS = BASE_PATH + "/webhooks"
CLAIM_TOKENS = BASE_PATH + "/claim-tokens"
DEVICES = BASE_PATH + "/devices"


@dataclass(frozen=True, slots=True)
class Example:
    """One request; ids in ``path`` are only as they look, since each installation has its own."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


EXAMPLES: Mapping[tuple[str, str], Example] = {
    ("GET", DEVICES): Example(query={"limit": 20, "status": "active", "search": "boiler"}),
    ("POST", DEVICES): Example(
        body={
            "name": "Boiler house 2",
            "type": "sensor",
            "description": "Flow and return temperature",
            "metadata": {"building": "B", "floor": 0},
        }
    ),
    ("POST", DEVICES + "/bulk"): Example(
        body={"devices": [{"name": "Boiler house 2", "type": "sensor"}, {"name": "Boiler house 3", "type": "sensor"}]}
    ),
    ("GET", DEVICES + "/{device_id}"): Example(DEVICE),
    ("PATCH", DEVICES + "/{device_id}"): Example(DEVICE, body={"name": "Boiler house 3", "status": "inactive"}),
    ("DELETE", DEVICES + "/{device_id}"): Example(DEVICE),
    ("POST", DEVICES + "/{device_id}/credentials/rotate"): Example(DEVICE, body={"overlap_seconds": 3600}),
    ("POST", DEVICES + "/{device_id}/commands"): Example(DEVICE, body={"payload": {"valve": "open"}, "qos": 1}),
    ("POST", DEVICES + "/{device_id}/config"): Example(DEVICE, body={"payload": {"interval_s": 60}}),
    ("POST", DEVICES + "/{device_id}/firmware"): Example(
        DEVICE, body={"payload": {"version": "2.1.0", "url": "https://example.com/pump.bin"}, "expiry_seconds": 86400}
    ),
    ("GET", DEVICES + "/{device_id}/messages/{message_id}"): Example(MESSAGE),
    ("GET", BASE_PATH + "/credentials"): Example(query={"limit": 50}),
    ("GET", WEBHOOKS): Example(),
    ("POST", WEBHOOKS): Example(
        body={"url": "https://hooks.example.com/iot", "events": ["presence", "telemetry", "warnings"]}
    ),
    ("GET", WEBHOOKS + "/{webhook_id}"): Example(WEBHOOK),
    ("PATCH", WEBHOOKS + "/{webhook_id}"): Example(
        WEBHOOK, body={"topic_filter": "devices/+/telemetry/temperature", "active": True}
    ),
    ("DELETE", WEBHOOKS + "/{webhook_id}"): Example(WEBHOOK),
    ("GET", CLAIM_TOKENS): Example(),
    ("POST", CLAIM_TOKENS): Example(
        body={"name": "pumps of 2026", "type": "sensor", "device_id_pattern": "pump-*", "uses_maximum": 5000}
    ),
    ("GET", CLAIM_TOKENS + "/{claim_id}"): Example(CLAIM),
    ("DELETE", CLAIM_TOKENS + "/{claim_id}"): Example(CLAIM),
    ("GET", AUTHORITIES): Example(),
    ("POST", AUTHORITIES): Example(
        body={"name": "Example Pumps", "certificate": AUTHORITY_PEM, "type": "sensor", "device_id_pattern": "pump-*"}
    ),
    ("GET", AUTHORITIES + "/{authority_id}"): Example(AUTHORITY),
    ("POST", AUTHORITIES + "/{authority_id}/verify"): Example(AUTHORITY, body={"certificate": AUTHORITY_PEM}),
    ("DELETE", AUTHORITIES + "/{authority_id}"): Example(AUTHORITY),
    ("GET", BASE_PATH + "/quota"): Example(),
    ("GET", BASE_PATH + "/usage"): Example(query={"start_date": "2025-11-01", "end_date": "2025-11-07"}),
    ("GET", BASE_PATH + "/stats"): Example(),
    ("GET", BASE_PATH + "/audit"): Example(query={"limit": 20}),
    ("GET", DEVICES + "/{device_id}/timeline"): Example(DEVICE, query={"limit": 20}),
    ("POST", BASE_PATH + "/policy/check"): Example(
        body={"key_name": "default", "action": "subscribe", "topic": "devices/+/telemetry"}
    ),
    ("GET", ADMIN_PATH + "/connections"): Example(query={"account": "default", "limit": 20}),
    ("GET", ADMIN_PATH + "/connections/{connection_id}"): Example(CONNECTION),
    ("DELETE", ADMIN_PATH + "/connections/{connection_id}"): Example(CONNECTION),
    ("GET", ADMIN_PATH + "/sessions"): Example(query={"account": "default", "limit": 20}),
    ("GET", ADMIN_PATH + "/sessions/{session_id}"): Example(SESSION),
    ("DELETE", ADMIN_PATH + "/sessions/{session_id}"): Example(SESSION),
    ("GET", ADMIN_PATH + "/accounts"): Example(query={"limit": 20}),
    ("POST", ADMIN_PATH + "/accounts"): Example(body={"name": "north works", "plan": "free"}),
    ("GET", ADMIN_PATH + "/accounts/{account_id}"): Example(ACCOUNT),
    ("PATCH", ADMIN_PATH + "/accounts/{account_id}"): Example(ACCOUNT, body={"plan": "unlimited"}),
    ("GET", ADMIN_PATH + "/plans"): Example(),
    ("GET", ADMIN_PATH + "/keys"): Example(query={"limit": 20}),
    ("POST", ADMIN_PATH + "/keys"): Example(
        body={"account_id": 1, "name": "dashboard", "scopes": ["devices:read", "subscribe"], "patterns": ["devices/#"]}
    ),
    ("GET", ADMIN_PATH + "/keys/{key_id}"): Example(KEY),
    ("DELETE", ADMIN_PATH + "/keys/{key_id}"): Example(KEY),
    ("GET", ADMIN_PATH + "/admin-keys"): Example(),
    ("DELETE", ADMIN_PATH + "/admin-keys/{key_id}"): Example(KEY),
    ("GET", ADMIN_PATH + "/audit"): Example(query={"limit": 20}),
    ("GET", "/healthz"): Example(),
    ("GET", "/readyz"): Example(),
    ("GET", "/metrics"): Example(),
    ("GET", "/openapi.json"): Example(),
    ("GET", "/docs"): Example(),
}
