"""Wills on disk: recorded before their clients are let in, fired once, and not at all for who is back in time."""

from __future__ import annotations

from typing import Any

import pytest

from broker.ports import OWN_PRINCIPALS
from broker.reasons import DropReason, ReasonCode
from broker.wire import Connack, Connect, Disconnect, Will
from tests.support.core import Client, Core

GRACE_S = 30.0
VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def core() -> Core:
    core = Core()
    core.grant(synced=True)
    core.grant("plain")
    return core


def will(payload: bytes = b"gone", qos: int = 0, delay_s: int = 0, topic: str = "w", **fields: Any) -> Will:
    return Will(topic, payload, qos, properties={"will_delay_interval": delay_s} if delay_s else {}, **fields)


def watch(core: Core) -> Client:
    """Who sees every will, and keeps nothing."""
    watcher = core.connect("watcher", user_name="plain")
    watcher.subscribe("#", qos=2)
    return watcher


def records(core: Core) -> tuple[int, int]:
    """How many wills are on disk, and how many sessions."""
    core.run()
    return len(core.store.load("wills")), len(core.store.load("sessions"))


# ---------------------------------------------------------------- recorded


@VERSIONS
@pytest.mark.parametrize("kept", [False, True])
def test_a_connack_waits_until_the_will_is_on_disk(core: Core, version: int, kept: bool) -> None:
    core.hold()
    client = core.connecting("c", version, will=will(), clean_start=not kept)
    client.expect()
    core.release()
    assert client.pick(Connack).reason_code == 0
    assert records(core) == (1, 1)


def test_without_a_will_a_session_that_is_not_kept_writes_nothing(core: Core) -> None:
    core.hold()
    core.connect("c")
    core.release()
    assert records(core) == (0, 0)


@pytest.mark.parametrize(("level", "count"), [(0, 0), (1, 1)])
def test_who_is_promised_less_does_not_wait(core: Core, level: int, count: int) -> None:
    core.shard.set_durability(0, level)
    core.hold()
    core.connect("c", will=will())
    core.release()
    assert records(core) == (count, count)


@VERSIONS
@pytest.mark.parametrize("kept", [False, True])
def test_a_farewell_takes_the_record_away(core: Core, version: int, kept: bool) -> None:
    client = core.connect("c", version, will=will(), clean_start=not kept)
    client.send(Disconnect())
    assert records(core)[0] == 0
    assert watch(core.crash()).received() == []


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_published_is_on_disk_no_more(core: Core, kept: bool) -> None:
    client = core.keep("c", will=will()) if kept else core.connect("c", will=will())
    client.drop()
    assert records(core) == (0, int(kept))
    after = core.crash()
    watcher = watch(after)
    after.wait(GRACE_S * 3)
    watcher.expect()


def test_a_newer_connect_replaces_the_record(core: Core) -> None:
    core.keep("c", will=will(b"1", delay_s=30)).drop()
    core.resume("c", will=will(b"2", delay_s=30))
    assert records(core) == (1, 1)
    core.resume("c")
    assert records(core) == (0, 1)


def test_a_takeover_of_a_session_that_is_not_kept_leaves_one_record(core: Core) -> None:
    core.connect("c", will=will(b"1"))
    core.connect("c", will=will(b"2"))
    assert records(core) == (1, 1)


def test_revocation_takes_the_record_away(core: Core) -> None:
    core.keep("c", will=will(delay_s=100))
    core.connect("d", will=will())
    core.shard.revoke_principal(1, core.now_ns)
    assert records(core) == (0, 0)


@pytest.mark.parametrize("seconds", [31, 601])
def test_a_will_that_was_waiting_goes_with_its_moment_or_its_session(core: Core, seconds: int) -> None:
    core.keep("c", will=will(delay_s=30 if seconds == 31 else 1000)).drop()
    assert records(core) == (1, 1)
    core.wait(seconds)
    assert records(core)[0] == 0


def test_a_session_that_comes_to_be_kept_has_one_number(core: Core) -> None:
    core.shard.set_durability(0, 0)
    core.keep("c")
    core.shard.set_durability(0, 2)
    core.resume("c", will=will()).send(Disconnect())
    assert records(core) == (0, 1)


def test_what_a_will_becomes_is_written_with_its_end(core: Core) -> None:
    away = core.keep("away")
    away.subscribe("w", qos=1)
    away.drop()
    client = core.connect("c", will=will(qos=1))
    core.hold()
    client.drop()
    committed = core.store.waiting
    assert committed == 1
    after = core.crash()  # nothing of it
    after.wait(GRACE_S + 2)
    assert after.resume("away").payloads() == [b"gone"]


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_while_the_disk_takes_nothing_no_will_is_promised(core: Core, version: int, qos: int, kept: bool) -> None:
    """A crash would lose it: its client was told that it is there."""
    if kept:
        core.keep("c", version).drop()
    core.shard.set_refusing(True)
    client = core.connecting("c", version, will=will(qos=qos), clean_start=not kept)
    assert client.pick(Connack).reason_code == (ReasonCode.SERVER_UNAVAILABLE if version == 5 else 3)
    assert not client.is_open
    core.shard.set_refusing(False)
    assert core.connect("c", version, will=will(qos=qos)).is_open


