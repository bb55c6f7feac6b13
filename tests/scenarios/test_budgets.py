"""Budgets in bytes: of queues and of what is unread; per device, account and process. Each drop names whose it was."""

from __future__ import annotations

import pytest

from broker.ports import AccountLimits, GrantLimits
from broker.reasons import DropReason, ReasonCode
from broker.wire import Connack, Connect, Puback
from tests.support.core import Client, Core

KIB = 1024
KEPT = {"session_expiry_interval": 3600}
BODY = bytes(10 * KIB)


def away(core: Core, name: str, topic_filter: str = "t") -> None:
    """A session that queues."""
    client = core.connect("c", user_name=name, properties=KEPT)
    client.subscribe(topic_filter, qos=1)
    client.drop()


def figure(core: Core, name: str) -> int:
    found = core.shard.counters()[name]
    assert isinstance(found, int)
    return found


def deaf(core: Core, client_id: str, name: str, qos: int = 0) -> Client:
    """A subscriber that reads nothing any more."""
    client = core.connect(client_id, user_name=name)
    client.subscribe("t", qos=qos)
    client.reads = False
    return client


def test_a_devices_queues_share_its_budget(core: Core) -> None:
    core.grant("d", device_id="d", limits=GrantLimits(queue_maximum_bytes=32 * KIB))
    for client_id in ("c1", "c2"):
        client = core.connect(client_id, user_name="d", properties=KEPT)
        client.subscribe("t", qos=1)
        client.drop()
    for _ in range(4):
        core.publish("t", BODY, 1)
    assert core.all_drops() == {DropReason.DEVICE_BUDGET_FULL: 5}
    assert figure(core, "queued_bytes") <= 32 * KIB


def test_an_accounts_queues_share_its_budget_and_another_account_has_its_own(core: Core) -> None:
    for name in ("a", "b"):
        core.grant(name, account_id=3)
        away(core, name)
    core.grant("other", account_id=4)
    away(core, "other")
    core.shard.put_account(3, AccountLimits(queue_maximum_bytes=32 * KIB))
    for account_id in (3, 4):
        for _ in range(4):
            core.publish("t", BODY, 1, account_id=account_id)
    assert core.all_drops() == {DropReason.ACCOUNT_BUDGET_FULL: 5}


def test_all_queues_share_the_processs_budget() -> None:
    core = Core(queues_maximum_bytes=32 * KIB)
    for account_id, name in enumerate(("a", "b", "c"), 1):
        core.grant(name, account_id=account_id)
        away(core, name)
    for account_id in (1, 2, 3):
        core.publish("t", BODY, 1, account_id=account_id)
        core.publish("t", BODY, 1, account_id=account_id)
    assert core.all_drops() == {DropReason.BROKER_BUDGET_FULL: 3}
    core.connect("c", user_name="a", clean_start=True)
    assert core.publish("t", BODY, 1, account_id=3) == 1
    core.wait(4000)
    assert figure(core, "queued_bytes") == 0
    core.end()


@pytest.mark.parametrize("whose", ["account", "process"])
def test_memory_for_what_is_unread_ends_at_the_budget_and_comes_back(whose: str) -> None:
    budget = 256 * KIB
    core = Core(**({"outboxes_maximum_bytes": budget} if whose == "process" else {}))
    core.grant()
    if whose == "account":
        core.shard.put_account(1, AccountLimits(outbox_maximum_bytes=budget))
    clients = [deaf(core, f"c{number}", "user") for number in range(50)]
    for _ in range(20):
        core.publish("t", BODY)
    assert figure(core, "outbox_bytes") <= budget + 64 * KIB
    reason = DropReason.ACCOUNT_BUDGET_FULL if whose == "account" else DropReason.BROKER_BUDGET_FULL
    assert core.drops(reason) > 500
    assert core.drops(DropReason.OUTBOX_FULL) == 0
    for client in clients:
        client.reads = True
    core.run()
    assert figure(core, "outbox_bytes") == 0
    assert core.publish("t", b"as many as there are") == 50
    core.end()


def test_one_account_at_its_budget_takes_nothing_from_another(core: Core) -> None:
    core.grant("other", account_id=2)
    core.shard.put_account(1, AccountLimits(outbox_maximum_bytes=64 * KIB))
    for number in range(30):
        deaf(core, f"c{number}", "user")
    reader = core.connect("reader", user_name="other")
    reader.subscribe("t")
    for _ in range(10):
        core.publish("t", BODY)
        assert core.publish("t", BODY, account_id=2) == 1
    assert len(reader.payloads()) == 10
    assert core.drops(DropReason.ACCOUNT_BUDGET_FULL) > 0


def test_what_waits_for_a_budget_is_sent_when_others_have_read(core: Core) -> None:
    core.shard.put_account(1, AccountLimits(outbox_maximum_bytes=64 * KIB))
    clients = [deaf(core, f"c{number}", "user", qos=1) for number in range(30)]
    for _ in range(3):
        core.publish("t", BODY, 1)
    assert figure(core, "outbox_bytes") <= 128 * KIB
    for client in clients:
        client.reads = True
    arrived = [0] * len(clients)
    for _ in range(20):
        core.run()
        for at, client in enumerate(clients):
            got = client.publishes()
            arrived[at] += len(got)
            client.send(*(Puback(one.packet_id) for one in got))
    assert arrived == [3] * len(clients)
    assert core.all_drops() == {}


def test_acknowledgements_leave_whatever_the_budget(core: Core) -> None:
    core.shard.put_account(1, AccountLimits(outbox_maximum_bytes=16 * KIB))
    for number in range(10):
        deaf(core, f"c{number}", "user")
    client = core.connect("writer")
    for _ in range(20):
        packet_id = client.publish("t", BODY, 1)
        client.expect(Puback(packet_id))


