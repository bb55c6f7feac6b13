"""One webhook at work, in invented time: back-off, the end of patience, and what becomes of what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.accounts.records import Webhook
from broker.accounts.webhooks import WebhookFigures
from broker.errors import Conflict
from broker.webhooks.batches import Batch, Event, Waiting
from broker.webhooks.pace import Pace
from broker.webhooks.runner import GATHERING_S, Runner, Surroundings
from broker.webhooks.sending import DeliveryFailed

HOUR_S = 3600
WEBHOOK = Webhook(1, "wh_1", "https://hooks.example.com/", "warnings", "", True, b"s" * 16, 1, 1)


@dataclass
class World:
    """A webhook whose endpoint answers by a list of outcomes, then takes everything; time passes while it sleeps."""

    outcomes: list[DeliveryFailed] = field(default_factory=list)
    refuse_pause: int = 0
    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)
    sent: list[Batch] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    figures: WebhookFigures = field(default_factory=WebhookFigures)

    def __post_init__(self) -> None:
        self.waiting = Waiting(100, 100_000, self.figures)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def deliver(self, _webhook: Webhook, batch: Batch) -> None:
        self.sent.append(batch)
        if self.outcomes:
            raise self.outcomes.pop(0)

    async def pause(self, _webhook: Webhook, reason: str) -> None:
        if self.refuse_pause:
            self.refuse_pause -= 1
            raise Conflict("it is being changed")
        self.paused.append(reason)
        raise asyncio.CancelledError  # as the service ends whoever is paused

    def run(self, until: Callable[[], Any]) -> None:
        async def body() -> None:
            pace = Pace(100, 100, lambda: self.now, self.sleep)
            around = Surroundings(
                self.none, self.deliver, self.pause, pace, lambda: int(self.now), self.sleep, lambda: 0.0, 24 * HOUR_S
            )
            runner = Runner(WEBHOOK, self.waiting, self.figures, around)
            runner.start()
            for _ in range(100_000):
                await asyncio.sleep(0)
                if until():
                    break
            tasks = runner.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert until()

        asyncio.run(body())

    def none(self, _account_id: int, _subscriptions: Sequence[Any]) -> Any:
        raise AssertionError("warnings need no subscription")

    @property
    def delays(self) -> list[float]:
        return [one for one in self.slept if one != GATHERING_S]

    def put(self, count: int = 1) -> None:
        for _ in range(count):
            self.waiting.put(Event("warnings", int(self.now), b"{}"))


def failures(count: int) -> list[DeliveryFailed]:
    return [DeliveryFailed("it answered 500") for _ in range(count)]


def test_what_fails_is_sent_again_after_ever_longer() -> None:
    world = World(failures(4))
    world.put()
    world.run(lambda: world.figures.delivered)
    assert world.delays == [1, 2, 4, 8]
    assert len({batch.delivery_id for batch in world.sent}) == 1
    assert (world.figures.failures, world.figures.failing_since, world.figures.next_attempt_at) == (0, 0, 0)
    assert world.figures.last_error == "it answered 500"


def test_an_endpoint_that_asks_for_more_time_gets_it() -> None:
    world = World([DeliveryFailed("it answered 429", retry_after_s=120)])
    world.put()
    world.run(lambda: world.figures.delivered)
    assert world.delays == [120]


def test_after_a_day_without_success_it_is_paused_with_the_last_reason() -> None:
    world = World(failures(10_000))
    world.put()
    start = world.now
    world.run(lambda: world.paused)
    assert world.paused == ["it answered 500"]
    assert 24 * HOUR_S <= world.now - start < 25 * HOUR_S
    assert max(world.delays) == 300
    assert world.figures.queued == 1


def test_one_long_silence_is_not_a_day_of_failures() -> None:
    world = World([DeliveryFailed("late", retry_after_s=HOUR_S) for _ in range(3)])
    world.outcomes[0].retry_after_s = 30 * HOUR_S
    world.put()
    world.run(lambda: world.figures.delivered)
    assert world.paused == []


def test_one_success_begins_the_day_anew() -> None:
    world = World(failures(200))
    world.put()
    world.run(lambda: world.figures.delivered)  # after more than half a day
    assert world.delays[-1] == 300
    world.outcomes = failures(200)
    world.put()
    world.run(lambda: world.figures.delivered == 2)
    assert world.paused == []


def test_who_says_gone_is_paused_at_once_or_when_that_is_possible() -> None:
    world = World([DeliveryFailed("it answered 410", gone=True) for _ in range(3)], refuse_pause=2)
    world.put()
    world.run(lambda: world.paused)
    assert len(world.sent) == 3
    assert world.delays == [1, 2]


def test_what_comes_meanwhile_waits_and_goes_together() -> None:
    world = World(failures(1))
    world.put()

    async def sleep(seconds: float) -> None:
        if seconds == 1:
            world.put(30)
        await World.sleep(world, seconds)

    world.sleep = sleep  # type: ignore[method-assign]
    world.run(lambda: world.figures.delivered == 31)
    assert [len(batch.events) for batch in world.sent] == [1, 1, 30]


def test_a_fault_of_ours_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.outcomes = [ZeroDivisionError("ours")]  # type: ignore[list-item]
    world.put()
    world.run(lambda: world.figures.delivered)
    assert "the broker failed" in world.figures.last_error
    assert "ZeroDivisionError" in caplog.text
