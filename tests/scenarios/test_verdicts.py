"""What the core says that it would decide is what it decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policy.policies import APPLICATION, DEVICE
from broker.ports import GrantLimits, Policy
from broker.stories import Verdict
from broker.wire import Puback
from tests.support.core import Client, Core

POLICIES = {"device": DEVICE, "application": APPLICATION}
LEVEL = st.sampled_from(
    ["devices", "dev", "other", "+", "#", "telemetry", "commands", "presence", "", "$SYS", "$share", "ä"]
)
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join)


def granted(policy: Policy, device_id: str) -> tuple[Core, Client]:
    core = Core(topic_levels_maximum=4)
    core.grant("who", device_id=device_id, publish=policy.publish, subscribe=policy.subscribe)
    return core, core.connect("c", user_name="who")


def judge(core: Core, policy: Policy, device_id: str, topic: str, **more: object) -> tuple[Verdict, int | None]:
    verdict, place = core.shard.judge(
        1, 1, device_id, policy.publish, policy.subscribe, GrantLimits(), topic.encode(), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return Verdict(verdict), place


@pytest.mark.parametrize("kind", POLICIES)
@given(topic=TOPIC)
@settings(max_examples=60)
def test_a_publish_is_judged_as_it_is_treated(kind: str, topic: str) -> None:
    policy, device_id = POLICIES[kind], "dev" if kind == "device" else ""
    core, client = granted(policy, device_id)
    verdict, place = judge(core, policy, device_id, topic, publishes=True)
    client.publish(topic, qos=1)
    if verdict == Verdict.INVALID_TOPIC:
        assert not client.is_open
    else:
        code = client.pick(Puback).reason_code
        assert (verdict == Verdict.ALLOWED) == (code in (0, 0x10))
        assert (verdict == Verdict.FORBIDDEN) == (code == 0x87)
    assert place is None or verdict in (Verdict.ALLOWED, Verdict.FORBIDDEN)
    assert verdict != Verdict.ALLOWED or place is not None


@pytest.mark.parametrize("kind", POLICIES)
@given(topic=TOPIC)
@settings(max_examples=60)
def test_a_subscription_is_judged_as_it_is_treated(kind: str, topic: str) -> None:
    policy, device_id = POLICIES[kind], "dev" if kind == "device" else ""
    core, client = granted(policy, device_id)
    verdict, place = judge(core, policy, device_id, topic, publishes=False)
    (code,) = client.subscribe(topic)
    expected = {Verdict.ALLOWED: 0, Verdict.FORBIDDEN: 0x87, Verdict.INVALID_TOPIC: 0x8F}
    assert expected[verdict] == code
    assert (place is not None) == (verdict == Verdict.ALLOWED)


def test_the_place_is_that_of_the_pattern_that_decides() -> None:
    core, _ = granted(APPLICATION, "")
    assert judge(core, APPLICATION, "", "devices/x/presence", publishes=True) == (Verdict.FORBIDDEN, 0)
    assert judge(core, APPLICATION, "", "devices/x/telemetry", publishes=True) == (Verdict.ALLOWED, 1)
    assert judge(core, DEVICE, "dev", "devices/dev/status", publishes=True) == (Verdict.ALLOWED, 2)
    core.end()


def test_limits_are_judged_in_the_order_in_which_they_are_met() -> None:
    core = Core()
    number = core.grant("dev", device_id="dev", publish=("#",))

    def verdict(topic: str = "t", **more: object) -> Verdict:
        limits = GrantLimits(payload_maximum_bytes=10, retained_maximum=1)
        found, _ = core.shard.judge(
            1, number, "dev", ("#",), (), limits, topic.encode(), publishes=True, **more,  # type: ignore[arg-type]
        )  # fmt: skip
        return Verdict(found)

    assert verdict(payload_bytes=10) == Verdict.ALLOWED
    assert verdict(payload_bytes=11) == Verdict.PAYLOAD_TOO_LARGE
    core.shard.set_quota(1, 0, 100)
    assert verdict(payload_bytes=11) == Verdict.QUOTA_USED_UP
    assert verdict("a/+", payload_bytes=11) == Verdict.INVALID_TOPIC
    assert verdict("") == Verdict.INVALID_TOPIC
    core.shard.set_quota(1)
    core.shard.put_account(1, (0, 0, 0, 1, 0, 0, 0, 0, 0))  # one retained message
    core.publish_retained("kept", b"x")
    assert verdict(retain=True, payload_bytes=1) == Verdict.RETAINED_FULL
    assert verdict("kept", retain=True, payload_bytes=1) == Verdict.ALLOWED  # in its place
    core.end()


def test_whoever_is_not_known_is_judged_too() -> None:
    core = Core()
    found = core.shard.judge(
        77, 78, "nobody", DEVICE.publish, DEVICE.subscribe, (), b"devices/nobody/status", publishes=True
    )
    assert Verdict(found[0]) == Verdict.ALLOWED
    assert core.shard.counters()["principals"] == 0
