"""Where people and devices come in: the tables of the configuration about addresses, transports and certificates.

Here belong those tables, what they default to, and the words of their refusals. Not here: what concerns the broker as
a whole (``config``), opening a socket and reading a certificate (``net``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from broker.origins import PageOrigin, PageOriginOrAny
from broker.sections import DurabilityName, Port, Section

Transport = Literal["tcp", "tls", "ws", "wss"]
Protocol = Literal["mqtt", "mqtts", "ws", "wss"]
ClientCertificate = Literal["off", "optional", "required"]
CertificateNames = Literal["subject", "san"]

PROTOCOLS: dict[Transport, Protocol] = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}
DEFAULT_PORTS: dict[Transport, int] = {"tcp": 1883, "tls": 8883, "ws": 8083, "wss": 8084}
ENCRYPTED: frozenset[Transport] = frozenset({"tls", "wss"})
WEBSOCKETS: frozenset[Transport] = frozenset({"ws", "wss"})

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what devices need
HERE = "127.0.0.1"
DEFAULT_UNIX_MODE = 0o660
DEFAULT_WEBSOCKET_PATH = "/mqtt"
TRUE_WORDS = (True, "true", "True", "1", 1)


def _host_alone(host: str) -> str:
    """Take a name or an address as certificates and credentials name it; a URL, or a port behind it, is refused."""
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        if any(one in "/:@?#[]\\" or one.isspace() or not one.isprintable() for one in host):
            raise ValueError(
                f"expected a host name or an address, without scheme, port and path, not {host!r}"
            ) from error
    return host


PublicHost = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host_alone)]

MODE_MAXIMUM = 0o777


def _octal(value: object) -> object:
    """Take the text of a mode as people write it, in octal digits; TOML has a form of its own, ``0o660``."""
    if isinstance(value, str):
        try:
            value = int(value.removeprefix("0o"), 8)
        except ValueError as error:
            raise ValueError("expected octal digits, such as 0660") from error
    if isinstance(value, int) and value > MODE_MAXIMUM:
        raise ValueError('expected at most 0777 in octal digits, which TOML has as 0o660 or "0660"')
    return value


UnixMode = Annotated[int, BeforeValidator(_octal), Field(ge=0, le=MODE_MAXIMUM)]


class CertificateFiles(Section):
    """Own PEM files; without them the certificate that the broker has made itself is used."""

    certificate_file: Path | None = Field(default=None, description="the certificate, then those that issued it")
    private_key_file: Path | None = Field(default=None, description="its key, without a passphrase")

    @model_validator(mode="after")
    def _come_together(self) -> CertificateFiles:
        if (self.certificate_file is None) != (self.private_key_file is None):
            lacking = "certificate_file" if self.certificate_file is None else "private_key_file"
            raise ValueError(f"{lacking} is missing: certificate_file and private_key_file belong together")
        return self


class ListenerConfig(CertificateFiles):
    """One address on which MQTT clients are awaited; port 0 picks a free one."""

    name: str = Field(default="mqtt", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    transport: Transport = "tcp"
    host: str = Field(default="", description="default: every IPv4 address; an open listener: 127.0.0.1")
    port: Port = 1883
    unix_path: Path | None = Field(default=None, description="a Unix socket, in place of host and port")
    unix_mode: UnixMode = DEFAULT_UNIX_MODE
    open: bool = False
    durability: DurabilityName = Field(
        default="synced", description="the most that clients of this listener are promised; their account may say less"
    )
    applications_from_anywhere: bool = Field(
        default=False,
        description="else API keys and claims are taken from loopback alone; default: whether bytes are encrypted",
    )
    path: str = Field(default=DEFAULT_WEBSOCKET_PATH, pattern=r"^/[!-~]*$", max_length=256)
    subprotocol_required: bool = Field(default=True, description="a WebSocket has to offer the subprotocol mqtt")
    allowed_origins: tuple[PageOrigin, ...] = Field(
        default=(), max_length=1000, description="empty: any; null can be listed"
    )
    proxy_protocol: bool = Field(default=False, description="trusted proxies begin with a PROXY header, v1 or v2")
    client_certificate: ClientCertificate = "off"
    client_ca_file: Path | None = Field(default=None, description="who may issue certificates of clients")
    crl_file: Path | None = Field(default=None, description="which of them are revoked")
    certificate_names: CertificateNames = Field(
        default="subject", description="which name of its certificate is the device"
    )
    certificate_account: str = Field(
        default="", max_length=100, description="whose devices come in by certificates; empty: everybody's"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_transport(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        transport = values.get("transport", "tcp")
        if not isinstance(transport, str) or transport not in PROTOCOLS:
            return values  # the field says what is expected
        defaults: dict[str, Any] = {"name": PROTOCOLS[transport], "applications_from_anywhere": transport in ENCRYPTED}
        if values.get("unix_path") is None:
            is_open = values.get("open") in TRUE_WORDS
            defaults |= {"port": DEFAULT_PORTS[transport], "host": HERE if is_open else EVERYWHERE}
            given = {key: value for key, value in values.items() if key != "host" or value}
            return {**defaults, **given}
        return {**defaults, "port": 0, "host": "", **values}

    @model_validator(mode="after")
    def _says_nothing_without_effect(self) -> ListenerConfig:
        if self.unix_path is not None and (self.host or self.port):
            raise ValueError("unix_path: a Unix socket has no host and no port")
        if self.unix_path is None and self.unix_mode != DEFAULT_UNIX_MODE:
            raise ValueError("unix_mode: this listener is no Unix socket (unix_path)")
        if self.transport not in WEBSOCKETS:
            self._refuse_changed(("path", "subprotocol_required", "allowed_origins"), "has no WebSocket")
        if self.transport not in ENCRYPTED:
            self._refuse_changed((*CertificateFiles.model_fields, *CLIENT_CERTIFICATE_KEYS), "is not encrypted")
        return self

    @model_validator(mode="after")
    def _client_certificates_are_whole(self) -> ListenerConfig:
        if self.client_certificate != "off" and self.client_ca_file is None:
            raise ValueError(f"client_ca_file is missing: client_certificate is {self.client_certificate!r}")
        if self.client_certificate == "off":
            for key in CLIENT_CERTIFICATE_KEYS[1:]:
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key}: client_certificate is 'off', so nobody is asked for a certificate")
        return self

    def _refuse_changed(self, keys: Sequence[str], why: str) -> None:
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: transport {self.transport!r} {why}")

    @property
    def protocol(self) -> Protocol:
        """The word for this listener in answers to clients and in ``public_ports``."""
        return PROTOCOLS[self.transport]

    @property
    def is_encrypted(self) -> bool:
        """Whether it needs a certificate."""
        return self.transport in ENCRYPTED

    @property
    def is_local(self) -> bool:
        """Whether it can be reached from this machine alone."""
        return self.unix_path is not None or is_loopback(self.host)

    @property
    def address(self) -> str:
        """Where it listens, for people."""
        return str(self.unix_path) if self.unix_path is not None else authority(self.host, self.port)


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """Which name of a client's certificate is the device, and in which account it is looked for (empty: in all)."""

    names: CertificateNames = "subject"
    account: str = ""


