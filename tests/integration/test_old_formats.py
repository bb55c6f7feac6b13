"""A data directory of every format that there ever was starts, and everybody who was in it is let in again."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.testing import BrokerUnderTest
from tests.integration.wire import Client

SAMPLES = sorted((Path(__file__).resolve().parents[1] / "samples").glob("format*"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_accounts_keys_and_devices_of_an_old_format_are_there(
    sample: Path, tmp_path: Path, make_iot_broker: Callable[..., BrokerUnderTest]
) -> None:
    data_dir = Path(shutil.copytree(sample, tmp_path / "data"))
    expected = json.loads((data_dir / "expected.json").read_text(encoding="utf-8"))
    for _ in range(2):  # as it was, and as the first start has left it
        broker = make_iot_broker(data_dir)
        assert broker.broker.first_key is None
        check_keys(broker, expected)
        check_devices(broker, expected)
        broker.stop()


def check_keys(broker: BrokerUnderTest, expected: dict[str, Any]) -> None:
    for account, key in expected["keys"].items():
        mine = {one["device_id"] for one in expected["devices"] if one["account"] == account}
        listed = get(broker, "/v1/iot/devices", key)["devices"]
        assert {one["device_id"] for one in listed} == mine
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        get(broker, "/v1/iot/devices", expected["revoked_key"])
    refused.value.close()


def check_devices(broker: BrokerUnderTest, expected: dict[str, Any]) -> None:
    for device in expected["devices"]:
        with Client(broker.port) as client:
            client.login(device["username"], device["password"], device["device_id"])
            assert client.subscribe(f"devices/{device['device_id']}/commands") == [1]


def get(broker: BrokerUnderTest, path: str, key: str) -> dict[str, Any]:
    request = urllib.request.Request(broker.http_url + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
