"""Origins of the configuration: put into the one spelling that browsers send, or refused with words."""

from __future__ import annotations

import pytest

from broker.config import BrokerConfig, load_config
from broker.errors import ConfigError
from broker.net.upgrades import UpgradeRules, judge_upgrade
from broker.origins import plain_origin


@pytest.mark.parametrize(
    ("configured", "sent"),
    [
        ("https://app.example.org", "https://app.example.org"),
        ("HTTPS://App.Example.ORG", "https://app.example.org"),
        ("https://app.example.org/", "https://app.example.org"),
        ("https://app.example.org:443", "https://app.example.org"),
        ("http://app.example.org:80/", "http://app.example.org"),
        ("https://app.example.org:8443", "https://app.example.org:8443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("file://", "file://"),
        ("null", "null"),
    ],
)
def test_an_origin_becomes_what_a_browser_sends(configured: str, sent: str) -> None:
    assert plain_origin(configured) == sent
    assert plain_origin(sent) == sent


NO_ORIGINS = [
    "",
    "app.example.org",
    "https://",
    "https://app.example.org/path",
    "https://app.example.org//",
    "https://app.example.org?x",
    "https://*.example.org",
    "https://user@app.example.org",
    "https://app.example.org:0",
    "https://app.example.org:65536",
    "https://app.example.org:",
    "https://app example.org",
    "https://müller.example",
    "https://app.example.org\n",
    "*",
]


@pytest.mark.parametrize("text", NO_ORIGINS)
def test_what_no_browser_sends_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="expected an origin as browsers send it"):
        BrokerConfig.model_validate({"listeners": [{"transport": "ws", "allowed_origins": [text]}]})
    if text != "*":
        with pytest.raises(ValueError, match="expected an origin as browsers send it"):
            BrokerConfig.model_validate({"http": {"allowed_origins": [text]}})


def test_the_refusal_names_the_key_and_what_was_there() -> None:
    environment = {"IOT_BROKER_HTTP__ALLOWED_ORIGINS": '["https://good.example.org", "https://bad.example.org/x"]'}
    with pytest.raises(
        ConfigError, match=r"http\.allowed_origins\.1: expected an origin .* 'https://bad.example.org/x'"
    ):
        load_config(environ=environment)


def test_a_browser_gets_in_where_its_origin_is_configured_with_capitals_and_a_slash() -> None:
    config = BrokerConfig.model_validate(
        {"listeners": [{"transport": "ws", "allowed_origins": ["HTTPS://App.example.org/"]}]}
    )
    rules = UpgradeRules(allowed_origins=config.listeners[0].allowed_origins)
    assert judge_upgrade(request("https://app.example.org"), rules).status == 101
    assert judge_upgrade(request("https://other.example.org"), rules).status == 403


def request(origin: str) -> bytes:
    lines = (
        "GET /mqtt HTTP/1.1",
        "Host: broker",
        f"Origin: {origin}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: mqtt",
    )
    return "\r\n".join([*lines, "", ""]).encode()
