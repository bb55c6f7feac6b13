"""What a key with scopes and topic patterns may do: every route over REST, every packet over MQTT, on a real broker."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from api.routes import BASE_PATH, ApiRoute
from api.table import ROUTES
from broker import control
from broker.control import ControlRefused
from tests.integration import wire
from tests.integration.served import Login, Served
from tests.integration.test_rest import Caller, assert_error, run
from tests.integration.wire import V5, V311, Client

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
SCOPES = ("devices:read", "devices:write", "publish", "subscribe", "usage:read")
ACCOUNT_ROUTES = [row for row in ROUTES if row.path.startswith(BASE_PATH)]
ADMINISTRATIVE_ACTION = 0x98
MARGIN_S = 4.0  # for a machine that does other things


def ask(served: Served, command: str, **arguments: Any) -> Any:
    """Ask the broker as the command line does, without its start."""
    return asyncio.run(control.call(served.data_dir, command, arguments))


def key_with(served: Served, **rights: Any) -> str:
    """Make a key with a name of its own."""
    made = ask(served, "keys.create", account="default", name=f"app-{time.monotonic_ns()}", **rights)
    return str(made["api_key"])


def path_of(row: ApiRoute, device_id: str) -> str:
    return row.path.replace("{device_id}", device_id).replace("{", "").replace("}", "")


# ------------------------------------------------------------ over REST


def test_every_route_of_an_account_names_its_scope_and_what_publishes_its_topic() -> None:
    for row in ACCOUNT_ROUTES:
        assert row.scope in SCOPES, row
        assert bool(row.topic) == (row.scope == "publish"), row


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_takes_the_routes_of_its_scopes_and_no_other_whatever_they_name(scope: str) -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        others = [one for one in SCOPES if one != scope]
        for scopes, refused in (([scope], False), (others, True)):
            _, key = await caller.upper.admin.keys.create(1, f"k{refused}", scopes)
            for row in (row for row in ACCOUNT_ROUTES if row.scope == scope and row.method != "DELETE"):
                for named in (device_id, "nobody"):
                    answer = await caller.http.request(
                        row.method, path_of(row, named), content=b"no json", headers={"Authorization": f"Bearer {key}"}
                    )
                    assert (answer.status_code == 403) == refused, (row, answer.text)
                    if refused:
                        assert_error(answer, 403, "INSUFFICIENT_PERMISSIONS")
                        assert answer.json()["detail"] == f"this needs a key with the scope {scope}"

    run(body)


def test_a_refusal_reads_no_body_and_changes_nothing() -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        _, key = await caller.upper.admin.keys.create(1, "reader", ["devices:read"])
        headers = {"Authorization": f"Bearer {key}"}
        before = {table: caller.upper.store.load(table) for table in ("devices", "keys", "counters")}

        async def unread() -> Any:
            raise AssertionError("the body was read")
            yield b""

        path = f"/v1/iot/devices/{device_id}"
        for method, where in (("POST", "/v1/iot/devices"), ("PATCH", path), ("POST", path + "/commands")):
            answer = await caller.http.request(method, where, content=unread(), headers=headers)
            assert_error(answer, 403, "INSUFFICIENT_PERMISSIONS")
        assert_error(await caller.http.delete(path, headers=headers), 403, "INSUFFICIENT_PERMISSIONS")
        assert {table: caller.upper.store.load(table) for table in before} == before
        assert (await caller.http.get(path, headers=headers)).status_code == 200

    run(body)


def test_patterns_bind_messages_over_rest_whether_the_device_exists_or_not(served: Served, device: Login) -> None:
    other = served.register()
    bound = key_with(served, patterns=[f"devices/{device.device_id}/#", "devices/absent/commands"])
    every = key_with(served, patterns=["devices/{device_id}/commands"])
    none = key_with(served, patterns=["devices/{device_id}/config"])

    def send(key: str, device_id: str) -> httpx.Response:
        return served.call("POST", f"/devices/{device_id}/commands", {"payload": 1}, key)

    assert send(bound, device.device_id).status_code == 202
    assert send(bound, other.device_id).status_code == 403
    assert send(bound, "no-such").status_code == 403
    assert send(bound, "absent").status_code == 404
    assert send(every, other.device_id).status_code == 202
    refused = send(none, device.device_id)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "INSUFFICIENT_PERMISSIONS"
    assert served.call("GET", "/devices", api_key=none).status_code == 200


def test_a_webhook_is_told_nothing_to_which_its_maker_may_not_subscribe(served: Served) -> None:
    def hook(key: str, *events: str, **more: Any) -> httpx.Response:
        url = "https://hooks.example.com/iot"
        return served.call("POST", "/webhooks", {"url": url, "events": events, "active": False, **more}, key)

    writer = key_with(served, scopes=["devices:write", "publish"])
    bound = key_with(served, patterns=["devices/{device_id}/telemetry/#"])
    for events in (["telemetry"], ["presence"], ["warnings", "presence"]):
        assert_error(hook(writer, *events), 403, "INSUFFICIENT_PERMISSIONS")
    for events, topic_filter in ((["telemetry"], "#"), (["presence"], None), (["telemetry", "presence"], None)):
        assert_error(hook(bound, *events, topic_filter=topic_filter), 403, "INSUFFICIENT_PERMISSIONS")
    assert hook(writer, "warnings").status_code == 201
    assert hook(bound, "telemetry").status_code == 201
    assert hook(bound, "telemetry", topic_filter="devices/+/telemetry/x").status_code == 201

    whole = "/webhooks/" + hook(served.api_key, "telemetry", topic_filter="#").json()["webhook_id"]
    for change in ({"url": "https://elsewhere.example.com/"}, {"active": True}, {"events": ["presence"]}):
        for key in (writer, bound):
            assert_error(served.call("PATCH", whole, change, key), 403, "INSUFFICIENT_PERMISSIONS")
    assert served.call("PATCH", whole, {"topic_filter": None}, bound).status_code == 200
    assert served.call("PATCH", whole, {"active": False}, writer).status_code == 200
    for one in served.call("GET", "/webhooks").json()["webhooks"]:
        assert served.call("DELETE", "/webhooks/" + one["webhook_id"]).status_code == 204


# ------------------------------------------------------------ over MQTT


def refused_code(version: int, mqtt_5: int) -> int:
    return mqtt_5 if version == V5 else 0x80


@VERSIONS
def test_an_application_without_the_scope_publishes_nothing(served: Served, device: Login, version: int) -> None:
    key = key_with(served, scopes=["subscribe"])
    with Client(served.port(), version) as client:
        client.login("apikey", key)
        assert client.subscribe("devices/+/telemetry") == [1]
        client.send(wire.publish(version, device.topic("commands"), b"x", 1))
        if version == V5:
            assert client.expect(wire.PUBACK).body[2] == 0x87
        else:
            client.expect_closed()
    with Client(served.port(), version) as client:
        client.send(will(version, key, device.topic("commands")))
        client.expect_refused(0x87 if version == V5 else 5)


def will(version: int, key: str, topic: str) -> bytes:
    """A CONNECT with a will, whose fields stand between the client id and the user name."""
    fields = wire.binary(topic) + wire.binary(b"gone")
    client_id = b"c"
    plain = wire.connect(version, client_id, "apikey", key, flags=0xC6)
    head = plain.index(wire.binary(client_id) + wire.binary("apikey")) + len(wire.binary(client_id))
    body = plain[:head] + (b"\0" if version == V5 else b"") + fields + plain[head:]
    start = 1 + next(at for at in range(1, 5) if not plain[at] & 0x80)
    return wire.packet(0x10, body[start:])


@VERSIONS
def test_an_application_without_the_scope_subscribes_to_nothing(served: Served, device: Login, version: int) -> None:
    key = key_with(served, scopes=["publish"])
    with Client(served.port(), version) as client:
        client.login("apikey", key)
        for filters in ("#", device.topic("telemetry"), "$share/g/a"):
            assert client.subscribe(filters) == [refused_code(version, 0x87)]
        assert client.publish_qos1(device.topic("commands"), b"x") in (0, 0x10)
    with Client(served.port(), version) as client:
        client.send(will(version, key, device.topic("commands")))
        assert client.expect(wire.CONNACK).body[1] == 0


@VERSIONS
def test_patterns_limit_both_directions_and_the_will(served: Served, device: Login, version: int) -> None:
    key = key_with(served, patterns=["devices/{device_id}/telemetry/#", "jobs/+"])
    with Client(served.port(), version) as client:
        client.login("apikey", key)
        allowed = ("devices/+/telemetry", device.topic("telemetry/x"), "jobs/1", "$share/g/jobs/+")
        refused = ("#", "devices/#", "devices/+/+", "jobs/#", "jobs/1/2", device.topic("commands"), "$share/g/jobs/#")
        assert client.subscribe(*allowed, *refused) == [1] * 4 + [refused_code(version, 0x87)] * 7
        assert client.publish_within("jobs/7", b"mine") == [b"mine"]
        client.send(wire.publish(version, device.topic("commands"), b"x", 9))
        if version == V5:
            assert client.expect(wire.PUBACK).body[2] == 0x87
        else:
            client.expect_closed()
    for topic, code in (("jobs/1", 0), ("jobs", 0x87 if version == V5 else 5)):
        with Client(served.port(), version) as client:
            client.send(will(version, key, topic))
            assert client.expect(wire.CONNACK).body[1] == code


@pytest.mark.parametrize("pattern", ["#", "devices/#", "devices/+/presence", "devices/{device_id}/presence"])
def test_no_pattern_lets_anybody_say_who_is_present(served: Served, device: Login, pattern: str) -> None:
    with Client(served.port()) as client:
        client.login("apikey", key_with(served, patterns=[pattern]))
        assert client.publish_qos1(device.topic("presence"), b"here") == 0x87
        assert client.subscribe(device.topic("presence")) == [1]


@VERSIONS
def test_a_key_without_both_scopes_does_not_come_in(served: Served, version: int) -> None:
    key = key_with(served, scopes=["devices:read", "usage:read"])
    with Client(served.port(), version) as client:
        client.send(wire.connect(version, "c", "apikey", key))
        client.expect_refused(0x87 if version == V5 else 5)
    assert served.call("GET", "/quota", api_key=key).status_code == 200
    assert served.call("POST", "/devices", {}, key).status_code == 403


@VERSIONS
def test_an_expired_key_is_cut_and_comes_in_no_more(served: Served, version: int) -> None:
    until = int(time.time()) + 2
    key = key_with(served, expires_at=until)
    with Client(served.port(), version) as client:
        client.login("apikey", key)
        client.expect_closed(ADMINISTRATIVE_ACTION if version == V5 else None)
        assert 0 <= time.time() - until < 1 + MARGIN_S
    assert served.call("GET", "/devices", api_key=key).status_code == 401
    with Client(served.port(), version) as client:
        client.send(wire.connect(version, "late", "apikey", key))
        client.expect_refused(0x87 if version == V5 else 5)


def test_a_session_goes_on_under_the_next_key_of_its_name_and_no_other_principal_has_it(
    served: Served, device: Login
) -> None:
    name = f"backend-{time.monotonic_ns()}"
    rights = {"scopes": ["subscribe"], "patterns": ["devices/+/telemetry"]}
    made, other = (ask(served, "keys.create", account="default", name=name, **rights) for _ in range(2))
    first, second = made["api_key"], other["api_key"]
    with pytest.raises(ControlRefused, match="other rights"):
        ask(served, "keys.create", account="default", name=name)
    expiry = b"\x11\x00\x00\x02\x58"

    def enter(client: Client, key: str) -> int:
        client.send(wire.connect(V5, "c", "apikey", key, flags=0xC0, raw_properties=expiry))
        return client.expect(wire.CONNACK).body[0]

    with Client(served.port()) as old:
        enter(old, first)
        assert old.subscribe("devices/+/telemetry") == [1]
        ask(served, "keys.revoke", key_id=made["key_id"])
        old.expect_closed(ADMINISTRATIVE_ACTION)
    with Client(served.port()) as publisher:
        publisher.login(device.username, device.password)
        assert publisher.publish_qos1(device.topic("telemetry"), b"21.5") == 0
    with Client(served.port()) as new:
        assert enter(new, second) == 1
        assert new.expect(wire.PUBLISH).payload(V5) == b"21.5"
    assert served.call("GET", f"/devices/{device.device_id}").status_code == 200  # revoking does not touch devices
    with Client(served.port()) as stranger:
        assert enter(stranger, key_with(served)) == 0


def test_the_command_line_makes_a_key_with_rights_and_an_end_and_lists_its_use(served: Served) -> None:
    words = ("--scope", "publish", "--topic", "a/+", "--topic", "b", "--expires-at", "2099-01-31T12:00:00Z")
    made = served.cli("keys", "create", "bounded", *words)
    with Client(served.port()) as client:
        client.login("apikey", made.stdout.strip())
    row = next(line.split() for line in served.cli("keys", "list").stdout.splitlines() if " bounded " in line)
    assert row[3:6] == ["publish", "a/+,b", "2099-01-31T12:00:00Z"]
    assert all(one.endswith("Z") for one in row[6:8])  # made, and used: by the CONNECT alone
    assert row[8] == "-"
