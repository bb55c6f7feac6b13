"""A client that gets one message several times, by its shared groups: each of them is on disk."""

from __future__ import annotations

from tests.support.core import Core


def test_a_client_that_is_a_member_of_two_groups_gets_a_message_thrice_over_a_crash_too() -> None:
    core = Core()
    core.grant(synced=True)
    client = core.keep("member")
    client.subscribe("t", "$share/a/t", "$share/b/#", qos=1)
    client.drop()
    other = core.keep("other")
    other.subscribe("t", qos=1)
    other.drop()
    core.connect("p").publish("t", b"x", 1)
    assert core.shard.journal()["deliveries"] == 4
    core = core.crash()
    assert core.shard.journal()["deliveries"] == 4
    assert core.resume("member").payloads() == [b"x"] * 3
    assert core.resume("other").payloads() == [b"x"]
    core.end()
