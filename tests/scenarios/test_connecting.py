"""CONNECT on a whole core: who is let in, what CONNACK announces, takeover, and answers that come late."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason, ReasonCode
from broker.wire import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    Subscription,
)
from tests.support.core import Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.mark.clause(
    "v5:MQTT-3.1.4-5", "v5:MQTT-3.2.0-1", "v5:MQTT-3.2.2-2", "v5:MQTT-3.1.3-5", "v311:MQTT-3.1.4-4",
    "v311:MQTT-3.2.0-1", "v311:MQTT-3.2.2-1", "v311:MQTT-3.1.3-5",
)  # fmt: skip
@VERSIONS
@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "NOPQRSTUVWXYZnopqrstuvw", "ABCDEFGHIJKLMxyz"])
def test_a_known_client_is_let_in(any_core: Core, version: int, client_id: str) -> None:
    client = any_core.connecting(client_id, version)
    (answer,) = client.received()
    assert isinstance(answer, Connack)
    assert (answer.session_present, answer.reason_code) == (False, 0)
    assert client.described["client_id"] == client_id
    assert any_core.asked == []


@pytest.mark.clause("v5:MQTT-3.2.2-9", "v5:MQTT-3.1.2-28", "v5:MQTT-4.12.0-6")
def test_connack_announces_what_is_enforced_and_nothing_else(core: Core) -> None:
    answer = core.connecting("c", properties={"receive_maximum": 7, "topic_alias_maximum": 3}).pick(Connack)
    assert answer.properties == {
        "receive_maximum": core.limits["server_receive_maximum"],
        "topic_alias_maximum": core.limits["topic_alias_maximum"],
        "maximum_packet_size": core.limits["maximum_packet_size_bytes"],
        "server_keep_alive": core.limits["keep_alive_maximum_s"],
        "user_property": (("durability", "memory"),),
    }


@pytest.mark.clause("v5:MQTT-3.1.2-4", "v5:MQTT-3.1.4-4", "v311:MQTT-3.1.2-6", "v311:MQTT-3.1.4-3")
@VERSIONS
def test_a_clean_start_begins_an_empty_session(core: Core, version: int) -> None:
    client, other = core.connect("c", version), core.connect("o")
    client.subscribe("t", qos=1)
    client.drop()
    client = core.connecting("c", version)
    assert not client.pick(Connack).session_present
    other.publish("t")
    client.expect()


@pytest.mark.clause("v5:MQTT-3.1.2-6", "v5:MQTT-3.2.2-3", "v311:MQTT-3.2.2-3")
@VERSIONS
def test_without_a_stored_session_a_new_one_is_made_and_said_so(core: Core, version: int) -> None:
    answer = core.connecting("c", version, clean_start=False).pick(Connack)
    assert (answer.session_present, answer.reason_code) == (False, 0)


@pytest.mark.parametrize(("asked", "told"), [(0, None), (100, None), (3600, None), (3601, 3600), (0xFFFF_FFFF, 3600)])
def test_a_session_that_is_kept_for_less_than_asked_is_announced(asked: int, told: int | None) -> None:
    core = Core(session_expiry_maximum_s=3600)
    core.grant()
    client = core.connecting("c", properties={"session_expiry_interval": asked})
    assert client.pick(Connack).properties.get("session_expiry_interval") == told
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.3-6", "v5:MQTT-3.1.3-7", "v5:MQTT-3.2.2-16", "v311:MQTT-3.1.3-6")
def test_an_empty_client_id_is_given_a_unique_one(core: Core) -> None:
    given = set()
    for _ in range(20):
        client = core.connecting("")
        name = client.pick(Connack).properties["assigned_client_identifier"]
        assert client.described["client_id"] == name
        given.add(name)
    old = core.connect("", 4)
    given.add(old.described["client_id"])
    assert len(given) == 21


def test_assigned_ids_differ_between_installations_and_cannot_be_guessed() -> None:
    core = Core()
    core.grant()
    first = core.connecting("").pick(Connack).properties["assigned_client_identifier"]
    second = core.connecting("").pick(Connack).properties["assigned_client_identifier"]
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 20
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.3-8", "v5:MQTT-3.2.2-7", "v311:MQTT-3.1.3-9", "v311:MQTT-3.2.2-5")
@VERSIONS
def test_a_client_id_over_the_limit_is_refused(version: int) -> None:
    core = Core(client_id_maximum_bytes=30)
    core.grant()
    core.connect("x" * 30, version)
    client = core.connecting("x" * 31, version)
    client.expect(Connack(reason_code=0x85 if version == 5 else 2))
    assert not client.is_open
    core.end()


@pytest.mark.clause("v5:MQTT-3.1.4-2", "v5:MQTT-3.1.4-6", "v311:MQTT-3.1.4-5")
@VERSIONS
def test_nothing_behind_a_refused_connect_is_acted_on(core: Core, version: int) -> None:
    watcher = core.connect("w")
    watcher.subscribe("#")
    client = core.connecting("c", version, user_name="stranger", run=False)
    client.send(Publish("t", b"x"))
    core.refuse(core.asked[0][0], ReasonCode.BAD_USER_NAME_OR_PASSWORD)
    client.expect(Connack(reason_code=0x86 if version == 5 else 5))
    assert not client.is_open
    watcher.expect()
    assert core.shard.counters()["sessions"] == 1


@VERSIONS
def test_what_follows_an_unknown_connect_waits_for_the_judgement(any_core: Core, version: int) -> None:
    client = any_core.connecting("c", version, user_name="stranger", run=False)
    client.send(Subscribe(1, (Subscription("t"),)), Publish("t", b"x"), Pingreq())
    client.expect()
    assert client.described["state"] == 1
    any_core.admit(any_core.asked[0][0])
    packets = client.received()
    assert [type(one).__name__ for one in packets] == ["Connack", "Suback", "Publish", "Pingresp"]


def test_the_authenticator_is_asked_what_the_client_said(core: Core) -> None:
    core.connecting("id", 4, user_name="who", password=b"\x00\xff")
    core.connecting("id5", 5, user_name=None, password=None)
    (_, first), (_, second) = core.asked
    assert (first.client_id, first.user_name, first.password, first.protocol_version) == ("id", "who", b"\0\xff", 4)
    assert (second.client_id, second.user_name, second.password, second.protocol_version) == ("id5", None, None, 5)
    assert (first.listener, first.address) == (0, "somewhere")


def test_a_known_name_with_another_password_is_not_known(core: Core) -> None:
    core.connecting("c", password=b"pw2")
    core.connecting("c", user_name="use", password=b"rpw")
    core.connecting("c", user_name="user", password=None)
    assert len(core.asked) == 3


@pytest.mark.clause("v5:MQTT-3.1.4-3", "v311:MQTT-3.1.4-2")
@VERSIONS
@pytest.mark.parametrize("old_version", [4, 5])
def test_the_same_client_id_again_takes_over(core: Core, version: int, old_version: int) -> None:
    first, other = core.connect("c", old_version), core.connect("other")
    first.subscribe("t")
    second = core.connect("c", version)
    first.closed_with(0x8E if old_version == 5 else None)
    assert second.is_open
    other.publish("t", b"x")
    second.expect()  # the old session ended with its connection
    assert core.shard.counters()["sessions"] == 2


@pytest.mark.clause("v5:MQTT-3.1.3-2", "v311:MQTT-3.1.3-2")
def test_sessions_belong_to_a_client_id_of_a_principal(core: Core) -> None:
    core.grant("neighbour")
    mine, theirs = core.connect("same"), core.connect("same", user_name="neighbour")
    third = core.connect("different")
    assert mine.is_open
    assert theirs.is_open
    assert third.is_open


def test_accounts_never_meet(core: Core) -> None:
    core.grant("stranger", account_id=2)
    mine, theirs = core.connect("same"), core.connect("same", user_name="stranger")
    for client in (mine, theirs):
        client.subscribe("#", "t", qos=1)
    mine.publish("t", b"m")
    theirs.publish("t", b"t")
    core.publish("t", b"p", account_id=2)
    assert mine.payloads() == [b"m"]
    assert theirs.payloads() == [b"t", b"p"]
    assert core.shard.drops(1) == core.shard.drops(2) == [0] * len(DropReason)


def test_a_number_of_a_principal_never_stands_for_two(core: Core) -> None:
    core.shard.put_grant(b"1" * 32, 1, 77, "d", "d", ("#",), ("#",))
    with pytest.raises(ValueError, match="77"):
        core.shard.put_grant(b"2" * 32, 2, 77, "d", "d", ("#",), ("#",))
    with pytest.raises(ValueError, match="77"):
        core.shard.put_grant(b"2" * 32, 1, 77, "e", "e", ("#",), ("#",))
    assert core.shard.remove_grant(b"1" * 32) == 0
    core.shard.put_grant(b"2" * 32, 2, 77, "d", "d", ("#",), ("#",))


def test_an_open_listener_lets_everybody_in_and_the_others_do_not(core: Core) -> None:
    core.open_listener(3)
    client = core.connect("c", user_name=None, password=None, listener=3)
    known = core.connect("c", user_name="user", listener=3)  # the same principal: open has one
    client.closed_with(0x8E)
    known.subscribe("x/#")
    core.publish("x/y", b"1", account_id=0)
    assert known.payloads() == [b"1"]
    core.connecting("c", user_name=None, password=None, listener=2)
    assert len(core.asked) == 1
    with pytest.raises(ValueError):
        core.shard.open_listener(64, 0, 0, "open")


@pytest.mark.clause("v5:MQTT-4.12.0-1")
def test_an_authentication_method_is_refused(core: Core) -> None:
    client = core.connecting("c", properties={"authentication_method": "nope"})
    client.expect(Connack(reason_code=0x8C))
    assert not client.is_open


@pytest.mark.clause("v5:MQTT-3.1.2-30")
def test_what_follows_an_authentication_method_is_not_acted_on(core: Core) -> None:
    watcher = core.connect("w")
    watcher.subscribe("#")
    client = core.connecting("c", properties={"authentication_method": "nope"}, run=False)
    client.send(Publish("t"))
    client.expect(Connack(reason_code=0x8C))
    watcher.expect()


@pytest.mark.clause("v5:MQTT-4.12.0-7")
def test_auth_without_a_method_closes(core: Core) -> None:
    client = core.connect("c")
    client.send(Auth(0x18, {"authentication_method": "m"}))
    client.closed_with(0x82)


@pytest.mark.clause("v5:MQTT-3.1.0-1", "v5:MQTT-3.14.0-1", "v311:MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "packet",
    [Pingreq(), Publish("t", b"x"), Subscribe(1, (Subscription("a"),)), Disconnect(), Auth(), Puback(1), b"\x00\x00",
     b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 20, b"\x16\x03\x01\x02\x00"],
)  # fmt: skip
def test_the_first_packet_is_connect_or_the_end(any_core: Core, packet: Packet | bytes) -> None:
    client = any_core.open()
    client.send(packet)
    assert not client.is_open
    client.expect()
    assert any_core.shard.counters()["sessions"] == 0


@pytest.mark.clause("v5:MQTT-3.1.0-2", "v5:MQTT-3.2.0-2", "v311:MQTT-3.1.0-2", "v311:MQTT-4.8.0-1")
@VERSIONS
def test_a_second_connect_closes_and_gets_no_connack(any_core: Core, version: int) -> None:
    client = any_core.connect("c", version)
    client.send(Connect("c", user_name="user", password=b"pw"))
    assert client.closed_with(0x82 if version == 5 else None) == []


@pytest.mark.clause("v311:MQTT-3.1.4-1")
def test_a_connect_of_311_that_breaks_the_rules_gets_no_answer(core: Core) -> None:
    client = core.open(4)
    client.send(b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x00\x00\x01a")  # the reserved flag
    assert client.closed_with(None) == []


def test_limits_of_connections_refuse_at_the_door() -> None:
    core = Core(connections_maximum=3, unauthenticated_connections_maximum=2)
    core.grant()
    core.open()
    core.open()
    assert core.shard.open_connection(0, core.now_ns) == 0
    core.clients[0].send(Connect("a", user_name="user", password=b"pw"))
    core.open()
    core.clients[1].send(Connect("b", user_name="user", password=b"pw"))
    assert core.shard.open_connection(0, core.now_ns) == 0
    assert core.shard.counters()["connections_refused"] == 2
    core.clients[0].drop()
    core.open()
    core.end()


def test_a_connect_larger_than_a_stranger_may_send_is_refused_by_its_header() -> None:
    core = Core(connect_packet_maximum_bytes=1024)
    core.grant()
    client = core.open()
    client.send(b"\x10\xff\xff\xff\x7f")
    assert not client.is_open
    client.expect()
    core.end()


# ---------------------------------------------------------------- late answers


@VERSIONS
@pytest.mark.parametrize("admitted", [True, False])
def test_a_judgement_of_a_connection_that_is_gone_changes_nothing(core: Core, version: int, admitted: bool) -> None:
    gone = core.connecting("c", version, user_name="stranger")
    gone.drop()
    successor = core.connecting("c", version, user_name="stranger")  # in the same slot
    before = core.figures()
    (first, _), _ = core.asked
    if admitted:
        core.admit(first)
    else:
        core.refuse(first)
    assert successor.described["state"] == 1
    assert core.figures() == before
    gone.expect()


def test_a_connection_is_judged_once(core: Core) -> None:
    client = core.connecting("c", user_name="stranger")
    handle = core.asked[0][0]
    core.admit(handle)
    core.admit(handle, principal_id=901)
    assert client.described["principal_id"] == 900
    client.pick(Connack)
    client.expect()
    core.refuse(handle)  # what an Authenticator should not do cuts, but breaks nothing
    client.closed_with(0x87)


def test_an_admitted_client_keeps_its_rights_without_a_grant_in_the_table(core: Core) -> None:
    client = core.connecting("c", user_name="stranger")
    core.admit(core.asked[0][0], publish=("yes",), subscribe=("yes",))
    client.pick(Connack)
    assert client.subscribe("yes", "no") == (0, 0x87)
    assert core.shard.counters()["grants"] == 1
    client.drop()
    assert core.shard.presence(900) == (0, 0)


def test_two_waiting_for_the_same_session_take_over_in_the_order_of_the_answers(core: Core) -> None:
    first = core.connecting("c", user_name="stranger")
    second = core.connecting("c", user_name="stranger")
    (one, _), (two, _) = core.asked
    core.admit(two)
    core.admit(one)
    second.closed_with(0x8E)
    assert first.is_open
    assert core.shard.counters()["sessions"] == 1


def test_the_answer_of_one_can_close_another_that_waits_for_its_answer(core: Core) -> None:
    first = core.connect("c")
    first.send(Subscribe(1, (Subscription("a"),)), run=False)
    second = core.connecting("c", run=False)
    core.run()
    first.closed_with(0x8E)
    assert second.pick(Connack).reason_code == 0


# ---------------------------------------------------------------- what does not fit


@pytest.mark.clause("v5:MQTT-3.2.2-19", "v5:MQTT-3.2.2-20", "v5:MQTT-3.14.0-1")
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 10, 17])
@pytest.mark.parametrize("user_name", ["user", "stranger"])
def test_no_connack_is_larger_than_the_client_takes(core: Core, size: int, user_name: str) -> None:
    client = core.connecting("c", properties={"maximum_packet_size": size}, user_name=user_name)
    if core.asked:
        core.refuse(core.asked[0][0])
    assert not client.is_open
    client.expect(*([Connack(reason_code=0x95 if user_name == "user" else 0x87)] if size >= 5 else []))


def test_a_connack_that_fits_exactly_is_sent() -> None:
    for size in range(5, 40):
        core = Core()
        core.grant()
        client = core.connecting("c", properties={"maximum_packet_size": size})
        if client.is_open:
            break
        client.expect(Connack(reason_code=0x95))
        core.end()
    else:
        raise AssertionError("never let in")
    client.pick(Connack)
    client.send(Pingreq())
    client.expect(Pingresp())
    assert client.subscribe("a", "b") == (0, 0)
    core.end()


@pytest.mark.parametrize("principal_id", [1, -1, 2**32])
def test_a_judgement_that_cannot_be_kept_refuses(core: Core, principal_id: int) -> None:
    client = core.connecting("c", user_name="stranger")
    with pytest.raises((ValueError, OverflowError)):
        core.admit(core.asked[0][0], account_id=9, principal_id=principal_id)
    core.run()
    client.expect(Connack(reason_code=0x83))
    assert not client.is_open
