"""Moments are written as the calendar has them, and read back."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from broker.accounts.moments import MOMENT_MAXIMUM, moment_text, parse_moment


@given(st.integers(0, MOMENT_MAXIMUM - 1))
@example(0)
@example(86_399)
@example(86_400)
@example(951_782_400)  # a 29th of February
@example(MOMENT_MAXIMUM - 1)
def test_a_moment_is_written_as_the_calendar_has_it_and_read_back(seconds: int) -> None:
    text = moment_text(seconds)
    assert text == datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    assert parse_moment(text) == seconds