def certificate_rules(listeners: Sequence[ListenerConfig]) -> dict[int, CertificateRule]:
    """Give the listeners that ask clients for certificates, by number, with their rules."""
    return {
        number: CertificateRule(one.certificate_names, one.certificate_account)
        for number, one in enumerate(listeners)
        if one.client_certificate != "off"
    }


def claim_doors(listeners: Sequence[ListenerConfig]) -> frozenset[int]:
    """Give the numbers of the listeners that take claims from anywhere: their secret is that of a whole fleet."""
    return frozenset(
        number for number, one in enumerate(listeners) if one.applications_from_anywhere or one.unix_path is not None
    )


CLIENT_CERTIFICATE_KEYS = (
    "client_certificate",
    "client_ca_file",
    "crl_file",
    "certificate_names",
    "certificate_account",
)


def network_of(address: str) -> str:
    """Give what callers are counted by: an IPv4 address whole, of an IPv6 one the /64, which one caller has to himself.

    What is no address is its own network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


class HttpConfig(Section):
    """Where the REST API listens, without TLS; loopback unless configured."""

    host: str = Field(default=HERE, min_length=1)
    port: Port = 8080
    metrics: Literal["loopback", "anywhere", "off"] = Field(
        default="loopback", description="who may see /metrics: figures of the whole broker, never of one account"
    )
    allowed_origins: tuple[PageOriginOrAny, ...] = Field(
        default=(),
        max_length=1000,
        description="whose pages may use the API in browsers; empty: nobody's, *: anybody's",
    )
    connections_maximum: int = Field(default=5000, ge=1, le=1_000_000)
    connections_per_address_maximum: int = Field(default=1000, ge=1, le=1_000_000)


class HttpsConfig(CertificateFiles):
    """Where the REST API listens with TLS."""

    enabled: bool = True
    host: str = Field(default=EVERYWHERE, min_length=1)
    port: Port = 8443


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener really listens: the port is never 0, or ``unix_path`` says where.

    ``protocol`` is ``http``, ``https`` or as in ``public_ports``.
    """

    name: str
    protocol: str
    host: str
    port: int
    unix_path: str = ""

    @property
    def url(self) -> str:
        """As clients on this machine take it: ``mqtt://127.0.0.1:1883``, ``unix:///run/broker.sock``."""
        if self.unix_path:
            return f"unix://{self.unix_path}"
        host = {EVERYWHERE: HERE, "::": "::1"}.get(self.host, self.host)
        return f"{self.protocol}://{authority(host, self.port)}"


