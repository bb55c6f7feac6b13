"""Messages to devices against a real broker, with paho as the device: what it gets, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.served import Login, Served
from tests.integration.test_paho import V5, VERSIONS, Connect, open_client

__all__ = ["open_client"]


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_device_gets_the_callers_payload_and_mqtt_5_where_to_answer(
    served: Served, open_client: Connect, device: Login, version: int, qos: int
) -> None:
    client = open_client(version, device)
    client.subscribe(device.topic("commands"), 2)
    sent = served.call(
        "POST", f"/devices/{device.device_id}/commands", {"payload": {"on": True}, "qos": qos, "expiry_seconds": 60}
    )
    assert sent.status_code == 202
    got = client.next_message()
    assert (got.topic, got.payload, got.qos, got.retain) == (device.topic("commands"), b'{"on":true}', qos, False)
    if version == V5:
        message_id = sent.json()["message_id"]
        assert got.properties.ResponseTopic == device.topic(f"events/commands/{message_id}")
        assert got.properties.CorrelationData == message_id.encode()
        assert got.properties.MessageExpiryInterval == 60


@VERSIONS
def test_a_device_that_comes_later_gets_the_newest_configuration_alone(
    served: Served, open_client: Connect, device: Login, version: int
) -> None:
    for number in range(3):
        assert served.call("POST", f"/devices/{device.device_id}/config", {"payload": number}).status_code == 202
        served.call("POST", f"/devices/{device.device_id}/firmware", {"payload": number})
    client = open_client(version, device)
    client.subscribe(device.topic("config"), 1)
    got = client.next_message()
    assert (got.topic, got.payload, got.retain) == (device.topic("config"), b"2", True)
    served.call("POST", f"/devices/{device.device_id}/config", {"payload_base64": ""})
    assert client.next_message().payload == b""  # cleared
    late = open_client(version, device, client_id="late")
    late.subscribe(device.topic("config"), 1)
    served.call("POST", f"/devices/{device.device_id}/config", {"payload": "next", "retain": False})
    got = late.next_message()
    assert (got.payload, got.retain) == (b'"next"', False)


def test_a_configuration_of_qos_0_is_on_disk_when_it_is_answered(serve: Callable[..., Served]) -> None:
    served = serve()
    device = served.register()
    served.call("POST", f"/devices/{device.device_id}/config", {"payload": 1, "qos": 0})
    served.kill()
    again = serve(data_dir=served.data_dir, api_key=served.api_key)
    assert again.call("GET", "/stats").json()["retained"]["count"] == 1
