"""The timing wheel against a list of deadlines: nothing fires early, nothing late, nothing twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker._core.core_probe import ProbedWheel

TICK_NS = 1 << 24
YEAR_NS = 365 * 86_400 * 10**9
# From less than a tick to 200 years, with every level of the wheel in between.
SPANS = st.one_of(
    *(st.integers(0, 1 << bits) for bits in (10, 24, 25, 30, 36, 42, 48, 53, 55)), st.integers(0, 200 * YEAR_NS)
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 15), SPANS),
        st.tuples(st.just("past"), st.integers(0, 15), SPANS),
        st.tuples(st.just("cancel"), st.integers(0, 15), st.just(0)),
        st.tuples(st.just("jump"), st.just(0), SPANS),
        st.tuples(st.just("next"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=600)
@given(st.integers(0, 60 * YEAR_NS), STEPS)
def test_a_wheel_is_a_list_of_deadlines(start_ns: int, steps: list[tuple[str, int, int]]) -> None:
    now_ns, wheel, armed = start_ns, ProbedWheel(start_ns), dict[int, int]()
    for what, name, span in steps:
        if what == "set":
            armed[name] = min(now_ns + span, 2**63 - 2 * TICK_NS)
            wheel.set(name, armed[name])
        elif what == "past":
            armed[name] = max(0, now_ns - span)
            wheel.set(name, armed[name])
        elif what == "cancel":
            armed.pop(name, None)
            wheel.cancel(name)
        else:
            next_ns = wheel.next_ns()
            target = now_ns + span if what == "jump" else max(now_ns, next_ns or 0)
            now_ns = min(target, 2**63 - 4 * TICK_NS)
            fired = wheel.fire(now_ns)
            assert len(set(fired)) == len(fired)
            assert all(armed[one] <= now_ns for one in fired), "early"
            for one in fired:
                del armed[one]
            assert all(deadline > now_ns - TICK_NS for deadline in armed.values()), "late"
        assert wheel.armed == len(armed)
        next_ns = wheel.next_ns()
        assert (next_ns is None) == (not armed)
        if next_ns is not None:
            assert next_ns < max(min(armed.values()), now_ns) + TICK_NS, "would sleep too long"


@given(st.integers(0, YEAR_NS), st.lists(SPANS, min_size=1, max_size=20))
def test_sleeping_until_the_next_deadline_fires_everything_in_time(start_ns: int, spans: list[int]) -> None:
    wheel, due = ProbedWheel(start_ns), {name: start_ns + span for name, span in enumerate(spans)}
    for name, deadline in due.items():
        wheel.set(name, deadline)
    now_ns, wakeups = start_ns, 0
    while (next_ns := wheel.next_ns()) is not None:
        now_ns = max(now_ns, next_ns)
        wakeups += 1
        for name in wheel.fire(now_ns):
            assert due[name] <= now_ns < due.pop(name) + TICK_NS
        assert wakeups < 2000, "wakes up again and again"
    assert not due
