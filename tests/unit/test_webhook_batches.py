"""What waits for a webhook and how it is told: bounds, drops that are counted, and payloads of every kind."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts.webhooks import WebhookFigures
from broker.webhooks.batches import BATCH_BYTES, BATCH_EVENTS, Batch, Event, Waiting, told
from broker.webhooks.pace import Pace
from broker.webhooks.runner import DELAY_MAXIMUM_S, backoff_s


def event(payload: bytes = b"{}", topic: str = "devices/d/telemetry") -> Event:
    return Event("telemetry", 1_762_338_600, payload, topic)


def run_waiting(maximum: int, maximum_bytes: int, events: list[Event]) -> tuple[Waiting, WebhookFigures]:
    figures = WebhookFigures()
    waiting = Waiting(maximum, maximum_bytes, figures)
    for one in events:
        waiting.put(one)
    return waiting, figures


def test_the_oldest_go_for_new_ones_and_are_counted() -> None:
    waiting, figures = run_waiting(3, 10_000, [event(str(number).encode()) for number in range(8)])
    assert [one.payload for one in waiting.batch().events] == [b"5", b"6", b"7"]
    assert (figures.dropped, figures.queued) == ({"queue_full": 5}, 3)


def test_bytes_are_bounded_as_well() -> None:
    waiting, figures = run_waiting(1000, 5000, [event(bytes(1000)) for _ in range(20)])
    assert len(waiting.batch().events) == 4
    assert figures.dropped == {"queue_full": 16}


def test_what_is_too_large_is_counted_and_takes_nobody_s_place() -> None:
    waiting, figures = run_waiting(10, 1 << 20, [event(), event(bytes(65_536)), event()])
    assert len(waiting.batch().events) == 2
    assert figures.dropped == {"too_large": 1}


def test_a_batch_is_bounded_and_stays_itself_until_it_is_settled() -> None:
    waiting, figures = run_waiting(1000, 1 << 22, [event()] * 150)
    first = waiting.batch()
    waiting.put(event(b"later"))
    assert waiting.batch() is first
    assert len(first.events) == BATCH_EVENTS
    waiting.settled()
    second = waiting.batch()
    assert second.delivery_id != first.delivery_id
    assert (len(second.events), second.events[-1].payload) == (51, b"later")
    waiting.settled()
    assert figures.queued == 0
    large, _ = run_waiting(1000, 1 << 22, [event(bytes(50_000))] * 5)
    assert sum(one.size_bytes for one in large.batch().events) <= BATCH_BYTES


def test_nobody_is_woken_for_nothing() -> None:
    async def body() -> None:
        waiting, _ = run_waiting(10, 10_000, [event()])
        await asyncio.wait_for(waiting.wait(), 1)
        waiting.batch()
        waiting.settled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.wait(), 0.02)
        waiting.put(event())
        await asyncio.wait_for(waiting.wait(), 1)

    asyncio.run(body())


@given(st.lists(st.tuples(st.binary(max_size=40) | st.just(b'{"a": [1, null]}'), st.text(max_size=20)), min_size=1))
def test_any_payload_on_any_topic_is_told_whole(made: list[tuple[bytes, str]]) -> None:
    batch = Batch("dlv_1", tuple(event(payload, topic) for payload, topic in made))
    body = json.loads(told("wh_1", batch, 7))
    assert (body["webhook_id"], body["delivery_id"], body["dropped"]) == ("wh_1", "dlv_1", 7)
    for one, (payload, topic) in zip(body["events"], made, strict=True):
        assert one.get("topic", "") == topic
        if "payload_base64" in one:
            assert base64.b64decode(one["payload_base64"]) == payload
        else:
            assert one["payload"] == json.loads(payload)


@pytest.mark.parametrize("payload", [b"NaN", b"[Infinity]", b"[" * 60_000, b"\xff", b"", b"{} {}", b"'x'"])
def test_what_is_no_json_is_never_put_in_as_it_is(payload: bytes) -> None:
    (one,) = json.loads(told("wh_1", Batch("dlv_1", (event(payload),)), 0))["events"]
    assert base64.b64decode(one["payload_base64"]) == payload


def test_delays_double_up_to_five_minutes_and_chance_takes_a_fifth_at_most() -> None:
    assert [backoff_s(number, 0) for number in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff_s(1000, 0) == DELAY_MAXIMUM_S
    assert backoff_s(3, 1) == pytest.approx(3.2)


# ---------------------------------------------------------------- pace


class Time:
    """Invented time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic_s(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def test_an_account_reads_at_its_pace() -> None:
    async def body() -> None:
        time = Time()
        pace = Pace(10_000, 100, time.monotonic_s, time.sleep)
        for _ in range(200):
            await pace.take(1)
        assert time.now == pytest.approx(101.9, abs=0.15)

    asyncio.run(body())


@pytest.mark.parametrize("accounts", [2, 4, 7, 30])
def test_all_accounts_have_their_part_of_what_all_may(accounts: int) -> None:
    async def body() -> None:
        time = Time()
        pace = Pace(100, 50, time.monotonic_s, time.sleep)
        taken = dict.fromkeys(range(accounts), 0)

        async def read(account: int) -> None:
            while time.now < 110:
                await pace.take(account)
                taken[account] += 1

        await asyncio.gather(*map(read, taken))
        assert 600 < sum(taken.values()) <= 1000 + accounts
        assert min(taken.values()) > 0.5 * max(taken.values())

    asyncio.run(body())
