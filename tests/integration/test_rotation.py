"""A device's password is exchanged over REST while it is connected: what is cut, when, and what lives on."""

from __future__ import annotations

import struct
import time
from datetime import UTC, datetime

import pytest

from tests.integration import wire
from tests.integration.served import Login, Served
from tests.integration.wire import V5, V311, Client

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
ADMINISTRATIVE_ACTION = 0x98
PROMISED_S = 1.0
MARGIN_S = 4.0  # for a machine that does other things


def rotate(served: Served, device: Login, body: object = None) -> dict[str, object]:
    answer = served.call("POST", f"/devices/{device.device_id}/credentials/rotate", body)
    assert answer.status_code == 200, answer.text
    told: dict[str, object] = answer.json()
    return told


def new_login(told: dict[str, object]) -> tuple[str, str]:
    credentials = told["mqtt_credentials"]
    assert isinstance(credentials, dict)
    assert set(credentials) == {"username", "password", "client_id", "broker", "port", "protocol"}
    return str(credentials["username"]), str(credentials["password"])


def keep(client: Client, client_id: str, username: str, password: str) -> None:
    """Connect with a session that is kept for ten minutes."""
    expiry = b"\x11" + struct.pack("!I", 600)
    client.send(wire.connect(V5, client_id, username, password, flags=0xC0, raw_properties=expiry))
    assert client.expect(wire.CONNACK).body[1] == 0


def assert_cut(client: Client) -> None:
    client.expect_closed(ADMINISTRATIVE_ACTION if client.version == V5 else None)


@VERSIONS
def test_a_rotation_without_a_body_cuts_who_came_in_with_the_old_password(
    served: Served, device: Login, version: int
) -> None:
    with Client(served.port(), version) as old, Client(served.port(), version) as new:
        old.login(device.username, device.password, "old")
        username, password = new_login(rotate(served, device))
        started = time.monotonic()
        assert_cut(old)
        assert time.monotonic() - started < PROMISED_S + MARGIN_S
        new.login(username, password, "new")
        assert new.subscribe(device.topic("commands")) == [1]
        with Client(served.port(), version) as refused:
            refused.send(wire.connect(version, "late", device.username, device.password))
            refused.expect_refused(0x87 if version == V5 else 5)


def test_an_overlap_lets_both_in_and_ends_by_itself(served: Served, device: Login) -> None:
    with Client(served.port(), V5) as old, Client(served.port(), V5) as new:
        old.login(device.username, device.password, "old")
        told = rotate(served, device, {"overlap_seconds": 2})
        until = datetime.strptime(str(told["previous_valid_until"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        new.login(*new_login(told), "new")
        old.ping()
        shown = served.call("GET", f"/devices/{device.device_id}").json()["passwords"]
        assert [one["valid_until"] for one in shown] == [None, told["previous_valid_until"]]
        assert all(one["last_used"] for one in shown)
        assert_cut(old)
        assert -1 <= datetime.now(UTC).timestamp() - until.timestamp() < PROMISED_S + MARGIN_S
        new.ping()
        shown = served.call("GET", f"/devices/{device.device_id}").json()["passwords"]
        assert [one["valid_until"] for one in shown] == [None]


def test_a_kept_session_and_what_waits_in_it_outlive_the_password(served: Served, device: Login) -> None:
    with Client(served.port(), V5) as old:
        keep(old, device.device_id, device.username, device.password)
        old.subscribe(device.topic("commands"))
    told = rotate(served, device, {})
    served.call("POST", f"/devices/{device.device_id}/commands", {"payload": 7})
    with Client(served.port(), V5) as new:
        keep(new, device.device_id, *new_login(told))
        new.expect(wire.PUBLISH)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"overlap_seconds": -1}, "overlap_seconds"),
        ({"overlap_seconds": 86_401}, "overlap_seconds"),
        ({"overlap_seconds": "60"}, "overlap_seconds"),
        ({"overlap_seconds": 1.5}, "overlap_seconds"),
        ({"overlap_seconds": True}, "overlap_seconds"),
        ({"overlap_seconds": None}, "overlap_seconds"),
        ({"password": "mine"}, "password"),
        ([], None),
        (3, None),
    ],
)
def test_a_body_that_is_wrong_is_refused_by_name_and_nothing_ends(
    served: Served, device: Login, body: object, field: str | None
) -> None:
    answer = served.call("POST", f"/devices/{device.device_id}/credentials/rotate", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "INVALID_PARAMETER"
    assert error.get("details", {}).get("field") == field
    with Client(served.port(), V5) as client:
        client.login(device.username, device.password)


def test_a_device_is_deleted_that_has_used_its_passwords(served: Served) -> None:
    device = served.register()
    with Client(served.port(), V5) as client:
        client.login(device.username, device.password)
    rotate(served, device, {"overlap_seconds": 60})
    assert served.call("DELETE", f"/devices/{device.device_id}").status_code == 204
    assert served.call("GET", f"/devices/{device.device_id}").status_code == 404


def test_an_unknown_device_is_not_found(served: Served) -> None:
    assert served.call("POST", "/devices/nobody/credentials/rotate").status_code == 404
