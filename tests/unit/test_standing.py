"""When something was last seen: the core's moments in UTC."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.admin.clock import NS_PER_S
from broker.admin.standing import latest

WALL_NS = 1_762_338_600 * NS_PER_S
AGO = st.integers(0, 10**6 * NS_PER_S)


class Ticking:
    """Two clocks that go on together, by nanoseconds."""

    def __init__(self, passed_ns: int) -> None:
        self.passed_ns = passed_ns

    def wall_s(self) -> int:
        return self.wall_ns() // NS_PER_S

    def wall_ns(self) -> int:
        return WALL_NS + self.passed_ns

    def monotonic_ns(self) -> int:
        return 10**15 + self.passed_ns


@given(seen=AGO, first=AGO, second=AGO)
def test_a_moment_stays_the_same_whenever_one_asks(seen: int, first: int, second: int) -> None:
    asked = {latest(Ticking(seen + later), 10**15 + seen, 0) for later in (0, first, second)}
    assert asked == {(WALL_NS + seen) // NS_PER_S}


def test_what_is_on_record_stands_beside_a_clock_that_disagrees_by_a_second() -> None:
    at = WALL_NS // NS_PER_S
    assert [latest(Ticking(0), 10**15, at + off) for off in (-2, -1, 0, 1, 2)] == [at, at - 1, at, at + 1, at]
    assert (latest(Ticking(0), 0, at), latest(Ticking(0), 0, 0)) == (at, None)