# ---------------------------------------------------------------- strangers


def address(last: int, network: int = 1) -> bytes:
    return bytes(10) + b"\xff\xff\x0a\x00" + bytes([network, last])


def knock(core: Core, where: bytes) -> Client | None:
    handle = core.shard.open_connection(0, core.now_ns, address=where)
    if not handle:
        return None
    client = Client(core, handle, 5)
    core.clients.append(client)
    return client


def test_strangers_of_one_address_are_limited_and_others_are_not() -> None:
    core = Core(unauthenticated_connections_per_address_maximum=3)
    core.grant()
    strangers = [knock(core, address(1)) for _ in range(4)]
    assert [one is not None for one in strangers] == [True, True, True, False]
    other = knock(core, address(2))
    assert other is not None
    first = strangers[0]
    assert first is not None
    first.send(Connect("c", clean_start=True, user_name="user", password=b"pw"))
    assert first.pick(Connack).reason_code == 0
    assert knock(core, address(1)) is not None  # who is let in does not count any more
    assert knock(core, address(1)) is None
    second = strangers[1]
    assert second is not None
    second.drop()
    assert knock(core, address(1)) is not None
    core.wait(11)  # all have said nothing for too long
    assert [knock(core, address(1)) is not None for _ in range(4)] == [True, True, True, False]
    core.end()


def test_an_ipv6_network_counts_as_one_address() -> None:
    core = Core(unauthenticated_connections_per_address_maximum=1)
    network = b"\x20\x01\x0d\xb8" + bytes(4)
    assert knock(core, network + bytes(7) + b"\x01") is not None
    assert knock(core, network + bytes(7) + b"\x02") is None
    assert knock(core, b"\x20\x01\x0d\xb9" + bytes(12)) is not None
    core.end()


# ---------------------------------------------------------------- subscriptions and their filters

SUBSCRIPTION = 56  # bytes, beside its filter


def filters(core: Core) -> int:
    return figure(core, "filter_bytes")


def test_an_accounts_filters_share_its_budget_of_bytes_to_the_last_one(core: Core) -> None:
    core.shard.put_account(1, AccountLimits(filters_maximum_bytes=3 * (SUBSCRIPTION + 100)))
    names = [f"{number}".ljust(100, "x") for number in range(4)]
    client = core.connect("c")
    assert client.subscribe(*names, qos=1) == (1, 1, 1, ReasonCode.QUOTA_EXCEEDED)
    assert filters(core) == 3 * (SUBSCRIPTION + 100)
    assert client.subscribe(names[0], qos=2) == (2,)  # it is there already
    core.grant("other", account_id=2)
    assert core.connect("o", user_name="other").subscribe(names[3]) == (0,)
    client.unsubscribe(names[1])
    assert client.subscribe("short/+", "$share/g/" + names[3]) == (0, ReasonCode.QUOTA_EXCEEDED)
    client.drop()
    assert filters(core) == SUBSCRIPTION + 100  # the other account's


def test_all_filters_share_the_processs_budget() -> None:
    core = Core(filters_maximum_bytes=2 * (SUBSCRIPTION + 50))
    for account_id, name in enumerate(("a", "b", "c"), 1):
        core.grant(name, account_id=account_id)
    topic_filter = "x" * 50
    codes = [core.connect(name, user_name=name).subscribe(topic_filter) for name in ("a", "b", "c")]
    assert codes == [(0,), (0,), (ReasonCode.QUOTA_EXCEEDED,)]
    core.end()
    assert filters(core) == 0


# ---------------------------------------------------------------- accounts


def accounts(core: Core) -> int:
    bucket = core.shard.forget_accounts(0, 7)
    while bucket:
        bucket = core.shard.forget_accounts(bucket, 7)
    return figure(core, "accounts")


def test_accounts_that_only_a_judgement_named_go_with_all_that_is_in_them(core: Core) -> None:
    known = accounts(core)
    for account_id in range(1000, 1200):
        client = core.connecting("c", user_name=f"judged {account_id}")
        core.admit(client.handle, account_id=account_id, principal_id=account_id)
        client.subscribe("t", "+/#")
        client.publish("t", b"x")
        client.drop()
    assert core.shard.drops(77) == [0] * len(DropReason)
    assert core.shard.quota_left(77) == (None, None)
    assert figure(core, "accounts") == known + 200
    core.shard.take_usage()
    assert accounts(core) == known
    client = core.connecting("c", user_name="again")
    core.admit(client.handle, account_id=1000, principal_id=1000)
    assert client.subscribe("t") == (0,)


def test_an_account_stays_for_whoever_and_whatever_is_in_it(core: Core) -> None:
    known = accounts(core)
    core.shard.put_account(50, AccountLimits())  # the directory's
    core.shard.set_quota(51, 1, 1)
    kept = core.connecting("c", user_name="kept", properties=KEPT)
    core.admit(kept.handle, account_id=52, principal_id=52)
    kept.drop()  # its session is away
    author = core.connecting("c", user_name="author")
    core.admit(author.handle, account_id=53, principal_id=53)
    author.publish("t", b"x", retain=True)
    author.drop()
    reader = core.connecting("c", user_name="reader")
    core.admit(reader.handle, account_id=54, principal_id=54)
    core.shard.take_usage()
    assert accounts(core) == known + 5
    core.wait(4000)  # the session of 52 ends
    reader.drop()
    assert accounts(core) == known + 3
    core.shard.clear_retained(53, b"#")
    assert accounts(core) == known + 2
