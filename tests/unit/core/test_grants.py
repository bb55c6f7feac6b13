"""Accounts, principals and credentials: tables that grow, replace and forget."""

from __future__ import annotations

import pytest

from broker.wire import Puback
from tests.support.core import Core, credential


def test_thousands_of_accounts_principals_and_credentials_keep_apart() -> None:
    core = Core()
    for number in range(3000):
        core.shard.put_grant(
            credential(f"u{number}", b"pw"), number // 3, number, f"p{number}", "", (f"{number}/#",), ("#",)
        )
    counted = core.shard.counters()
    assert (counted["grants"], counted["principals"]) == (3000, 3000)
    for number in (0, 1, 2, 64, 65, 1500, 2999):
        client = core.connect("same", user_name=f"u{number}")
        assert client.described["principal_id"] == number
        assert core.shard.may_publish(client.handle, b"%d/x" % number)
        assert not core.shard.may_publish(client.handle, b"%d/x" % (number + 1))
    core.end()
    for number in range(3000):
        core.shard.remove_grant(credential(f"u{number}", b"pw"))
    counted = core.shard.counters()
    assert (counted["grants"], counted["principals"]) == (0, 0)


def test_a_replaced_credential_has_the_new_rights_only() -> None:
    core = Core()
    for number in range(50):
        core.grant("user", publish=(f"t{number}",))
    assert core.shard.counters()["grants"] == 1
    client = core.connect("c")
    client.publish("t48", b"", 1)
    client.publish("t49", b"", 1)
    client.expect(Puback(1, 0x87), Puback(2, 0x10))
    core.end()


@pytest.mark.parametrize(
    ("pattern", "topic_filter", "covers"),
    [
        ("#", "#", True), ("#", "+", True), ("#", "a/#", True), ("#", "$SYS/#", False), ("+", "#", False),
        ("+", "+", True), ("+", "a", True), ("+", "$x", False), ("a/+", "a/#", False), ("a/#", "a", True),
        ("a/#", "a/#", True), ("a/#", "a/+/b", True), ("a/#", "+/b", False), ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/+/c", True), ("a/+/c", "a/+/+", False), ("a", "a/", False), ("a/", "a", False),
        ("$x/#", "$x/#", True),
        ("$x/#", "$x/+", True), ("d/{device_id}", "d/me", True), ("d/{device_id}", "d/+", False),
        ("d/{device_id}", "d/{device_id}", False), ("d/{device_id}x", "d/mex", False), ("{device_id}/#", "me", True),
    ],
)  # fmt: skip
def test_a_pattern_covers_what_it_matches_all_of(pattern: str, topic_filter: str, covers: bool) -> None:
    core = Core()
    core.grant(device_id="me", subscribe=(pattern,))
    client = core.connect("c")
    assert core.shard.may_subscribe(client.handle, topic_filter.encode()) == covers
    core.end()


def test_an_application_has_no_device_id_to_stand_in() -> None:
    core = Core()
    core.grant("app", publish=("d/{device_id}", "{device_id}/x"))
    client = core.connect("c", user_name="app")
    for name in (b"d/", b"d/app", b"d/{device_id}", b"/x"):
        assert not core.shard.may_publish(client.handle, name)
    core.end()


def test_no_rights_at_all() -> None:
    core = Core()
    core.grant(publish=(), subscribe=())
    client = core.connect("c")
    assert client.subscribe("a") == (0x87,)
    assert not core.shard.may_publish(client.handle, b"a")
    core.end()
