"""The contract of ``ports.GrantTable``, on the native core."""

from __future__ import annotations

import pytest

from broker._core.packets import decode, encode
from broker._core.reactor import Reactor
from broker._core.shard import Shard
from broker.config import Capabilities
from broker.net.gateway import Gateway, core_limits
from broker.policy.credentials import credential
from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import Durability, Grant
from broker.reasons import ReasonCode
from broker.wire import Connect, Puback, Publish

SECRET = bytes(32)
USER_NAME, PASSWORD = "thermometer", b"secret"
CREDENTIAL = credential(SECRET, USER_NAME, PASSWORD)
GRANT = Grant(1, 7, USER_NAME, USER_NAME, DEVICE)


async def _at_once() -> None:
    """Nothing waits for a disk here."""


class Table:
    """A grant table, and clients that come to it."""

    def __init__(self) -> None:
        self.shard = Shard(core_limits(Capabilities()), secret=SECRET, hash_seed=1, now_ns=0)
        self.reactor = Reactor(self.shard, on_rare=list, on_batch=list, again=lambda _again: None)
        self.port = Gateway(self.reactor, _at_once)

    def connect(self) -> int:
        handle = self.shard.open_connection(0, 0)
        self.shard.feed(handle, encode(Connect("c", True, 60, None, USER_NAME, PASSWORD), 5), 0)
        return handle

    def admit(self, handle: int, grant: Grant) -> bool:
        policy = grant.policy
        return self.shard.admit(
            handle,
            grant.account_id,
            grant.principal_id,
            grant.principal,
            grant.device_id,
            policy.publish,
            policy.subscribe,
        )

    def is_in(self, handle: int) -> bool:
        return self.shard.is_open(handle) and self.shard.describe(handle)["client_id"] == "c"


def test_a_credential_in_the_table_lets_in_and_its_removal_cuts() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, GRANT)
    handle = table.connect()
    assert table.is_in(handle)
    table.port.remove_grant(CREDENTIAL)
    assert not table.shard.is_open(handle)


def test_the_same_grant_again_cuts_nobody_and_another_one_does() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, GRANT)
    handle = table.connect()
    table.port.put_grant(CREDENTIAL, GRANT)
    assert table.is_in(handle)
    table.port.put_grant(CREDENTIAL, Grant(1, 7, USER_NAME, USER_NAME, APPLICATION))
    assert not table.shard.is_open(handle)


def test_who_became_known_while_being_judged_is_cut_when_the_grant_ends() -> None:
    table = Table()
    handle = table.connect()
    assert not table.is_in(handle)
    table.port.put_grant(CREDENTIAL, GRANT)
    assert table.admit(handle, GRANT)
    assert table.is_in(handle)
    table.port.remove_grant(CREDENTIAL)
    assert not table.shard.is_open(handle)


@pytest.mark.parametrize(("topic_name", "allowed"), [("devices/a/presence", False), ("devices/a/presences", True)])
def test_nobody_but_the_broker_says_who_is_present(topic_name: str, allowed: bool) -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, Grant(1, 7, "back end", "", APPLICATION, Durability.MEMORY))
    handle = table.connect()
    table.shard.take_output(handle)
    table.shard.feed(handle, encode(Publish(topic_name, b"", 1, packet_id=1), 5), 0)
    answer = decode(table.shard.take_output(handle), 5, from_client=False)
    assert isinstance(answer, Puback)
    assert answer.reason_code == (ReasonCode.NO_MATCHING_SUBSCRIBERS if allowed else ReasonCode.NOT_AUTHORIZED)


def test_quota_that_is_added_leaves_what_was_counted_and_not_taken_yet() -> None:
    table = Table()
    table.port.put_grant(CREDENTIAL, Grant(1, 7, "back end", "", APPLICATION))
    table.port.set_quota(1, 10, 1000)
    handle = table.connect()
    packet = encode(Publish("t", b"12345"), 5)
    table.shard.feed(handle, packet * 3, 0)
    table.port.add_quota(1, 5, -100)
    assert table.shard.quota_left(1) == (10 - 3 + 5, 1000 - 3 * len(packet) - 100)
    assert table.port.take_usage() == [(1, 7, 3, 3 * len(packet), 0, 0)]
