"""Who may come in through which door: API keys in clear text, and clients that still speak MQTT 3.1."""

from __future__ import annotations

import pytest

from broker.reasons import ReasonCode
from broker.wire import Connack, Connect
from tests.support.core import Client, Core, encode

LISTENER = 3


def arriving(core: Core, version: int, *, from_loopback: bool, user_name: str = "user") -> Client:
    handle = core.shard.open_connection(LISTENER, core.now_ns, from_loopback=from_loopback)
    client = Client(core, handle, version)
    core.clients.append(client)
    client.send(Connect("c", clean_start=True, user_name=user_name, password=b"pw"))
    return client


@pytest.mark.parametrize(("version", "refused"), [(4, 5), (5, ReasonCode.NOT_AUTHORIZED)])
def test_an_api_key_is_taken_from_loopback_alone(core: Core, version: int, refused: int) -> None:
    assert arriving(core, version, from_loopback=True).pick(Connack).reason_code == 0
    elsewhere = arriving(core, version, from_loopback=False)
    assert elsewhere.pick(Connack).reason_code == refused
    assert not elsewhere.is_open


def test_an_api_key_is_taken_from_anywhere_where_the_listener_says_so(core: Core) -> None:
    core.shard.allow_applications(LISTENER)
    assert arriving(core, 5, from_loopback=False).pick(Connack).reason_code == 0


def test_a_device_comes_from_anywhere(core: Core) -> None:
    core.grant("dev", device_id="dev")
    assert arriving(core, 5, from_loopback=False, user_name="dev").pick(Connack).reason_code == 0


def test_a_refused_application_does_not_take_over_a_session(core: Core) -> None:
    inside = arriving(core, 5, from_loopback=True)
    arriving(core, 5, from_loopback=False)
    assert inside.is_open


def in_3_1(user_name: str, password: bytes, level: int = 3) -> bytes:
    """A CONNECT of MQTT 3.1: another protocol name, level 3, else laid out like one of 3.1.1."""
    body = encode(Connect("c", clean_start=True, user_name=user_name, password=password), 4)[2:]
    body = b"\x00\x06MQIsdp" + bytes([level]) + body[7:]
    return bytes([0x10, len(body)]) + body


@pytest.mark.parametrize(("password", "code"), [(b"pw", 1), (b"wrong", 5)], ids=["known", "unknown"])
def test_mqtt_3_1_hears_about_a_bad_login_before_it_hears_about_its_version(
    any_core: Core, password: bytes, code: int
) -> None:
    client = any_core.open(version=4)
    client.send(in_3_1("user", password))
    assert client.received() == [Connack(False, code)]
    assert not client.is_open
    assert any_core.asked == []


def test_mqtt_3_1_on_an_open_listener_hears_about_its_version(core: Core) -> None:
    core.open_listener(LISTENER)
    client = core.open(version=4, listener=LISTENER)
    client.send(in_3_1("anybody", b"anything"))
    assert client.received() == [Connack(False, 1)]


def test_another_level_under_the_old_name_is_an_unknown_version(core: Core) -> None:
    client = core.open(version=4)
    client.send(in_3_1("user", b"pw", level=4))
    assert client.received() == [Connack(False, 1)]


def test_a_truncated_connect_of_mqtt_3_1_is_malformed(core: Core) -> None:
    whole = in_3_1("user", b"pw")
    client = core.open(version=4)
    client.send(bytes([0x10, len(whole) - 5]) + whole[2:-3])
    assert not client.is_open
    assert client.received() == []
