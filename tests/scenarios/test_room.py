"""Room for one more: connections, sessions and subscriptions of a principal, of its account and of the process."""

from __future__ import annotations

import pytest

from broker.ports import AccountLimits, GrantLimits
from broker.wire import Connack, Publish
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
KEPT = {"session_expiry_interval": 3600}


def device(core: Core, name: str, **limits: int) -> int:
    return core.grant(name, device_id=name, limits=GrantLimits(**limits))


def refused(core: Core, client_id: str, version: int = 5, **fields: object) -> int:
    """The reason code of a CONNECT that is refused."""
    client = core.connecting(client_id, version, **fields)  # type: ignore[arg-type]
    answer = client.pick(Connack)
    assert answer.reason_code
    assert not client.is_open
    code: int = answer.reason_code
    return code


@VERSIONS
def test_connections_of_a_device_end_at_its_limit_and_a_takeover_does_not(core: Core, version: int) -> None:
    device(core, "d", connections_maximum=2)
    first = core.connect("c1", version, user_name="d")
    core.connect("c2", version, user_name="d")
    assert refused(core, "c3", version, user_name="d") == (0x97 if version == 5 else 3)
    again = core.connect("c1", version, user_name="d")
    assert not first.is_open
    again.drop()
    core.connect("c3", version, user_name="d")


@VERSIONS
def test_sessions_of_a_device_end_at_its_limit_and_resuming_does_not(core: Core, version: int) -> None:
    device(core, "d", sessions_maximum=2)
    fields = {"properties": KEPT} if version == 5 else {"clean_start": False}
    for client_id in ("c1", "c2"):
        core.connect(client_id, version, user_name="d", **fields).drop()
    assert refused(core, "c3", version, user_name="d", **fields) == (0x97 if version == 5 else 3)
    core.connect("c1", version, user_name="d", clean_start=True).drop()  # it was the session's end, and this one's
    core.connect("c3", version, user_name="d", **fields)


def test_a_session_that_has_just_ended_leaves_its_place_at_once(core: Core) -> None:
    device(core, "d", sessions_maximum=1)
    for number in range(5):
        client = core.connecting(f"c{number}", user_name="d", run=False)
        assert client.pick(Connack).reason_code == 0
        core.shard.close_connection(client.handle)


@VERSIONS
def test_an_account_is_full_for_devices_before_it_is_for_applications(core: Core, version: int) -> None:
    for name in ("d1", "d2", "d3", "d4"):
        device(core, name)
    core.shard.put_account(1, AccountLimits(connections_maximum=4, applications_reserved=1))
    devices = [core.connect("c", version, user_name=name) for name in ("d1", "d2", "d3")]
    assert refused(core, "c", version, user_name="d4") == (0x97 if version == 5 else 3)
    core.connect("app", version)
    assert refused(core, "app2", version) == (0x97 if version == 5 else 3)
    devices[0].drop()
    core.connect("app2", version)
    assert refused(core, "c", version, user_name="d4") == (0x97 if version == 5 else 3)


def test_another_accounts_connections_do_not_count(core: Core) -> None:
    core.grant("other", account_id=2)
    core.shard.put_account(1, AccountLimits(connections_maximum=1))
    core.connect("c")
    core.connect("c", user_name="other")
    assert refused(core, "c2") == 0x97


def test_a_refused_login_tells_nothing_about_room(core: Core) -> None:
    core.grant("d", device_id="d", publish=(), limits=GrantLimits(connections_maximum=1))
    core.connect("c1", user_name="d")
    client = core.connecting("c2", user_name="d", will=None)
    assert client.pick(Connack).reason_code == 0x97


def test_sessions_of_an_account_and_of_the_process_are_limited() -> None:
    core = Core(sessions_maximum=3)
    core.grant()
    core.grant("other", account_id=2)
    core.shard.put_account(1, AccountLimits(sessions_maximum=2))
    core.connect("c1", properties=KEPT).drop()
    core.connect("c2", properties=KEPT).drop()
    assert refused(core, "c3") == 0x97
    core.connect("c3", user_name="other", properties=KEPT).drop()
    assert refused(core, "c4", user_name="other") == 0x97
    core.connect("c1", clean_start=False)
    core.wait(4000)
    core.end()


def test_subscriptions_of_a_principal_are_limited_by_its_grant(core: Core) -> None:
    device(core, "d", subscriptions_maximum=2)
    client = core.connect("c", user_name="d")
    assert client.subscribe("a", "b", "c", "a") == (0, 0, 0x97, 0)


@VERSIONS
def test_a_payload_beyond_the_plan_is_refused(core: Core, version: int) -> None:
    device(core, "d", payload_maximum_bytes=1000)
    client = core.connect("c", version, user_name="d")
    packet_id = client.publish("t", bytes(1000), 1)
    assert client.received()[0].packet_id == packet_id  # type: ignore[union-attr]
    client.publish("t", bytes(1001), 1)
    if version == 5:
        assert client.received()[0].reason_code == 0x97  # type: ignore[union-attr]
    else:
        client.closed_with(None)


@pytest.mark.clause("v5:MQTT-3.2.2-15")
def test_the_announced_packet_size_follows_the_plan(core: Core) -> None:
    device(core, "d", payload_maximum_bytes=1000)
    client = core.connecting("c", user_name="d")
    announced = client.pick(Connack).properties["maximum_packet_size"]
    assert announced == 1000 + 128 * 1024
    client.send(b"\x30" + b"\xff\xff\x7f")
    client.closed_with(0x95)


def test_new_limits_cut_nobody(core: Core) -> None:
    device(core, "d", connections_maximum=3)
    clients: list[Client] = [core.connect(f"c{number}", user_name="d") for number in range(3)]
    core.principals -= 1
    device(core, "d", connections_maximum=1, messages_per_s=2)
    core.run()
    assert all(client.is_open for client in clients)
    assert refused(core, "c4", user_name="d") == 0x97
    clients[0].send(Publish("t", b""), Publish("t", b""))
    assert core.shard.is_stopped(clients[0].handle)
