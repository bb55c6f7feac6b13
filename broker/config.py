"""The one model of everything that can be configured, and how files, environment and flags become one.

Here belong names, defaults, ranges and the words of their refusals. Not here: the tables about addresses and
certificates (``doors``), and anything that acts on the configuration. In rising precedence: defaults, the TOML file,
the environment (``IOT_BROKER_...``), flags. ``docs/configuration.md`` lists all.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from broker.doors import (
    HttpConfig,
    HttpsConfig,
    ListenerConfig,
    Protocol,
    PublicHost,
    Transport,
    authority,
    is_loopback,
    move_doors,
    with_default_doors,
)
from broker.errors import ConfigError
from broker.sections import KIB, MIB, Section

ENVIRONMENT_PREFIX = "IOT_BROKER_"
PACKET_HEADROOM_BYTES = 128 * KIB

QueueFullPolicy = Literal["drop_newest", "drop_oldest", "refuse"]
QUEUE_FULL_POLICIES: tuple[str, ...] = get_args(QueueFullPolicy)  # in the order of the core's numbers

# Variables of the same prefix that are not configuration: how the core is built, and where the file is.
FOREIGN_VARIABLES = frozenset({"CONFIG", "BUILD", "BUILD_DIR", "JOBS", "LINETRACE"})


class Capabilities(Section):
    """What one broker takes and keeps: announced in CONNACK where MQTT 5 can say it, enforced from this same object."""

    maximum_payload_bytes: int = Field(default=MIB, ge=1, le=255 * MIB)
    topic_alias_maximum: int = Field(default=16, ge=0, le=1024)
    server_receive_maximum: int = Field(default=256, ge=1, le=65_535)
    outbound_inflight_maximum: int = Field(default=1024, ge=1, le=65_535)
    queue_messages_maximum: int = Field(default=10_000, ge=1, le=10_000_000)
    queue_maximum_bytes: int = Field(default=16 * MIB, ge=KIB, le=4096 * MIB - 1)
    queue_full_policy: QueueFullPolicy = Field(
        default="drop_newest", description="what a message for a session is worth whose queue or budget is full"
    )
    outbox_soft_limit_bytes: int = Field(default=MIB, ge=KIB, le=256 * MIB)
    subscriptions_per_device_session_maximum: int = Field(default=100, ge=1, le=10_000_000)
    subscriptions_per_application_session_maximum: int = Field(default=10_000, ge=1, le=10_000_000)
    filters_per_subscribe_maximum: int = Field(default=1000, ge=1, le=1_000_000)
    topic_levels_maximum: int = Field(default=128, ge=8, le=250)
    client_id_maximum_bytes: int = Field(default=1024, ge=23, le=65_535)
    connect_packet_maximum_bytes: int = Field(default=8 * KIB, ge=KIB, le=MIB)
    session_expiry_maximum_s: int = Field(default=30 * 24 * 3600, ge=1, le=0xFFFF_FFFF)
    will_delay_maximum_s: int = Field(default=24 * 3600, ge=0, le=0xFFFF_FFFF)
    unannounced_receive_maximum: int = Field(default=1024, ge=1, le=65_535)
    retained_maximum_bytes: int = Field(default=1024 * MIB, ge=MIB, le=1 << 48)
    filters_maximum_bytes: int = Field(default=1024 * MIB, ge=KIB, le=1 << 48)
    keep_alive_maximum_s: int = Field(default=3600, ge=5, le=65_535)
    connect_timeout_s: float = Field(default=10.0, gt=0, le=3600)
    connections_maximum: int = Field(default=100_000, ge=1, le=10_000_000)
    sessions_maximum: int = Field(default=1_000_000, ge=1, le=100_000_000)
    unauthenticated_connections_maximum: int = Field(default=4000, ge=1, le=10_000_000)
    unauthenticated_connections_per_address_maximum: int = Field(default=1000, ge=1, le=10_000_000)
    queues_maximum_bytes: int = Field(default=2048 * MIB, ge=MIB, le=2**62)
    outboxes_maximum_bytes: int = Field(default=1024 * MIB, ge=MIB, le=2**62)

    @property
    def maximum_packet_size_bytes(self) -> int:
        """The largest packet that is read: a full payload and 128 KiB for its topic and properties."""
        return self.maximum_payload_bytes + PACKET_HEADROOM_BYTES


class AccountBudgets(Section):
    """What each account, and each of its devices, may have kept here at most, whatever its plan."""

    sessions_maximum: int = Field(default=100_000, ge=1, le=100_000_000)
    queue_maximum_bytes: int = Field(default=256 * MIB, ge=KIB, le=2**62)
    outbox_maximum_bytes: int = Field(default=256 * MIB, ge=KIB, le=2**62)
    retained_maximum: int = Field(default=100_000, ge=1, le=100_000_000)
    retained_maximum_bytes: int = Field(default=256 * MIB, ge=KIB, le=2**62)
    filters_maximum_bytes: int = Field(default=256 * MIB, ge=KIB, le=2**62)
    device_queue_maximum_bytes: int = Field(default=32 * MIB, ge=KIB, le=2**62)


class AuditLimits(Section):
    """How much of the audit log is kept; each account has its own, and what concerns none of them as well."""

    entries_per_account_maximum: int = Field(default=5000, ge=10, le=1_000_000)
    days: int = Field(default=400, ge=1, le=3660)


class WebhooksConfig(Section):
    """What accounts are told over HTTP, and by how much work of this process."""

    enabled: bool = Field(default=True, description="whether anything is delivered")
    allow_http: bool = Field(default=False, description="whether endpoints may be without TLS")
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), max_length=1000, description="private networks in which endpoints may be; else public ones alone"
    )
    per_account_maximum: int = Field(default=10, ge=0, le=1000)
    messages_per_s_maximum: int = Field(default=2000, ge=1, le=1_000_000)
    account_messages_per_s_maximum: int = Field(default=200, ge=1, le=1_000_000)
    deliveries_at_once_maximum: int = Field(default=100, ge=1, le=10_000)
    account_deliveries_at_once_maximum: int = Field(default=2, ge=1, le=1000)
    queue_messages_maximum: int = Field(default=1000, ge=1, le=1_000_000)
    queue_maximum_bytes: int = Field(default=MIB, ge=KIB, le=1024 * MIB)
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    pause_after_s: int = Field(default=24 * 3600, ge=1, le=30 * 24 * 3600)


class RegistrationConfig(Section):
    """Devices that are registered at their first connect; each account's figures are its own."""

    claim_tokens_per_account_maximum: int = Field(
        default=100, ge=0, le=10_000, description="valid ones; as many again may have ended and be shown"
    )
    authorities_per_account_maximum: int = Field(default=10, ge=0, le=1000, description="that are not revoked")
    per_s_maximum: float = Field(default=20.0, gt=0, le=100_000, description="devices a second, over time")
    at_once_maximum: int = Field(default=200, ge=1, le=1_000_000, description="devices at once, after a while of none")


