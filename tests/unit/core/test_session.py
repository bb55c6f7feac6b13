"""Queue and inflight window of one session: rings that wrap, grow and are given back."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.reasons import DropReason
from tests.support.core import Core


def queued(maximum: int, inflight: int) -> Core:
    core = Core(queue_messages_maximum=maximum, outbound_inflight_maximum=inflight)
    core.grant()
    return core


@settings(max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.lists(
        st.one_of(st.tuples(st.just("offer"), st.integers(1, 20)), st.tuples(st.just("ack"), st.integers(1, 9))),
        max_size=30,
    ),
)
def test_queue_and_window_are_two_queues(maximum: int, inflight: int, steps: list[tuple[str, int]]) -> None:
    core = queued(maximum, inflight)
    client = core.connect("c")
    client.subscribe("t", "+", qos=1, identifier=9)
    waiting, out, dropped, number = deque[bytes](), deque[tuple[int, bytes]](), 0, 0
    for what, count in steps:
        if what == "offer":
            for _ in range(count):
                number += 1
                payload = b"%d" % number
                if len(out) < inflight:
                    expected = [payload]
                else:
                    expected = []
                    if len(waiting) < maximum:
                        waiting.append(payload)
                    else:
                        dropped += 1
                core.publish("t", payload, 1)
                arrived = [(one.packet_id, one.payload) for one in client.publishes()]
                assert [one for _, one in arrived] == expected
                out.extend(arrived)
        else:
            acked = [out.popleft()[0] for _ in range(min(count, len(out)))]
            client.acknowledge(*acked)
            arrived = [(one.packet_id, one.payload) for one in client.publishes()]
            for _, payload in arrived:
                assert waiting.popleft() == payload
            out.extend(arrived)
        described = client.described
        assert described["queued_messages"] == len(waiting)
        assert described["outbound_inflight"] == len(out) <= inflight
        assert len({packet_id for packet_id, _ in out}) == len(out)
        assert core.drops(DropReason.QUEUE_FULL) == dropped
    core.end()


def test_hundreds_of_sessions_are_found_again() -> None:
    core = queued(10, 10)
    clients = [core.connect(f"c{number}") for number in range(400)]
    assert core.shard.counters()["sessions"] == 400
    for number in (0, 63, 64, 255, 399):
        core.connect(f"c{number}")
        assert not clients[number].is_open
    assert core.shard.counters()["sessions"] == 400
    core.end()


@pytest.mark.parametrize("hole", [1, 8, 300])
def test_an_identifier_that_stays_out_is_stepped_over(hole: int) -> None:
    core = queued(1000, 600)
    client = core.connect("c")
    client.subscribe("t", qos=1)
    for _ in range(hole):
        core.shard.publish(1, b"t", b"", 1, core.now_ns)
    core.run()
    kept = client.publishes()[-1].packet_id
    seen = []
    for _ in range(70_000 // 50):
        for _ in range(50):
            core.shard.publish(1, b"t", b"", 1, core.now_ns)
        core.run()
        identifiers = [one.packet_id for one in client.publishes()]
        seen += identifiers
        client.acknowledge(*identifiers)
    assert len(seen) == 70_000
    assert kept not in seen
    core.end()
