"""Rules of the token bucket, with invented time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.limits import CAPACITY, Buckets


@given(st.lists(st.floats(0, 30), min_size=1, max_size=2000))
def test_no_more_than_the_burst_and_the_rate_are_ever_allowed(pauses: list[float]) -> None:
    buckets, now, allowed = Buckets(), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += buckets.take("caller", now).allowed
    assert allowed <= CAPACITY + now * 1000 / 60 + 1


def test_a_thousand_requests_a_minute_are_always_allowed() -> None:
    buckets = Buckets()
    assert all(buckets.take("caller", number * 0.06).allowed for number in range(10_000))


def test_a_refusal_says_when_one_is_taken_again_and_that_is_true() -> None:
    buckets = Buckets()
    while buckets.take("caller", 5.0).allowed:
        pass
    refused = buckets.take("caller", 5.0)
    assert refused.retry_after_s == 1
    assert buckets.take("caller", 5.0 + refused.retry_after_s).allowed


def test_looking_takes_nothing() -> None:
    buckets = Buckets()
    buckets.take("caller", 0.0)
    assert [buckets.look("caller", 0.0).remaining for _ in range(3)] == [CAPACITY - 1] * 3
    assert buckets.look("stranger", 0.0).remaining == CAPACITY
    assert len(buckets) == 1


def test_the_number_of_callers_is_bounded_and_the_least_recent_goes() -> None:
    buckets = Buckets(maximum=3)
    for caller in "abcabd":
        buckets.take(caller, 0.0)
    assert len(buckets) == 3
    assert buckets.look("c", 0.0).remaining == CAPACITY
    assert buckets.look("a", 0.0).remaining == CAPACITY - 2
