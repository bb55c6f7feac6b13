"""Rules of the addresses: what each transport may be told, what follows from what, and who has to be local."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.config import BrokerConfig, Flags, load_config
from broker.doors import (
    DEFAULT_PORTS,
    PROTOCOLS,
    Endpoint,
    HttpsConfig,
    ListenerConfig,
    Transport,
    is_loopback,
    network_of,
)

TRANSPORTS: tuple[Transport, ...] = tuple(PROTOCOLS)
PLAIN, ENCRYPTED, WEBSOCKETS = ("tcp", "ws"), ("tls", "wss"), ("ws", "wss")
TLS_KEYS: dict[str, Any] = {
    "certificate_file": "c.pem",
    "private_key_file": "k.pem",
    "client_certificate": "required",
    "client_ca_file": "ca.pem",
    "crl_file": "crl.pem",
    "certificate_names": "san",
    "certificate_account": "acme",
}


def listener(**values: Any) -> ListenerConfig:
    return ListenerConfig.model_validate(values)


def words_of(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        listener(**values)
    (error,) = caught.value.errors(include_url=False)
    return error["msg"].removeprefix("Value error, ") + " @ " + ".".join(map(str, error["loc"]))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_name_port_and_protocol_follow_the_transport(transport: Transport) -> None:
    one = listener(transport=transport)
    assert (one.name, one.port, one.protocol) == (PROTOCOLS[transport], DEFAULT_PORTS[transport], PROTOCOLS[transport])
    assert one.host == "0.0.0.0"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_api_keys_come_from_anywhere_where_bytes_are_encrypted_unless_it_is_said_otherwise(
    transport: Transport,
) -> None:
    assert listener(transport=transport).applications_from_anywhere == (transport in ENCRYPTED)
    assert listener(transport=transport, applications_from_anywhere=True).applications_from_anywhere
    assert not listener(transport=transport, applications_from_anywhere=False).applications_from_anywhere


@pytest.mark.parametrize("transport", PLAIN)
@pytest.mark.parametrize("key", [key for key in TLS_KEYS if key not in {"private_key_file"}])
def test_a_plain_listener_has_no_certificate(transport: str, key: str) -> None:
    together = {"certificate_file": ("certificate_file", "private_key_file")}.get(key, (key,))
    refused = words_of(transport=transport, **{one: TLS_KEYS[one] for one in together})
    assert refused == f"{key}: transport '{transport}' is not encrypted @ "


@pytest.mark.parametrize("transport", ENCRYPTED)
def test_an_encrypted_listener_takes_them_all(transport: str) -> None:
    one = listener(transport=transport, **TLS_KEYS)
    assert (one.client_certificate, one.crl_file) == ("required", Path("crl.pem"))


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize(
    "changed", [{"path": "/x"}, {"subprotocol_required": False}, {"allowed_origins": ["null"]}], ids=str
)
def test_what_is_no_websocket_has_no_path_and_no_origin(transport: str, changed: dict[str, Any]) -> None:
    (key,) = changed
    assert words_of(transport=transport, **changed) == f"{key}: transport '{transport}' has no WebSocket @ "
    assert listener(transport="ws", **changed)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"transport": "quic"}, "Input should be 'tcp', 'tls', 'ws' or 'wss' @ transport"),
        ({"transport": []}, "Input should be 'tcp', 'tls', 'ws' or 'wss' @ transport"),
        ({"transport": "tls", "certificate_file": "c"}, "private_key_file is missing: certificate_file and"),
        ({"transport": "tls", "private_key_file": "k"}, "certificate_file is missing: certificate_file and"),
        ({"transport": "tls", "client_certificate": "optional"}, "client_ca_file is missing: client_certificate is"),
        ({"transport": "tls", "client_ca_file": "c"}, "client_ca_file: client_certificate is 'off'"),
        ({"transport": "tls", "crl_file": "c"}, "crl_file: client_certificate is 'off'"),
        ({"transport": "tls", "certificate_names": "san"}, "certificate_names: client_certificate is 'off'"),
        ({"transport": "tls", "certificate_account": "a"}, "certificate_account: client_certificate is 'off'"),
        ({"transport": "ws", "path": "mqtt"}, "String should match pattern"),
        ({"transport": "ws", "path": "/a b"}, "String should match pattern"),
        ({"unix_path": "/s", "host": "127.0.0.1"}, "unix_path: a Unix socket has no host and no port"),
        ({"unix_path": "/s", "port": 1883}, "unix_path: a Unix socket has no host and no port"),
        ({"unix_mode": "0600"}, "unix_mode: this listener is no Unix socket"),
        ({"unix_path": "/s", "unix_mode": "rw"}, "expected octal digits, such as 0660 @ unix_mode"),
        (
            {"unix_path": "/s", "unix_mode": 660},
            'expected at most 0777 in octal digits, which TOML has as 0o660 or "0660"',
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    assert words in words_of(**values)


def test_a_unix_socket_has_a_mode_and_is_local() -> None:
    one = listener(unix_path="/run/broker.sock")
    assert (one.host, one.port, one.unix_mode, one.is_local) == ("", 0, 0o660, True)
    assert one.address == "/run/broker.sock"
    assert listener(unix_path="/run/broker.sock", unix_mode="0600").unix_mode == 0o600


transports = st.sampled_from(TRANSPORTS)
sensible = st.fixed_dictionaries(
    {"transport": transports},
    optional={
        "name": st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,10}\Z"),
        "host": st.sampled_from(["", "::", "127.0.0.1", "example.org"]),
        "port": st.integers(0, 65_535),
        "open": st.booleans(),
        "durability": st.sampled_from(["synced", "relaxed", "memory"]),
        "applications_from_anywhere": st.booleans(),
        "proxy_protocol": st.booleans(),
    },
)


@given(sensible)
def test_a_listener_is_the_same_after_being_told_its_own_values(values: dict[str, Any]) -> None:
    one = listener(**values)
    assert listener(**one.model_dump()) == one
    assert listener(**one.model_dump(mode="json")) == one


# ---------------------------------------------------------------- the broker's doors together


def test_the_four_doors_are_there_by_default() -> None:
    config = load_config()
    assert [(one.name, one.host, one.port, one.transport) for one in config.listeners] == [
        ("mqtt", "0.0.0.0", 1883, "tcp"),
        ("mqtts", "0.0.0.0", 8883, "tls"),
        ("ws", "0.0.0.0", 8083, "ws"),
        ("wss", "0.0.0.0", 8084, "wss"),
    ]
    assert (config.https.enabled, config.https.host, config.https.port) == (True, "0.0.0.0", 8443)
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8080)


def test_each_flag_moves_the_first_listener_of_its_transport(tmp_path: Path) -> None:
    config = load_config(flags=Flags(mqtt_port=1, mqtts_port=2, ws_port=3, wss_port=4, http_port=5, https_port=6))
    assert [one.port for one in config.listeners] == [1, 2, 3, 4]
    assert (config.http.port, config.https.port) == (5, 6)
    file = tmp_path / "c.toml"
    file.write_text("[[listeners]]\ntransport='wss'\n[[listeners]]\nname='b'\ntransport='wss'\n")
    config = load_config(file, flags=Flags(wss_port=7, ws_port=8))
    assert [(one.name, one.port) for one in config.listeners] == [("wss", 7), ("b", 8084), ("ws", 8)]


def test_open_mode_opens_the_first_alone_and_keeps_the_others_at_home() -> None:
    config = load_config(flags=Flags(open_mode=True))
    assert [one.open for one in config.listeners] == [True, False, False, False]
    assert {one.host for one in config.listeners} == {"127.0.0.1"}
    assert config.https.host == "127.0.0.1"


def test_a_free_port_for_the_first_means_free_ports_for_those_that_nobody_chose() -> None:
    config = load_config(flags=Flags(mqtt_port=0, ws_port=9))
    assert [one.port for one in config.listeners] == [0, 0, 9, 0]
    assert load_config(flags=Flags(http_port=0)).https.port == 0
    assert load_config(flags=Flags(http_port=0, https_port=9)).https.port == 9
    assert BrokerConfig.model_validate({"http": {"port": 0}}).https.port == 0


def test_the_host_flag_moves_all_but_unix_sockets(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[[listeners]]\nunix_path='/s'\n[[listeners]]\nname='b'\ntransport='tls'\n")
    config = load_config(file, flags=Flags(host="::1"))
    assert [one.host for one in config.listeners] == ["", "::1"]
    assert (config.http.host, config.https.host) == ("::1", "::1")


def test_open_mode_may_have_a_unix_socket_beside_it() -> None:
    listeners = [{"open": True}, {"name": "b", "unix_path": "/s", "open": True}]
    assert BrokerConfig.model_validate({"listeners": listeners})
    with pytest.raises(ValidationError, match="'https' listens on 192"):
        BrokerConfig.model_validate({"listeners": listeners, "https": {"host": "192.0.2.1"}})
    away = {"enabled": False, "host": "192.0.2.1"}
    assert not BrokerConfig.model_validate({"listeners": listeners, "https": away}).https.enabled


@pytest.mark.parametrize(
    ("listeners", "host"),
    [
        ([{"host": "127.0.0.1"}], "127.0.0.1"),
        ([{"host": "::1"}, {"name": "b", "unix_path": "/s"}], "127.0.0.1"),
        ([ListenerConfig(host="localhost")], "127.0.0.1"),
        ([{"host": "127.0.0.1"}, {"name": "b"}], "0.0.0.0"),
        ([{}], "0.0.0.0"),
        ([], "0.0.0.0"),
    ],
)
def test_https_stays_at_home_where_all_listeners_do(listeners: list[Any], host: str) -> None:
    assert BrokerConfig.model_validate({"listeners": listeners}).https.host == host
    away = BrokerConfig.model_validate({"listeners": listeners, "https": {"host": "192.0.2.1"}})
    assert away.https.host == "192.0.2.1"


def test_a_proxy_header_is_taken_from_somebody_who_is_named() -> None:
    told = [{"proxy_protocol": True}]
    with pytest.raises(ValidationError, match=r"listeners\.0\.proxy_protocol: nobody is in trusted_proxies"):
        BrokerConfig.model_validate({"listeners": told})
    config = BrokerConfig.model_validate({"listeners": told, "trusted_proxies": ["10.0.0.0/8", "::1", "192.0.2.7"]})
    assert [str(one) for one in config.trusted_proxies] == ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]
    assert BrokerConfig.model_validate({"listeners": [{"proxy_protocol": True, "unix_path": "/s"}]})


@pytest.mark.parametrize("words", ["10.0.0.1/8", "example.org", ""])
def test_a_proxy_is_an_address_or_a_network(words: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        BrokerConfig.model_validate({"trusted_proxies": [words]})


@pytest.mark.parametrize("name", ["http", "https"])
def test_no_listener_takes_the_name_of_another_door(name: str) -> None:
    with pytest.raises(ValidationError, match="a name of its own"):
        BrokerConfig.model_validate({"listeners": [{"name": name}]})


def test_https_files_come_together() -> None:
    with pytest.raises(ValidationError, match="private_key_file is missing"):
        HttpsConfig.model_validate({"certificate_file": "c.pem"})


@given(st.fixed_dictionaries({}, optional={"listeners": st.just([{"open": True}]), "http": st.just({"port": 0})}))
def test_a_configuration_is_the_same_after_being_told_its_own_values(values: dict[str, Any]) -> None:
    config = BrokerConfig.model_validate(values)
    assert BrokerConfig.model_validate(config.model_dump(mode="json")) == config


def test_loopback_is_judged_by_address_and_not_by_looks() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(
        is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.0.0.1.nip")
    )


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (Endpoint("mqtt", "mqtt", "0.0.0.0", 1), "mqtt://127.0.0.1:1"),
        (Endpoint("https", "https", "::", 2), "https://[::1]:2"),
        (Endpoint("local", "mqtt", "", 0, "/run/b.sock"), "unix:///run/b.sock"),
    ],
)
def test_an_endpoint_tells_its_url(endpoint: Endpoint, url: str) -> None:
    assert endpoint.url == url


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_callers_are_counted_by_network(address: str, network: str) -> None:
    assert network_of(address) == network