class BrokerConfig(Section):
    """Everything about one broker; build it directly, or with ``load_config`` from file, environment and flags."""

    data_dir: Path = Path("data")
    listeners: tuple[ListenerConfig, ...] = Field(default=(), max_length=64)
    http: HttpConfig = HttpConfig.model_validate({})
    https: HttpsConfig = HttpsConfig.model_validate({})
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), max_length=1000, description="who may say for whom it speaks, by X-Forwarded-For or PROXY"
    )
    public_host: PublicHost = "localhost"
    public_ports: dict[Protocol, Annotated[int, Field(ge=1, le=65_535)]] = Field(default={})
    capabilities: Capabilities = Capabilities.model_validate({})
    account_budgets: AccountBudgets = AccountBudgets.model_validate({})
    audit: AuditLimits = AuditLimits.model_validate({})
    webhooks: WebhooksConfig = WebhooksConfig.model_validate({})
    registration: RegistrationConfig = RegistrationConfig.model_validate({})
    strict: bool = Field(default=False, description="refuse to start with a damaged store, in place of rescuing it")
    store_map_size_bytes: int = Field(default=64 * 1024 * MIB, ge=16 * MIB)
    system_interval_s: float = Field(default=10.0, ge=1, le=3600)
    restart_grace_s: float = Field(default=30.0, ge=0, le=3600)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @model_validator(mode="before")
    @classmethod
    def _complete_the_doors(cls, values: Any) -> Any:
        return with_default_doors(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _listeners_have_names_of_their_own(self) -> BrokerConfig:
        names = [listener.name for listener in self.listeners]
        if len({*names, "http", "https"}) != len(names) + 2:
            raise ValueError("listeners: each needs a name of its own, other than http and https")
        return self

    @model_validator(mode="after")
    def _nobody_listens_where_another_does(self) -> BrokerConfig:
        doors = [(one.name, one.address) for one in self.listeners if one.unix_path is not None or one.port]
        doors += [("http", authority(self.http.host, self.http.port))] if self.http.port else []
        if self.https.enabled and self.https.port:
            doors.append(("https", authority(self.https.host, self.https.port)))
        taken: dict[str, str] = {}
        for name, address in doors:
            if address in taken:
                raise ValueError(f"{taken[address]!r} and {name!r} would both listen on {address}")
            taken[address] = name
        return self

    @model_validator(mode="after")
    def _listeners_can_be_served(self) -> BrokerConfig:
        for number, listener in enumerate(self.listeners):
            if listener.proxy_protocol and listener.unix_path is None and not self.trusted_proxies:
                raise ValueError(f"listeners.{number}.proxy_protocol: nobody is in trusted_proxies")
        return self

    @model_validator(mode="after")
    def _open_mode_stays_at_home(self) -> BrokerConfig:
        if not any(listener.open for listener in self.listeners):
            return self
        addresses = [(one.name, one.host) for one in self.listeners if one.unix_path is None]
        addresses.append(("http", self.http.host))
        addresses += [("https", self.https.host)] if self.https.enabled else []
        for name, host in addresses:
            if not is_loopback(host):
                raise ValueError(f"open mode is for loopback only, but {name!r} listens on {host}")
        return self


NETWORK = "expected an address or a network, such as 10.0.0.0/8 or ::1"
EXPECTED = {
    "tuple_type": "expected a list",
    "ip_v4_network": NETWORK,
    "ip_v6_network": NETWORK,
    "ip_v4_network_error": NETWORK,
    "ip_v6_network_error": NETWORK,
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected a text, in quotes",
    "path_type": "expected a path, in quotes",
    "model_type": "expected a table",
    "dict_type": "expected a table",
}


PATTERNS = {
    "name": "expected 1 to 32 small letters, digits, dashes and underscores",
    "path": "expected a path that begins with /, without blanks, such as /mqtt",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line may say; None and False leave the configuration as it is.

    ``host`` moves every listener, HTTP included; each port moves the first listener of its transport, which is added
    where there is none; ``open_mode`` belongs to the first listener of all.
    """

    data_dir: Path | None = None
    host: str | None = None
    mqtt_port: int | None = None
    mqtts_port: int | None = None
    ws_port: int | None = None
    wss_port: int | None = None
    http_port: int | None = None
    https_port: int | None = None
    open_mode: bool = False
    strict: bool = False

    def listener_ports(self) -> tuple[tuple[Transport, int | None], ...]:
        """Give the ports of the listeners, by transport."""
        return ("tcp", self.mqtt_port), ("tls", self.mqtts_port), ("ws", self.ws_port), ("wss", self.wss_port)


def load_config(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Flags | None = None
) -> BrokerConfig:
    """Merge defaults, a TOML file, ``IOT_BROKER_...`` variables and flags into one model.

    Raises ``ConfigError`` with one line that names the key and what was expected.
    """
    values = _read_toml(file) if file is not None else {}
    _merge(values, environment_values(environ or {}))
    if flags is not None:
        _lay_over(values, flags)
    try:
        return BrokerConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_first_words(error)) from error


def _lay_over(values: dict[str, Any], flags: Flags) -> None:
    """Put flags into the raw values; a value of the wrong shape is left for the model to refuse."""
    if flags.data_dir is not None:
        values["data_dir"] = flags.data_dir
    if flags.strict:
        values["strict"] = True
    for table, port in (("http", flags.http_port), ("https", flags.https_port)):
        moved = {key: value for key, value in (("port", port), ("host", flags.host)) if value is not None}
        if moved:
            _merge(values, {table: moved})
    ports = {transport: port for transport, port in flags.listener_ports() if port is not None}
    if flags.host is not None or ports or flags.open_mode:
        move_doors(values, flags.host, ports, opened=flags.open_mode)


def environment_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Turn ``IOT_BROKER_HTTP__PORT=8081`` into ``{"http": {"port": "8081"}}``; tables and lists are JSON.

    Raises ``ConfigError`` for a variable of the prefix that names no key.
    """
    values: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name.removeprefix(ENVIRONMENT_PREFIX) in FOREIGN_VARIABLES:
            continue
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if path[0] not in BrokerConfig.model_fields:
            raise ConfigError(f"environment variable {name}: there is no key {path[0]!r}{_variable_meant(path[0])}")
        table: Any = values
        for key in path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"environment variable {name}: {key} is given whole by another variable")
        table[path[-1]] = _parsed(name, text)
    return values


def _parsed(name: str, text: str) -> Any:
    if text[:1] not in {"[", "{"}:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"environment variable {name}: expected JSON: {error}") from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _variable_meant(path: str) -> str:
    """Tell of the two underscores behind a table, of which one is easily forgotten; empty where no table is named."""
    for table, field in BrokerConfig.model_fields.items():
        if path.startswith(f"{table}_") and hasattr(field.annotation, "model_fields"):
            variable = f"{ENVIRONMENT_PREFIX}{table}__{path.removeprefix(f'{table}_')}".upper()
            return f"; two underscores stand between table and key: {variable}"
    return ""


def _first_words(error: ValidationError) -> str:
    """Say in one line which key it is and what was expected, in the words of those who wrote the file."""
    first = error.errors(include_url=False)[0]
    # Between the keys stand the names of validators and of tables' shapes, which are ours alone.
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}{_key_meant(first['loc'])}"
    words = EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] == "string_pattern_mismatch":
        words = PATTERNS.get(str(first["loc"][-1]), words)
    if place == "listeners" and first["type"] == "tuple_type":
        words += " of tables: [[listeners]], in two pairs of brackets"
    return f"{place}: {words}" if place else words


def _key_meant(loc: tuple[int | str, ...]) -> str:
    """Name the key that looks most like an unknown one in its table; empty where none does."""
    table: Any = BrokerConfig
    for part in loc[:-1]:
        if isinstance(part, str):
            table = table.model_fields[part].annotation
            table = get_args(table)[0] if get_args(table) else table
    given = str(loc[-1])
    alike = get_close_matches(given, table.model_fields, n=3, cutoff=0.7)
    alike.sort(key=lambda key: key[:3] != given[:3])  # cert_file is no crl_file
    return f"; is {alike[0]!r} meant?" if alike else ""
