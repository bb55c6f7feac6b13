"""Whatever is published under whatever aliases, every receiver that keeps to the standard reads the right topics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import Core
from tests.unit.core.test_aliases import Resolver

TOPICS = st.sampled_from(["a", "a/b", "long/topic/1", "long/topic/2", "long/topic/3", "long/topic/4"])
STEPS = st.lists(
    st.tuples(
        TOPICS, st.integers(0, 3), st.integers(0, 1), st.sampled_from([b"", b"x" * 30, b"x" * 200]), st.booleans()
    ),
    max_size=30,
)


@given(
    steps=STEPS,
    maximum=st.integers(0, 4),
    packet_size=st.sampled_from([0, 60, 100]),
    split=st.booleans(),
    deliveries=st.sampled_from([1, 2, 1 << 40]),
)
def test_topics_survive_aliases_both_ways(
    steps: list[tuple[str, int, int, bytes, bool]], maximum: int, packet_size: int, split: bool, deliveries: int
) -> None:
    core = Core(split=split, deliveries=deliveries, topic_alias_maximum=3, outbox_soft_limit_bytes=200)
    core.grant()
    limits = {"maximum_packet_size": packet_size} if packet_size else {}
    reader = core.connect("reader", properties={"topic_alias_maximum": maximum, **limits})
    plain, source = core.connect("plain"), core.connect("source")
    for client in (reader, plain):
        client.subscribe("#", qos=1)
    resolver = Resolver(maximum)
    mine: dict[int, str] = {}
    for number, (topic, alias, qos, payload, reads) in enumerate(steps):
        body = number.to_bytes(2, "big") + payload
        properties = {"topic_alias": alias} if alias else {}
        source.publish("" if alias and mine.get(alias) == topic else topic, body, qos, properties=properties)
        if alias:
            mine[alias] = topic
        reader.reads = reads
        core.run()
    reader.reads = True
    core.run()
    sent = {number.to_bytes(2, "big"): step for number, step in enumerate(steps)}
    seen = [(one.payload[:2], one.topic_name) for one in plain.publishes()]
    assert all(sent[number][0] == topic for number, topic in seen)
    found = reader.publishes()
    assert all(sent[one.payload[:2]][0] == resolver.topic(one) for one in found)
    core.end()