def test_while_the_disk_takes_nothing_wills_of_qos_0_are_kept_in_memory_and_recorded_later(core: Core) -> None:
    core.shard.set_refusing(True)
    client = core.connect("c", will=will(qos=0))
    assert records(core) == (0, 0)
    core.shard.set_refusing(False)
    assert records(core) == (1, 1)
    client.send(Disconnect())
    assert records(core) == (0, 0)


@pytest.mark.parametrize("qos", [1, 2])
def test_no_disk_refuses_a_will_that_is_due(core: Core, qos: int) -> None:
    away = core.keep("away")
    away.subscribe("w", qos=qos)
    away.drop()
    client = core.connect("c", will=will(qos=qos))
    core.shard.set_refusing(True)
    client.drop()
    core.shard.set_refusing(False)
    (found,) = core.resume("away").publishes()
    assert (found.payload, found.qos) == (b"gone", qos)


# ---------------------------------------------------------------- after a crash


@VERSIONS
@pytest.mark.parametrize("kept", [False, True])
def test_who_is_lost_with_the_process_and_does_not_come_back_leaves_his_will_once(
    core: Core, version: int, kept: bool
) -> None:
    core.connect("c", version, will=will(qos=1), clean_start=not kept)
    after = core.crash(down_s=1000 if version == 4 else 1)
    watcher = watch(after)
    after.wait(GRACE_S - 1)
    watcher.expect()
    after.wait(5)
    assert watcher.payloads() == [b"gone"]
    assert records(after)[0] == 0
    again = after.crash()
    watcher = watch(again)
    again.wait(GRACE_S * 3)
    watcher.expect()


@VERSIONS
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_who_is_back_within_the_grace_leaves_none(core: Core, version: int, kept: bool, clean: bool) -> None:
    core.connect("c", version, will=will(), clean_start=not kept, properties=expiry(version, kept))
    after = core.crash()
    watcher = watch(after)
    after.wait(GRACE_S - 1)
    client = after.connecting("c", version, clean_start=clean, properties=expiry(version, kept))
    answer = client.pick(Connack)
    assert (answer.reason_code, answer.session_present) == (0, kept and not clean)
    after.wait(GRACE_S * 3)
    watcher.expect()
    assert records(after)[0] == 0


def expiry(version: int, kept: bool) -> dict[str, Any]:
    return {"session_expiry_interval": 600} if version == 5 and kept else {}


def test_a_delay_that_is_longer_than_the_grace_is_kept(core: Core) -> None:
    core.keep("c", will=will(delay_s=100))
    after = core.crash()
    watcher = watch(after)
    after.wait(99)
    watcher.expect()
    after.wait(3)
    assert watcher.payloads() == [b"gone"]


def test_a_delay_means_nothing_to_a_session_that_ended_with_its_connection(core: Core) -> None:
    core.connect("c", will=will(delay_s=100))
    after = core.crash()
    watcher = watch(after)
    after.wait(GRACE_S + 1)
    assert watcher.payloads() == [b"gone"]
    assert records(after) == (0, 0)


@pytest.mark.clause("v5:MQTT-3.1.3-9")
def test_no_will_outlasts_its_session(core: Core) -> None:
    core.keep("c", will=will(delay_s=1000), properties={"session_expiry_interval": 10})
    after = core.crash()
    watcher = watch(after)
    after.wait(9)
    watcher.expect()
    after.wait(2)
    assert watcher.payloads() == [b"gone"]
    assert records(after) == (0, 0)


def test_a_session_that_expired_while_nobody_was_there_publishes_its_will_at_once(core: Core) -> None:
    away = core.keep("away", properties={"session_expiry_interval": 5000})
    away.subscribe("w", qos=1)
    away.drop()
    core.keep("c", will=will(qos=1, delay_s=1000)).drop()
    after = core.crash(down_s=601)
    after.wait(0.1)
    assert records(after) == (0, 1)
    assert after.resume("away").payloads() == [b"gone"]


def test_who_had_gone_before_keeps_his_moment(core: Core) -> None:
    core.keep("c", will=will(delay_s=100)).drop()
    core.wait(20)
    after = core.crash(down_s=20)
    watcher = watch(after)
    after.wait(59)
    watcher.expect()
    after.wait(2)
    assert watcher.payloads() == [b"gone"]