def authority(host: str, port: int) -> str:
    """Join host and port as they stand in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine alone; of names, only ``localhost`` can."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------- what nobody has configured


def default_listeners() -> list[dict[str, Any]]:
    """Give the listeners of a broker that is told of none: one for each transport."""
    return [{"transport": transport} for transport in PROTOCOLS]


def with_default_doors(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the raw values of a configuration by the doors that it does not name.

    A broker stays on loopback where nobody says otherwise if it has an open listener, or no other than local ones; one
    whose plain port is left to the system (0) leaves HTTPS' to it as well, so that several brokers never meet.
    """
    listeners = values.get("listeners", default_listeners())
    https, http = values.get("https", {}), values.get("http", {})
    if not isinstance(https, Mapping):
        return {**values, "listeners": listeners}
    free = _said(http, "port") in (0, "0")
    defaults: dict[str, Any] = ({"port": 0} if free else {}) | ({"host": HERE} if _is_at_home(listeners) else {})
    return {**values, "listeners": listeners, "https": {**defaults, **https}}


def _is_at_home(listeners: object) -> bool:
    if not isinstance(listeners, list | tuple) or not listeners:
        return False
    local = (_said(one, "unix_path") is not None or is_loopback(str(_said(one, "host"))) for one in listeners)
    return all(local) or any(_said(one, "open") in TRUE_WORDS for one in listeners)


def _said(table: object, key: str) -> object:
    """Look into a table that may be a model already."""
    return table.get(key) if isinstance(table, Mapping) else getattr(table, key, None)


def move_doors(values: dict[str, Any], host: str | None, ports: Mapping[Transport, int], *, opened: bool) -> None:
    """Lay the flags of the command line over the raw values of a configuration, in place.

    A port moves the first listener of its transport, which is added where there is none; ``opened`` opens the first
    of all. Listeners that nobody configured follow: to loopback beside an open one, to free ports beside a first one
    that has the port 0. Values of the wrong shape are left for the model to refuse.
    """
    configured = values.get("listeners")
    listeners = configured or default_listeners()
    if not isinstance(listeners, list) or not all(isinstance(one, dict) for one in listeners):
        return
    listeners = [dict(one) for one in listeners]
    for transport, port in ports.items():
        _first_of(listeners, transport)["port"] = port
    if opened:
        listeners[0]["open"] = True
    if not configured:
        _follow_the_first(listeners, opened=opened)
    if host is not None:
        for one in listeners:
            if one.get("unix_path") is None:
                one["host"] = host
    values["listeners"] = listeners


def _first_of(listeners: list[dict[str, Any]], transport: Transport) -> dict[str, Any]:
    for one in listeners:
        if one.get("transport", "tcp") == transport and one.get("unix_path") is None:
            return one
    listeners.append({"transport": transport})
    return listeners[-1]


def _follow_the_first(listeners: list[dict[str, Any]], *, opened: bool) -> None:
    for one in listeners[1:]:
        if listeners[0].get("port") == 0:
            one.setdefault("port", 0)
        if opened:
            one.setdefault("host", HERE)
