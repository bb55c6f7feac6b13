"""Who reads figures below `$SYS`: accounts with such a subscription, and an application that is connected."""

from __future__ import annotations

from tests.support.core import Core


def readers(core: Core, at_once: int = 1) -> list[int]:
    found: list[int] = []
    bucket, more = 0, True
    while more:
        part, bucket = core.shard.system_readers(bucket, at_once)
        found += part
        more = bucket > 0
    return sorted(found)


def test_only_filters_below_system_count_and_each_until_it_ends(core: Core) -> None:
    core.grant(subscribe=("#", "$SYS/#", "$SYSTEM/#"))
    client = core.connect("c")
    client.subscribe("#", "+/x", "$SYSTEM/x", "SYS/x", "$share/g/x/$SYS/y")
    assert readers(core) == []
    for topic_filter in ("$SYS/#", "$SYS", "$SYS/+/x", "$SYS/a/b", "$share/g/$SYS/#"):
        client.subscribe(topic_filter)
        client.subscribe(topic_filter)  # again is the same one
        assert readers(core) == [1]
        client.unsubscribe(topic_filter)
        assert readers(core) == []


def test_a_reader_counts_while_somebody_is_connected_and_after_a_crash(core: Core) -> None:
    for account_id in (1, 2):
        core.grant(f"app{account_id}", account_id=account_id, subscribe=("$SYS/#",))
    core.grant("dev", account_id=1, device_id="dev")
    core.keep("device", user_name="dev")
    other = core.keep("c", user_name="app2")
    other.subscribe("$SYS/#")
    client = core.keep("c", user_name="app1")
    client.subscribe("$SYS/#", qos=1)
    assert readers(core) == readers(core, 1000) == [1, 2]
    client.drop()
    assert readers(core) == [2]
    core.keep("c", user_name="app1", present=True)
    assert readers(core) == [1, 2]
    after = core.crash()
    assert readers(after) == []
    after.keep("c", user_name="app1", present=after.store.load("sessions") != [])
    assert readers(after) == ([1] if after.store.load("sessions") else [])


def test_a_session_that_ends_takes_its_filters_along(core: Core) -> None:
    core.grant(subscribe=("$SYS/#",))
    for _ in range(3):
        client = core.connect("c")
        client.subscribe("$SYS/#", "$SYS/x", "$share/g/$SYS/#")
        client.drop()
    core.connect("d")
    assert readers(core) == []