@pytest.mark.parametrize(("delay_s", "left_s"), [(100, GRACE_S), (5, 5)])
def test_a_moment_that_passed_while_nobody_was_there_leaves_time_to_come_back(
    core: Core, delay_s: int, left_s: float
) -> None:
    for name in "c", "d":
        core.keep(name, will=will(name.encode(), delay_s=delay_s)).drop()
    after = core.crash(down_s=200)
    watcher = watch(after)
    after.wait(left_s - 1)
    watcher.expect()
    after.resume("d")
    after.wait(2)
    assert watcher.payloads() == [b"c"]


def test_a_crash_while_the_grace_lasts_begins_it_anew(core: Core) -> None:
    core.connect("c", will=will())
    core.keep("d", will=will(b"kept"))
    after = core.crash()
    after.wait(GRACE_S - 1)
    again = after.crash()
    watcher = watch(again)
    again.wait(GRACE_S + 2)
    assert sorted(watcher.payloads()) == [b"gone", b"kept"]
    assert records(again) == (0, 1)


def test_many_wills_are_spread_over_as_much_time_again(core: Core) -> None:
    count = 400
    for i in range(count):
        core.connect(f"c{i}", will=will(b"%d" % i))
    after = core.crash()
    watcher = watch(after)
    after.wait(GRACE_S + 0.2)
    assert 100 < len(watcher.payloads()) < 300
    after.wait(0.3)
    assert len(watcher.payloads()) > 100
    assert records(after) == (0, 0)


@pytest.mark.parametrize("retain", [False, True])
def test_everything_of_a_will_comes_back(core: Core, retain: bool) -> None:
    properties = {
        "content_type": "text/plain", "user_property": (("a", "b"), ("a", "c")), "response_topic": "r",
        "correlation_data": b"\x00", "payload_format_indicator": 1, "message_expiry_interval": 50,
    }  # fmt: skip
    core.connect("c", will=Will("w", b"x", 2, retain, properties=properties))
    after = core.crash(down_s=1000)
    watcher = watch(after)
    after.wait(GRACE_S + 1)
    (found,) = watcher.publishes()
    assert (found.topic_name, found.payload, found.qos) == ("w", b"x", 2)
    assert found.properties == properties  # its expiry begins when it is published
    assert len(after.store.load("retained")) == retain


def test_rights_are_looked_at_again_when_it_is_due(core: Core) -> None:
    core.connect("c", will=will())
    core.granted[0] = ((*core.granted[0][0][:5], ("x",), ("#",)), core.granted[0][1])
    after = core.crash()
    watcher = watch(after)
    after.wait(GRACE_S + 1)
    watcher.expect()
    assert after.drops(DropReason.NOT_AUTHORIZED) == 1
    assert records(after) == (0, 0)


@pytest.mark.parametrize("known", [False, True])
def test_who_has_no_rights_any_more_leaves_none(core: Core, known: bool) -> None:
    core.connect("c", will=will())
    core.keep("d", will=will())
    del core.granted[0]
    after = core.crash(known=lambda _: known)
    watcher = watch(after)
    after.wait(GRACE_S * 3)
    watcher.expect()
    assert records(after)[0] == 0


def test_an_authenticators_principal_was_judged_when_it_came(core: Core) -> None:
    client = core.open()
    client.send(Connect("c", user_name="own", will=will()))
    core.admit(client.handle, principal_id=OWN_PRINCIPALS + 5, synced=True)
    after = core.crash(known=lambda _: False)
    watcher = watch(after)
    after.wait(GRACE_S + 1)
    assert watcher.payloads() == [b"gone"]


# ---------------------------------------------------------------- a stop


@pytest.mark.parametrize("delay_s", [0, 100])
def test_a_stop_publishes_what_has_no_delay_and_leaves_the_rest_for_later(core: Core, delay_s: int) -> None:
    away = core.keep("away")
    away.subscribe("w", qos=1)
    away.drop()
    core.keep("c", will=will(qos=1, delay_s=delay_s))
    core.connect("d", will=will(b"not kept", 1, delay_s=delay_s))
    core.shard.fail_all(0x8B)
    core.run()
    after = core.crash(down_s=10)
    after.wait(80)
    reader = after.resume("away")
    assert reader.payloads() == ([b"gone", b"not kept"] if delay_s == 0 else [b"not kept"])
    after.wait(11)
    assert reader.payloads() == ([b"gone"] if delay_s else [])


def test_records_that_are_none_are_left_out_and_counted(core: Core) -> None:
    for name in "a", "b", "c":
        core.connect(name, will=will(name.encode()))
    table = core.store._tables["wills"]
    keys = sorted(table)
    table[keys[0]] = b""
    table[keys[1]] += b"x"
    after = core.crash()
    assert after.left_out == {"wills": 2}
    watcher = watch(after)
    after.wait(GRACE_S + 1)
    assert watcher.payloads() == [b"c"]
