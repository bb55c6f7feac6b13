"""Rules of secrets: what the digest binds, and how much chance is in what is drawn."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from api.models import MqttCredentialsAnswer, NewDeviceAnswer
from broker.admin import MqttCredentials
from broker.policy import credentials
from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import ConnectRequest
from broker.wire import Connect

SECRET = bytes(range(32))


def test_the_digest_is_the_one_the_core_computes() -> None:
    data = b"\x00\x03" + "dé".encode() + b"secret"
    expected = hashlib.blake2b(data, digest_size=32, key=SECRET).digest()
    assert credentials.credential(SECRET, "dé", b"secret") == expected


@given(st.text(max_size=8), st.binary(max_size=8), st.text(max_size=8), st.binary(max_size=8))
def test_no_two_logins_share_a_digest(name: str, password: bytes, other_name: str, other_password: bytes) -> None:
    same = (name, password) == (other_name, other_password)
    one = credentials.credential(SECRET, name, password)
    assert (one == credentials.credential(SECRET, other_name, other_password)) == same
    assert one != credentials.credential(SECRET[::-1], name, password)


def test_a_byte_cannot_move_from_the_name_to_the_password() -> None:
    assert credentials.credential(SECRET, "ab", b"c") != credentials.credential(SECRET, "a", b"bc")


def test_an_api_key_proves_the_same_over_http_and_mqtt() -> None:
    key = credentials.new_api_key()
    assert credentials.api_key_digest(SECRET, key) == credentials.credential(SECRET, "apikey", key.encode())


def test_what_is_drawn_has_the_contracts_form_and_never_repeats() -> None:
    drawn = [
        (credentials.new_api_key, r"wayscloud_iot_prod_[A-Za-z0-9]{32,}"),
        (credentials.new_device_id, r"iot_dev_[a-z2-7]{12,}"),
        (credentials.new_password, r"[A-Za-z0-9_-]{32,}"),
        (credentials.new_message_id, r"msg_[a-z2-7]{26}"),
    ]
    for draw, form in drawn:
        values = {draw() for _ in range(1000)}
        assert len(values) == 1000
        assert all(re.fullmatch(form, value) for value in values)


def test_devices_and_applications_have_the_contracts_rights() -> None:
    assert [filter_.split("/")[2] for filter_ in DEVICE.publish] == ["telemetry", "events", "status"]
    assert [filter_.split("/")[2] for filter_ in DEVICE.subscribe] == ["commands", "config", "firmware"]
    assert all(re.fullmatch(r"devices/\{device_id\}/\w+/#", one) for one in (*DEVICE.publish, *DEVICE.subscribe))
    # all of the account's space, but only the broker says who is present
    assert (APPLICATION.publish, APPLICATION.subscribe) == (("!devices/+/presence", "#"), ("#", "$SYS/#"))


def test_no_value_that_carries_a_password_shows_it_in_logs_and_tracebacks() -> None:
    login = {"username": "u", "password": "hunter2", "client_id": "c", "broker": "b", "port": 1883, "protocol": "mqtt"}
    carriers = (
        Connect(user_name="u", password=b"hunter2"),
        ConnectRequest(0, "192.0.2.1", 5, "c", "u", b"hunter2"),
        MqttCredentials("u", "hunter2", "c", "b", 1883, "mqtt"),
        MqttCredentialsAnswer.model_validate(login),
        NewDeviceAnswer.model_construct(
            mqtt_credentials=MqttCredentialsAnswer.model_validate(login), mqtt_password="hunter2"
        ),
    )
    assert not [carrier for carrier in carriers if "hunter2" in repr(carrier)]
